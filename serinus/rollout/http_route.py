"""The route of a service as an HTTPRoute of the Gateway API, over the `-predictor` Services of its revisions (D2).

Invariant: a function of the route alone. A forced arm goes before a bucket, a listed bucket before any other, any
bucket before none; so every request falls under one rule, and a bucket under that of its arm. Every route has the same
rules in the same places, even if two say the same: Envoy Gateway names a cluster by the place of its rule, and removes
that of a rule which is gone before its routes have left it. A request in between would fail (503, cluster_not_found).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serinus.client.bucket import ARM_HEADER, HEADER
from serinus.core.assignment import BUCKETS, MOST_LISTED, mirrored_buckets, regex_of, smaller_arm
from serinus.core.rollout.route import Route, RouteMode
from serinus.core.words import Arm

API_VERSION, KIND = "gateway.networking.k8s.io/v1", "HTTPRoute"
ANY_BUCKET = "^(?:[0-9]{3})$"
SERVICE_SUFFIX = "-predictor"
GRPC_PATH = "/inference.GRPCInferenceService"
# KServe gives the first port of a container the Service's port 80, and the others their own numbers.
REST_PORT, GRPC_PORT = 80, 8081

Headers = tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Parent:
    """The Gateway that a route is attached to; left empty: the route's own namespace, and every listener."""

    name: str
    namespace: str = ""
    section: str = ""

    def reference(self) -> dict[str, str]:
        """As `parentRefs` takes it."""
        named = {"name": self.name, "namespace": self.namespace, "sectionName": self.section}
        return {key: value for key, value in named.items() if value}


@dataclass(frozen=True)
class _Answer:
    """Who answers: revisions with weights in per cent; `mirror` gets a copy and answers nobody."""

    weights: Mapping[str, int]
    mirror: str = ""

    def rule(self, name: str, path: str, port: int, headers: Headers) -> dict[str, Any]:
        match: dict[str, Any] = {"path": {"type": "PathPrefix", "value": path}}
        match |= {"headers": [dict(one) for one in headers]} if headers else {}
        rule: dict[str, Any] = {"name": name, "matches": [match]}
        if self.mirror:
            copied = {"type": "RequestMirror", "requestMirror": {"backendRef": _backend(self.mirror, port)}}
            rule["filters"] = [copied]
        backends = [_backend(revision, port) | {"weight": weight} for revision, weight in self.weights.items()]
        return rule | {"backendRefs": backends}


def http_route(route: Route, parent: Parent, hostnames: tuple[str, ...] = ()) -> dict[str, Any]:
    """The document, named after the service and without a namespace; 5 rules a path, of one match each.

    REST is every path but that of KServe's gRPC service, which is the longer prefix and so comes first.
    """
    spec: dict[str, Any] = {"parentRefs": [parent.reference()]}
    spec |= {"hostnames": list(hostnames)} if hostnames else {}
    spec["rules"] = [
        answer.rule(f"{protocol}-{name}", path, port, headers)
        for protocol, path, port in (("grpc", GRPC_PATH, GRPC_PORT), ("rest", "/", REST_PORT))
        for name, headers, answer in _rules(route)
    ]
    metadata = {
        "name": route.service.name,
        "labels": {"app.kubernetes.io/managed-by": "serinus", "serinus.dev/service": route.service.name},
        "annotations": {"serinus.dev/rollout": route.rollout, "serinus.dev/route": str(route.number)},
    }
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


def _rules(route: Route) -> Iterator[tuple[str, Headers, _Answer]]:
    """In the order that decides between rules of as many headers. Alone, the stable revision is its own canary."""
    stable = _Answer({route.stable: 100})
    canary = _Answer({route.canary or route.stable: 100})
    listed, theirs, others = _split(route, stable, canary)
    yield "forced-canary", _exactly(Arm.CANARY), canary
    yield "forced-stable", _exactly(Arm.STABLE), stable
    # With no bucket to list it says what the next one says.
    yield "listed-buckets", _matching(regex_of(listed) if listed else ANY_BUCKET), theirs if listed else others
    yield "other-buckets", _matching(ANY_BUCKET), others
    yield "no-bucket", (), _without_bucket(route)


def _split(route: Route, stable: _Answer, canary: _Answer) -> tuple[tuple[int, ...], _Answer, _Answer]:
    """The buckets of the smaller side, who answers these, and who answers the others."""
    if route.mode is RouteMode.SHADOW:
        copied = _Answer(stable.weights, mirror=route.canary)
        mirrored = mirrored_buckets(route.seed, route.share)
        if len(mirrored) <= MOST_LISTED:
            return mirrored, copied, stable
        return tuple(sorted(set(range(BUCKETS)) - set(mirrored))), stable, copied
    arm, listed = smaller_arm(route.seed, route.weight, route.hold_back)
    return (listed, canary, stable) if arm is Arm.CANARY else (listed, stable, canary)


def _without_bucket(route: Route) -> _Answer:
    """By weight; such a request is never judged, so none is mirrored."""
    weight = 0 if route.mode is RouteMode.SHADOW or not route.canary else route.weight
    weights = {route.stable: 100 - weight, route.canary: weight}
    return _Answer({revision: weight for revision, weight in weights.items() if revision})


def _exactly(arm: Arm) -> Headers:
    return ({"type": "Exact", "name": ARM_HEADER, "value": arm.value},)


def _matching(pattern: str) -> Headers:
    return ({"type": "RegularExpression", "name": HEADER, "value": pattern},)


def _backend(revision: str, port: int) -> dict[str, Any]:
    return {"name": revision + SERVICE_SUFFIX, "port": port}
