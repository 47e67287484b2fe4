"""The collector: accepted means on disk, ids count once, every refusal has its reason, and no body breaks it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serinus.core.errors import Unavailable
from serinus.core.events import Event, Outcome, Stream
from serinus.evidence import collector as collector_module
from serinus.evidence.collector import CollectorSettings, make_app
from serinus.evidence.intake import REFUSED_SECONDS, Intake, OutcomeNames, Overloaded
from serinus.evidence.parquet_log import ParquetEventLog
from serinus.features.keys import IdKinds

NOW = 1_700_000_000.0
PATH = "/v1/outcomes"


class Log(ParquetEventLog):
    """A log that can refuse, and can be held up."""

    refuses = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate = threading.Event()
        self.gate.set()
        self.appends: list[int] = []

    def append(self, stream: Stream, events: Sequence[Event]) -> None:
        self.gate.wait(10)
        if self.refuses:
            raise Unavailable("the disk is full", hint="free some")
        self.appends.append(len(events))
        super().append(stream, events)

    def rows(self) -> list[dict[str, Any]]:
        return [row for one in self.segments(Stream.OUTCOMES) for row in self.read(one).to_pylist()]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def _client(log: Log, **changes: Any) -> TestClient:
    return TestClient(make_app(log, CollectorSettings(now=lambda: NOW, **changes)), raise_server_exceptions=False)


@pytest.fixture
def http(log: Log) -> Iterator[TestClient]:
    with _client(log) as client:
        yield client


def one(identifier: str = "o1", **changes: Any) -> dict[str, Any]:
    return {"id": identifier, "name": "bought", "request_id": "r1", "as_of": "2023-11-14T22:13:20"} | changes


def test_accepted_outcomes_are_on_disk_as_they_were_sent(http: TestClient, log: Log) -> None:
    sent = [one("o1", item="a", value=2.5, unit="u"), one("o2", as_of=NOW + 0.25)]
    answer = http.post(PATH, json={"outcomes": sent})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 2, "duplicates": 0})
    base = {"name": "bought", "request_id": "r1", "at": NOW}
    assert log.rows() == [
        {"id": "o1", "unit": "u", "item": "a", "value": 2.5, "as_of": NOW, **base},
        {"id": "o2", "unit": "", "item": "", "value": 0.0, "as_of": NOW + 0.25, **base},
    ]


def test_an_id_counts_once_within_a_batch_and_over_batches(http: TestClient, log: Log) -> None:
    assert http.post(PATH, json={"outcomes": [one(), one()]}).json() == {"accepted": 1, "duplicates": 1}
    assert http.post(PATH, json={"outcomes": [one(), one("o2")]}).json() == {"accepted": 1, "duplicates": 1}
    assert [row["id"] for row in log.rows()] == ["o1", "o2"]


def test_after_a_restart_an_id_is_written_again_and_folds_when_read(log: Log) -> None:
    for _ in range(2):
        with _client(log) as http:
            assert http.post(PATH, json={"outcomes": [one()]}).status_code == 200
    assert {row["id"] for row in log.rows()} == {"o1"}


def test_ids_are_remembered_up_to_a_number(log: Log) -> None:
    async def run() -> list[int]:
        intake = Intake(log, remembered=2)
        rows = [Outcome(f"o{i}", "bought", "r", "", "", 1.0, NOW, NOW) for i in range(3)]
        return [(await intake.take([row])).accepted for row in (*rows, rows[2], rows[0])]

    assert asyncio.run(run()) == [1, 1, 1, 0, 1]


def test_in_a_replay_an_outcome_arrives_when_it_happened(log: Log) -> None:
    with _client(log, accept_event_time=True) as http:
        http.post(PATH, json={"outcomes": [one(as_of="2011-10-03T10:00:00+02:00")]})
    assert log.rows()[0]["at"] == log.rows()[0]["as_of"] == 1_317_628_800.0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "outcomes"),
        ({"outcomes": []}, "outcomes"),
        ({"outcomes": [one(str(i)) for i in range(1001)]}, "outcomes"),
        ({"outcomes": [one(), one("", name="x")]}, "outcomes[1].id"),
        ({"outcomes": [one(id="a\u0000b")]}, "outcomes[0].id"),
        ({"outcomes": [one(as_of="soon")]}, "outcomes[0].as_of"),
        ({"outcomes": [one(as_of="9999-12-31T23:59:59-10:00")]}, "outcomes[0]"),
        ({"outcomes": [one(value="1e999")]}, "outcomes[0].value"),
        ({"outcomes": [one(value="NaN")]}, "outcomes[0].value"),
        ({"outcomes": [one(value=1e300)]}, "outcomes[0].value"),
        ({"outcomes": [one(value=-1e16)]}, "outcomes[0].value"),
        ({"outcomes": [one(request_id=None)]}, "outcomes[0]"),
        ({"outcomes": [one(extra=1)]}, "outcomes[0].extra"),
        ({"outcomes": [one()], "extra": 1}, "extra"),
    ],
)
def test_what_is_not_valid_is_refused_by_field_and_leaves_nothing(
    http: TestClient, log: Log, body: Any, field: str
) -> None:
    answer = http.post(PATH, json=body)
    assert answer.status_code == 400
    assert [one["field"] for one in answer.json()["fields"]] == [field]  # told once
    assert log.rows() == []


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_value_that_is_no_number_is_refused_in_every_spelling(http: TestClient, log: Log, literal: str) -> None:
    body = '{"outcomes": [{"id": "o", "name": "bought", "request_id": "r", "as_of": 1, "value": ' + literal + "}]}"
    answer = http.post(PATH, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, log.rows()) == (400, [])
    assert [one["field"] for one in answer.json()["fields"]] == ["outcomes[0].value"]


def test_of_one_id_the_first_value_is_kept_within_a_batch_as_over_batches(http: TestClient, log: Log) -> None:
    batches = [[one(value=1.0), one("o2", value=5.0), one(value=2.0), one(value=3.0)], [one(value=4.0)]]
    answers = [http.post(PATH, json={"outcomes": batch}).json() for batch in batches]
    assert answers == [{"accepted": 2, "duplicates": 2}, {"accepted": 0, "duplicates": 1}]
    assert [(row["id"], row["value"]) for row in log.rows()] == [("o1", 1.0), ("o2", 5.0)]


OF_THE_CARD = OutcomeNames("bought", ("returned",))


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"name": "bougth"}, "outcomes[1].name", "the card knows bought, returned, not bougth"),
        ({"name": "Bought"}, "outcomes[1].name", "the card knows bought, returned"),
        ({"value": -0.01}, "outcomes[1].value", "its value cannot be below 0"),
    ],
)
def test_what_the_card_does_not_know_is_refused_and_listed_with_what_it_knows(
    log: Log, changes: dict[str, Any], field: str, said: str
) -> None:
    with _client(log, names=OF_THE_CARD) as http:
        answer = http.post(PATH, json={"outcomes": [one(), one("o2", **changes)]})
        assert answer.status_code == 400
        (fault,) = answer.json()["fields"]
        assert fault["field"] == field
        assert said in fault["problem"]
        assert log.rows() == []


def test_other_outcomes_may_take_something_back(log: Log) -> None:
    """A refund."""
    with _client(log, names=OF_THE_CARD) as http:
        sent = [one(), one("o2", value=0.0), one("o3", name="returned", value=-9.5)]
        assert http.post(PATH, json={"outcomes": sent}).json() == {"accepted": 3, "duplicates": 0}


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused(http: TestClient, body: bytes) -> None:
    assert http.post(PATH, content=body, headers={"content-type": "application/json"}).status_code == 400


def test_content_types_and_sizes(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    body = json.dumps({"outcomes": [one()]})
    kinds = {
        "application/json; charset=utf-8": 200,
        "application/json; charset=UTF8": 200,
        "text/plain": 415,
        "application/json; charset=latin-1": 415,
    }
    for kind, status in kinds.items():
        assert http.post(PATH, content=body, headers={"content-type": kind}).status_code == status
    monkeypatch.setattr(collector_module, "MOST_BYTES", len(body) - 1)
    assert http.post(PATH, content=body).status_code == 413
    assert http.post(PATH, content=iter([body[:5].encode(), body[5:].encode()])).status_code == 413


def test_a_full_disk_is_a_503_and_nothing_counts_as_seen(http: TestClient, log: Log) -> None:
    log.refuses = True
    answer = http.post(PATH, json={"outcomes": [one()]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"error": "the disk is full", "hint": "free some"}
    assert http.get("/readyz").status_code == 503
    assert http.get("/healthz").status_code == 200
    log.refuses = False
    assert http.post(PATH, json={"outcomes": [one()]}).json()["accepted"] == 1
    assert http.get("/readyz").status_code == 200


def test_after_a_refusal_callers_come_again_also_when_nobody_dared(log: Log) -> None:
    """Else a collector that is taken out of service while it is not ready would stay out for good."""
    now = [0.0]

    async def run() -> list[bool]:
        intake = Intake(log, clock=lambda: now[0])
        log.refuses = True
        with pytest.raises(Unavailable):
            await intake.take([Outcome("o", "bought", "r", "", "", 1.0, NOW, NOW)])
        found = [intake.healthy]
        now[0] = REFUSED_SECONDS + 1
        return [*found, intake.healthy]

    assert asyncio.run(run()) == [False, True]


def test_waiting_callers_share_one_write_and_too_many_are_told(log: Log) -> None:
    async def run() -> tuple[int, list[int]]:
        intake = Intake(log, most_waiting=12)
        log.gate.clear()
        rows = [Outcome(f"o{i}", "bought", "r", "", "", 1.0, NOW, NOW) for i in range(13)]
        first = asyncio.ensure_future(intake.take(rows[:2]))
        await asyncio.sleep(0.05)
        others = [asyncio.ensure_future(intake.take([row])) for row in rows[2:12]]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded):
            await intake.take(rows[12:])
        log.gate.set()
        done = await asyncio.gather(first, *others)
        return sum(one.accepted for one in done), log.appends

    accepted, appends = asyncio.run(run())
    assert accepted == 12
    assert appends == [2, 10]


def test_backpressure_is_a_503(log: Log) -> None:
    with _client(log, most_waiting=1) as http:
        assert http.post(PATH, json={"outcomes": [one("a"), one("b")]}).status_code == 503
        assert http.post(PATH, json={"outcomes": [one("a")]}).status_code == 200


def test_a_bug_is_a_plain_500(http: TestClient, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(log, "append", broken)
    answer = http.post(PATH, json={"outcomes": [one()]})
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    monkeypatch.undo()
    assert http.post(PATH, json={"outcomes": [one()]}).status_code == 200


def test_metrics_count_rows_by_result(http: TestClient, log: Log) -> None:
    http.post(PATH, json={"outcomes": [one(), one(), one("o2")]})
    http.post(PATH, json={"outcomes": []})
    text = http.get("/metrics").text
    for line in ('serinus_outcomes_total{result="accepted"} 2.0', 'serinus_outcomes_total{result="duplicate"} 1.0',
                 'serinus_outcomes_total{result="refused"} 1.0', 'serinus_outcome_batches_total{status="200"} 1.0',
                 "serinus_outcomes_waiting 0.0", "serinus_log_torn_files 0.0"):  # fmt: skip
        assert line in text


_TEXT = st.text(max_size=5) | st.just("x" * 400)
_ANY = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT
_OUTCOME = st.fixed_dictionaries(
    {},
    optional={
        "id": _ANY | st.just("o"), "name": _ANY | st.just("bought"), "request_id": _ANY | st.just("r"),
        "unit": _ANY, "item": _ANY, "value": _ANY | st.just(1.0), "as_of": _ANY | st.just("2011-10-03"), "zzz": _ANY,
    },
)  # fmt: skip
_BODY = st.fixed_dictionaries({}, optional={"outcomes": st.lists(_OUTCOME | _ANY, max_size=4) | _ANY, "y": _ANY}) | _ANY


@settings(max_examples=600, suppress_health_check=list(HealthCheck))
@given(body=_BODY)
def test_no_body_breaks_the_collector(http: TestClient, body: Any) -> None:
    import json

    answer = http.post(PATH, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400), answer.text
    assert "Traceback" not in answer.text


def test_the_openapi_describes_the_body(http: TestClient) -> None:
    found = http.get("/openapi.json").json()["paths"][PATH]["post"]
    schema = found["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]["outcomes"]["items"]["required"]) == {"id", "name", "as_of"}
    assert {"200", "400", "413", "415", "503"} <= set(found["responses"])


def test_outcomes_of_a_replays_passes_are_those_of_its_units(log: Log) -> None:
    kinds = IdKinds(unit="INT64")
    for event_time, statuses in ((True, [200, 200, 400]), (False, [200, 400, 400])):
        with _client(log, accept_event_time=event_time, kinds=kinds) as http:
            bodies = [{"outcomes": [one(unit=unit)]} for unit in ("12347", "12347#2", "012347#2")]
            assert [http.post(PATH, json=body).status_code for body in bodies] == statuses


@pytest.mark.parametrize("value", [True, "1", "1e5", [1]])
def test_text_and_flags_are_no_value(http: TestClient, log: Log, value: Any) -> None:
    refused = http.post("/v1/outcomes", json={"outcomes": [one(value=value)]})
    assert refused.status_code == 400
    assert [told["field"] for told in refused.json()["fields"]] == ["outcomes[0].value"]
    assert http.post("/v1/outcomes", json={"outcomes": [one(value=2)]}).status_code == 200


def test_a_path_or_method_that_is_not_there_is_refused_in_the_form_of_all_faults(http: TestClient) -> None:
    asked = ("GET", "/v1/outcomes", 405), ("POST", "/v1/outcomes/", 404), ("GET", "/nope", 404)
    for method, path, status in asked:
        refused = http.request(method, path, follow_redirects=False)
        assert (refused.status_code, list(refused.json())) == (status, ["error"])
