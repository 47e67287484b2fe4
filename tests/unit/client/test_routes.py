"""Routing by table: every bucket, forced arms, copies that answer nobody, arms that are away, tables that change."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from serinus.client import BUCKETS, Client, RoutedClient, RouteFile, RouteTable, Unreachable, bucket_of

SALT = "00ff"
CANARY, MIRRORED = range(100, 350), range(700, 760)


def table(
    *,
    number: int = 1,
    canary: Sequence[int] = CANARY,
    mirrored: Sequence[int] = (),
    arms: Mapping[str, str] | None = None,
    **more: str,
) -> str:
    given = {"stable": "http://s", "canary": "http://c"} if arms is None else arms
    return json.dumps(
        {
            "number": number,
            "service": "toy",
            "salt": SALT,
            "rollout": "toy-v2",
            "arms": {arm: {"revision": arm, "endpoint": address} for arm, address in given.items()},
            "canary_buckets": list(canary),
            "mirrored_buckets": list(mirrored),
            **more,
        }
    )


def _units() -> dict[int, str]:
    """A unit of every bucket."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < BUCKETS:
        found.setdefault(bucket_of(SALT, f"u{number}"), f"u{number}")
        number += 1
    return found


UNITS = _units()


class Fake:
    """`Client` of one address; says what it was asked, or nothing when it is away."""

    def __init__(self, endpoint: str, net: Net) -> None:
        self.endpoint, self.net, self.closed = endpoint, net, False
        self.thread = threading.get_ident()

    def predict(self, entity: str, items: Sequence[str] = (), **asked: Any) -> dict[str, Any]:
        assert threading.get_ident() == self.thread, "one client a thread"
        self.net.asked.append((self.endpoint, entity, tuple(items), asked))
        fault = self.net.faults.get(self.endpoint)
        if fault is not None:
            raise fault
        return {"by": self.endpoint, "request_id": asked.get("request_id") or "made"}

    def close(self) -> None:
        self.closed = True


class Net:
    """All clients that were made."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, tuple[str, ...], dict[str, Any]]] = []
        self.faults: dict[str, BaseException] = {}
        self.clients: list[Fake] = []

    def connect(self, endpoint: str, of: RouteTable) -> Client:
        assert (of.service, of.salt) == ("toy", SALT)
        self.clients.append(Fake(endpoint, self))
        return self.clients[-1]  # type: ignore[return-value]

    def by(self, endpoint: str) -> list[str]:
        """Entities that an address was asked for."""
        return [entity for address, entity, _, _ in self.asked if address == endpoint]


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "route.json"


@pytest.fixture
def client(path: Path, net: Net) -> Iterator[RoutedClient]:
    made = RoutedClient(RouteFile(path), net.connect)
    yield made
    made.close()


def put(path: Path, text: str) -> None:
    """As the splitter does."""
    fresh = path.with_suffix(".tmp")
    fresh.write_text(text)
    fresh.replace(path)


def test_every_bucket_goes_to_its_arm(path: Path, net: Net, client: RoutedClient) -> None:
    put(path, table())
    for bucket, unit in UNITS.items():
        assert client.predict(unit)["by"] == ("http://c" if bucket in CANARY else "http://s")
    assert len(net.by("http://c")) == len(CANARY)
    assert len(net.asked) == BUCKETS  # no bucket was mirrored
    assert len(net.clients) == 2


def test_the_unit_decides_and_not_the_entity(path: Path, net: Net, client: RoutedClient) -> None:
    put(path, table())
    assert client.predict(UNITS[0], ["a", "b"], unit=UNITS[100], context={"x": 1.0})["by"] == "http://c"
    _, entity, items, asked = net.asked[0]
    assert (entity, items, asked["unit"], asked["context"]) == (UNITS[0], ("a", "b"), UNITS[100], {"x": 1.0})


@pytest.mark.parametrize(("arm", "by"), [("canary", "http://c"), ("stable", "http://s")])
def test_a_forced_arm_is_asked_whatever_the_bucket_and_never_mirrored(
    path: Path, net: Net, client: RoutedClient, arm: str, by: str
) -> None:
    put(path, table(mirrored=range(BUCKETS)))
    for bucket in (0, 100, 999):
        assert client.predict(UNITS[bucket], arm=arm)["by"] == by
    client.settle()
    assert [asked["arm"] for _, _, _, asked in net.asked] == [arm] * 3


def test_an_arm_that_is_not_there_is_the_stable_one(path: Path, client: RoutedClient) -> None:
    put(path, table(arms={"stable": "http://s"}))
    assert {client.predict(UNITS[bucket], arm=arm)["by"] for bucket in (0, 100) for arm in ("", "canary")} == {
        "http://s"
    }


def test_copies_go_out_for_mirrored_buckets_only_and_answer_nobody(path: Path, net: Net, client: RoutedClient) -> None:
    put(path, table(canary=(), mirrored=MIRRORED))
    answers = [
        client.predict(unit, ["a"], as_of="2011-10-03", request_id=f"r{bucket}") for bucket, unit in UNITS.items()
    ]
    client.settle()
    assert {one["by"] for one in answers} == {"http://s"}
    assert sorted(net.by("http://c")) == sorted(UNITS[bucket] for bucket in MIRRORED)
    copies = {asked["request_id"]: (entity, items, asked) for by, entity, items, asked in net.asked if by == "http://c"}
    for bucket in MIRRORED:
        entity, items, asked = copies[f"r{bucket}"]
        assert (entity, items, asked["as_of"]) == (UNITS[bucket], ("a",), "2011-10-03")


def test_a_copy_has_the_request_id_of_its_answer(path: Path, net: Net, client: RoutedClient) -> None:
    """Also when the caller gave none: the two answers are judged as a pair by it."""
    put(path, table(canary=(), mirrored=range(BUCKETS)))
    answer = client.predict(UNITS[5])
    client.settle()
    (_, _, _, asked), (address, _, _, copied) = net.asked
    assert address == "http://c"
    assert copied["request_id"] == answer["request_id"] == asked["request_id"]


def test_all_that_is_sent_of_a_request_has_the_stamp_of_the_route_that_it_began_with(
    path: Path, net: Net, client: RoutedClient
) -> None:
    """Its second try and its copy too, whatever the route is by then; without a stamp none is made up."""
    put(path, table(stamp="toy-v2.3"))
    net.faults["http://c"] = Unreachable("gone")
    client.predict(UNITS[100])
    put(path, table(canary=(), mirrored=range(BUCKETS), number=2, stamp="toy-v2.4"))
    client.predict(UNITS[100])
    put(path, table(number=3))
    client.settle()
    assert [asked["route"] for _, _, _, asked in net.asked] == ["toy-v2.3", "toy-v2.3", "toy-v2.4", "toy-v2.4"]
    net.faults.clear()
    client.predict(UNITS[0])
    assert "route" not in net.asked[-1][3]


def test_a_canary_that_is_away_costs_nobody_an_answer(path: Path, net: Net, client: RoutedClient) -> None:
    """The second try is the same request, so what the canary logged of it is not a request of its own."""
    put(path, table())
    net.faults["http://c"] = Unreachable("gone")
    assert client.predict(UNITS[100])["by"] == "http://s"
    first, second = (asked["request_id"] for _, _, _, asked in net.asked)
    assert first == second != ""


def test_a_stable_arm_that_is_away_is_told(path: Path, net: Net, client: RoutedClient) -> None:
    put(path, table())
    net.faults["http://s"] = Unreachable("gone")
    with pytest.raises(Unreachable):
        client.predict(UNITS[0])
    assert net.by("http://c") == []


@pytest.mark.parametrize("fault", [Unreachable("gone"), ValueError("no JSON"), KeyError("predictions")])
def test_a_copy_that_fails_disturbs_nobody(path: Path, net: Net, client: RoutedClient, fault: BaseException) -> None:
    """A broken candidate answers with anything; the application must neither fail nor hang."""
    put(path, table(canary=(), mirrored=range(BUCKETS)))
    net.faults["http://c"] = fault
    for bucket in range(3):
        assert client.predict(UNITS[bucket])["by"] == "http://s"
    client.settle()
    assert len(net.by("http://c")) == 3


def test_copies_that_do_not_fit_are_left_out_and_answers_go_on(path: Path, net: Net) -> None:
    put(path, table(canary=(), mirrored=range(BUCKETS)))
    gate = threading.Event()

    class Slow(Fake):
        """A canary that answers when the gate opens."""

        def predict(self, entity: str, items: Sequence[str] = (), **asked: Any) -> dict[str, Any]:
            if self.endpoint == "http://c":
                assert gate.wait(30)
            return super().predict(entity, items, **asked)

    def connect(endpoint: str, of: RouteTable) -> Client:
        return Slow(endpoint, net)  # type: ignore[return-value]

    client = RoutedClient(RouteFile(path), connect)
    for bucket in range(400):
        assert client.predict(UNITS[bucket])["by"] == "http://s"
    gate.set()
    client.close()
    assert 256 <= len(net.by("http://c")) <= 257


def test_closing_sends_what_is_left_and_closes_every_client(path: Path, net: Net) -> None:
    put(path, table(canary=(), mirrored=range(BUCKETS)))
    client = RoutedClient(RouteFile(path), net.connect)
    for bucket in range(20):
        client.predict(UNITS[bucket])
    client.close()
    assert len(net.by("http://c")) == 20
    assert all(one.closed for one in net.clients)


def test_a_new_table_is_met_by_the_next_request(path: Path, client: RoutedClient) -> None:
    unit = UNITS[600]
    put(path, table())
    assert client.predict(unit)["by"] == "http://s"
    put(path, table(number=2, canary=range(100, 700)))
    assert client.predict(unit)["by"] == "http://c"
    put(path, table(number=3, canary=(), arms={"stable": "http://n"}))
    assert client.predict(unit)["by"] == "http://n"


def test_a_table_is_read_again_only_when_it_was_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(path, table())
    parsed: list[str] = []
    parse = RouteTable.parse
    monkeypatch.setattr(RouteTable, "parse", lambda text: parsed.append(text) or parse(text))
    routes = RouteFile(path)
    for _ in range(5):
        routes.table()
    assert len(parsed) == 1
    put(path, table(number=2))
    assert routes.table().number == 2
    assert len(parsed) == 2


BAD = {
    "no JSON": "{",
    "half": table()[:200],
    "no object": "[]",
    "a text": '"x"',
    "no arms": '{"service": "toy", "salt": "", "number": 1, "canary_buckets": [], "mirrored_buckets": []}',
    "arms in a list": json.dumps(json.loads(table()) | {"arms": ["stable"]}),
    "no stable arm": table(arms={"canary": "http://c"}),
    "an arm without an address": json.dumps(json.loads(table()) | {"arms": {"stable": {}}}),
    "no number": json.dumps({key: value for key, value in json.loads(table()).items() if key != "number"}),
    "buckets that are none": json.dumps(json.loads(table()) | {"canary_buckets": ["x"]}),
    "no list of buckets": json.dumps(json.loads(table()) | {"mirrored_buckets": 7}),
}


@pytest.mark.parametrize("text", BAD.values(), ids=list(BAD))
def test_a_damaged_table_is_told(path: Path, client: RoutedClient, text: str) -> None:
    put(path, text)
    with pytest.raises(ValueError):
        client.predict(UNITS[0])
    put(path, table(number=2))
    assert client.predict(UNITS[0])["by"] == "http://s"


def test_no_table_is_told(client: RoutedClient) -> None:
    with pytest.raises(FileNotFoundError):
        client.predict(UNITS[0])
