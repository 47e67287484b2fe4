"""What the tests of the first service stand on: readiness, the gateway's address, units of buckets, counted gaps."""

from __future__ import annotations

from typing import Any

import pytest

from serinus.client.bucket import BUCKETS, bucket_of
from tests.cluster.event_log import Row, lost
from tests.cluster.first_service import not_ready, route_fault
from tests.cluster.gateway import address
from tests.cluster.kube import Kube
from tests.cluster.manifests import SALT
from tests.cluster.visits import AS_OF, Visit, bucket, of_every_unit, unit_of_bucket, without_bucket


class _Objects(Kube):
    """A cluster of given objects, by kind and name."""

    objects: dict[str, dict[str, dict[str, Any]]]

    def within(self, namespace: str) -> Kube:
        return self

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        return self.objects.get(kind, {}).get(name)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.objects[kind][name]

    def every(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        return [*self.objects.get(kind, {}).values()]


def _kube(**objects: dict[str, dict[str, Any]]) -> _Objects:
    found = _Objects("here")
    object.__setattr__(found, "objects", objects)
    return found


def _object(name: str, kind: str, status: str = "True") -> dict[str, Any]:
    told = {"type": kind, "status": status, "reason": "R", "message": "m", "observedGeneration": 2}
    return {"metadata": {"name": name, "generation": 2}, "status": {"conditions": [told]}}


def _route(**changes: Any) -> dict[str, Any]:
    conditions = [_object("", kind)["status"]["conditions"][0] | changes for kind in ("Accepted", "ResolvedRefs")]
    return {"metadata": {"name": "retail", "generation": 2}, "status": {"parents": [{"conditions": conditions}]}}


def _all_ready() -> dict[str, dict[str, Any]]:
    return {
        "jobs": {"training": _object("training", "Complete")},
        "inferenceservices": {"a": _object("a", "Ready")},
        "deployments": {"c": _object("c", "Available")},
        "gateways": {"g": _object("g", "Programmed")},
        "httproute": {"retail": _route()},
    }


def test_a_service_is_ready_when_all_of_it_is() -> None:
    assert not_ready(_kube(**_all_ready())) is None


@pytest.mark.parametrize(
    ("kind", "document", "told"),
    [
        ("jobs", {"t": _object("t", "Complete", "False")}, "jobs t: Complete is False"),
        ("jobs", {"t": _object("t", "Failed")}, "jobs t: no condition Complete yet"),
        ("inferenceservices", {"a": _object("a", "Ready", "False")}, "inferenceservices a: Ready is False: R m"),
        ("gateways", {"g": _object("g", "Accepted")}, "gateways g: no condition Programmed yet"),
        ("httproute", {"retail": _route(status="False")}, "httproute retail: Accepted is False"),
    ],
)
def test_what_is_not_ready_is_named(kind: str, document: dict[str, Any], told: str) -> None:
    assert told in (not_ready(_kube(**_all_ready() | {kind: document})) or "")


def test_a_route_that_the_gateway_has_not_seen_is_not_in_force() -> None:
    assert route_fault(None) == "the object is not there"
    assert route_fault({"metadata": {"generation": 1}}) == "no gateway has taken it"
    assert "has not seen it" in (route_fault(_route(observedGeneration=1)) or "")
    assert route_fault(_route()) is None


def _gateway(**status: Any) -> dict[str, Any]:
    found = _object("g", "Programmed") | {"spec": {"listeners": [{"port": 80}]}}
    found["status"] |= status
    return found


def test_a_gateways_address_is_its_own_the_nodes_or_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_ADDRESS", raising=False)
    where = [{"value": "10.96.3.4"}]
    service = {"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": 30080}]}}
    assert address(_kube(gateway={"g": _gateway()}), "g") is None
    plain = _kube(gateway={"g": _gateway(addresses=where)}, services={"e": service})
    assert address(plain, "g") == "10.96.3.4:80"
    service["spec"]["type"] = "NodePort"
    assert address(plain, "g") == "10.96.3.4:30080"
    monkeypatch.setenv("GATEWAY_ADDRESS", "localhost:8080")
    assert address(plain, "g") == "localhost:8080"


def test_every_bucket_has_a_unit_of_its_own() -> None:
    units = unit_of_bucket()
    assert sorted(units) == list(range(BUCKETS))
    assert all(bucket_of(SALT, unit) == number for number, unit in units.items())


def test_requests_follow_from_their_number() -> None:
    visits = [Visit("1", ("a", "b")), Visit("2", ("c",))]
    asked = of_every_unit(visits, "name")(1_007)
    assert asked.headers == bucket(7) == {"x-serinus-bucket": "007"}
    assert asked.instance["unit"] == unit_of_bucket()[7]
    assert asked.instance["request_id"] == "name-1007"
    plain = without_bucket(visits)(3)
    assert plain.instance == {"entity": "2", "items": ["c"], "as_of": AS_OF}
    assert not plain.headers
    tensors = {one.name: one.data for one in visits[0].v2("r").inputs}
    assert tensors == {"entity": ["1"], "unit": ["1"], "items": ["a", "b"], "as_of": [AS_OF]}


def test_what_is_lost_is_counted_by_writer() -> None:
    def row(writer: str, sequence: int) -> Row:
        return Row("r", "v", "ok", 0, writer, sequence)

    assert lost([row("a", 0), row("a", 1), row("b", 0), row("a", 1)]) == 0
    assert lost([row("a", 0), row("a", 4), row("b", 2)]) == 5
