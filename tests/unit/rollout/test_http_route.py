"""The HTTPRoute of a route, by a matcher of its own: every bucket, every path, forced arms, mirrors, limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import pytest
import re2

from serinus.core.assignment import BUCKETS, hold_back_buckets
from serinus.core.rollout.route import Route, RouteMode
from serinus.core.words import Arm
from serinus.rollout.http_route import Parent, http_route

SEEDS = (0, 7, 2**63 + 11)
WEIGHTS = (0, 1, 20, 50, 51, 99)
GRPC = "/inference.GRPCInferenceService/ModelInfer"
PATHS = (("/v2/models/retail/infer", 80), (GRPC, 8081))
STABLE, CANARY = "retail-v1-aaaaaa", "retail-v2-bbbbbb"
# What is no bucket of ours, as gateways see it: none, too short, repeats joined, letters, another script's digits.
NO_BUCKETS = ("", "12", "1234", "012,345", "01a", " 12", "٠١٢")
GATEWAY = Parent("gate")


@dataclass(frozen=True)
class Seen:
    """Where one request goes: Services with weights, the port, and who gets a copy."""

    weights: dict[str, int]
    ports: set[int]
    mirror: str = ""


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict[str, str] = field(default_factory=dict)


def _route(seed: int = 7, **changes: Any) -> Route:
    plain = {"service": "retail", "rollout": "retail-v2-bbbbbb", "number": 3, "stable": STABLE, "canary": CANARY}
    return Route(**plain | {"seed": seed, "hold_back": 1} | changes)


def _answer(document: dict[str, Any], asked: Asked) -> Seen:
    """By the Gateway API's order: longest path, then most headers, then first in the list."""
    found = [
        (-len(match["path"]["value"]), -len(match.get("headers", ())), number, rule)
        for number, rule in enumerate(document["spec"]["rules"])
        for match in rule["matches"]
        if _matches(match, asked)
    ]
    rule = min(found, key=lambda one: one[:3])[3]
    copies = [one["requestMirror"]["backendRef"] for one in rule.get("filters", ())]
    assert all(one["port"] == rule["backendRefs"][0]["port"] for one in copies)
    return Seen(
        {one["name"]: one["weight"] for one in rule["backendRefs"]},
        {one["port"] for one in rule["backendRefs"]},
        copies[0]["name"] if copies else "",
    )


def _matches(match: dict[str, Any], asked: Asked) -> bool:
    prefix = match["path"]["value"].rstrip("/")
    if asked.path != prefix and not asked.path.startswith(prefix + "/"):
        return False
    return all(_header(one, asked.headers.get(one["name"])) for one in match.get("headers", ()))


def _header(match: dict[str, str], value: str | None) -> bool:
    if value is None:
        return False
    return match["value"] == value if match["type"] == "Exact" else _fully(match["value"], value)


@lru_cache(maxsize=100_000)
def _fully(pattern: str, value: str) -> bool:
    return _compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> Any:
    return re2.compile(pattern)


def _by_bucket(document: dict[str, Any], path: str) -> list[Seen]:
    return [_answer(document, Asked(path, {"x-serinus-bucket": f"{bucket:03d}"})) for bucket in range(BUCKETS)]


def _only(revision: str) -> dict[str, int]:
    return {f"{revision}-predictor": 100}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("weight", WEIGHTS)
def test_every_bucket_goes_to_its_arm_on_every_path(seed: int, weight: int) -> None:
    route = _route(seed, weight=weight)
    document = http_route(route, GATEWAY)
    for path, port in PATHS:
        seen = _by_bucket(document, path)
        wanted = [CANARY if route.assigned(bucket) is Arm.CANARY else STABLE for bucket in range(BUCKETS)]
        assert [one.weights for one in seen] == [_only(name) for name in wanted]
        assert all(one.ports == {port} and not one.mirror for one in seen)
        assert wanted.count(CANARY) == 10 * weight


def test_the_hold_back_stays_stable_after_promotion() -> None:
    seen = _by_bucket(http_route(_route(weight=95, hold_back=5), GATEWAY), PATHS[0][0])
    assert {n for n, one in enumerate(seen) if one.weights == _only(STABLE)} == set(hold_back_buckets(7, 5))


def test_all_of_the_buckets_may_be_the_canarys() -> None:
    seen = _by_bucket(http_route(_route(weight=100, hold_back=0), GATEWAY), GRPC)
    assert all(one.weights == _only(CANARY) for one in seen)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize(("path", "port"), PATHS)
def test_a_forced_arm_goes_before_the_bucket(weight: int, path: str, port: int) -> None:
    document = http_route(_route(weight=weight), GATEWAY)
    for arm, revision in (("canary", CANARY), ("stable", STABLE)):
        for bucket in ("", "000", "500", "999"):
            headers = {"x-serinus-arm": arm} | ({"x-serinus-bucket": bucket} if bucket else {})
            assert _answer(document, Asked(path, headers)) == Seen(_only(revision), {port})


@pytest.mark.parametrize("text", NO_BUCKETS)
@pytest.mark.parametrize(("path", "port"), PATHS)
def test_what_is_no_bucket_goes_by_the_weights(text: str, path: str, port: int) -> None:
    headers = {"x-serinus-bucket": text} if text else {}
    seen = _answer(http_route(_route(weight=20), GATEWAY), Asked(path, headers))
    assert seen == Seen({f"{STABLE}-predictor": 80, f"{CANARY}-predictor": 20}, {port})


@pytest.mark.parametrize("text", ["both", "Canary", "canary,canary", ""])
def test_an_arm_that_is_none_changes_nothing(text: str) -> None:
    document = http_route(_route(weight=20), GATEWAY)
    plain = [_answer(document, Asked(GRPC, {"x-serinus-bucket": f"{b:03d}"})) for b in range(BUCKETS)]
    odd = [
        _answer(document, Asked(GRPC, {"x-serinus-bucket": f"{b:03d}", "x-serinus-arm": text})) for b in range(BUCKETS)
    ]
    assert odd == plain


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.501, 0.9, 1.0])
def test_in_shadow_all_go_to_stable_and_its_buckets_are_copied(share: float) -> None:
    route = _route(mode=RouteMode.SHADOW, share=share)
    document = http_route(route, GATEWAY)
    for path, port in PATHS:
        seen = _by_bucket(document, path)
        assert all(one.weights == _only(STABLE) and one.ports == {port} for one in seen)
        copied = {bucket for bucket, one in enumerate(seen) if one.mirror}
        assert copied == {bucket for bucket in range(BUCKETS) if route.mirrored(bucket)}
        assert {one.mirror for one in seen} <= {"", f"{CANARY}-predictor"}
        forced = _answer(document, Asked(path, {"x-serinus-arm": "canary", "x-serinus-bucket": "000"}))
        assert forced == Seen(_only(CANARY), {port})
        without = _answer(document, Asked(path))
        assert without == Seen({f"{STABLE}-predictor": 100, f"{CANARY}-predictor": 0}, {port})


def test_a_revision_alone_answers_everything() -> None:
    document = http_route(_route(canary="", rollout=""), GATEWAY)
    for path, port in PATHS:
        for headers in ({}, {"x-serinus-bucket": "000"}, {"x-serinus-arm": "canary"}):
            assert _answer(document, Asked(path, headers)) == Seen(_only(STABLE), {port})


def test_every_route_has_the_same_rules_in_the_same_places() -> None:
    """Envoy Gateway removes the cluster of a rule that is gone before its routes have left it."""
    routes = [_route(canary="", rollout=""), _route(weight=100, hold_back=0)]
    routes += [_route(weight=weight) for weight in WEIGHTS]
    routes += [_route(mode=RouteMode.SHADOW, share=share) for share in (0.0, 0.2, 0.9, 1.0)]
    names = {tuple(rule["name"] for rule in http_route(one, GATEWAY)["spec"]["rules"]) for one in routes}
    assert len(names) == 1


@pytest.mark.parametrize("seed", range(40))
def test_it_stays_within_what_gateways_take(seed: int) -> None:
    """Gateway API v1: 16 rules, 64 matches a rule, 128 in all, values of 4,096; some gateways take 1,024."""
    for weight in WEIGHTS:
        rules = http_route(_route(seed, weight=weight), GATEWAY)["spec"]["rules"]
        assert len(rules) == 10
        assert all(len(rule["matches"]) == 1 for rule in rules)
        assert len({rule["name"] for rule in rules}) == len(rules)
        values = [one["value"] for rule in rules for match in rule["matches"] for one in match.get("headers", ())]
        assert max(map(len, values)) < 1024
        patterns = [one for one in values if one[0] == "^"]
        assert all(one.startswith("^(?:") and one.endswith(")$") for one in patterns)
        assert sum(one["weight"] for one in rules[-1]["backendRefs"]) == 100


def test_rules_of_one_path_differ_in_order_alone_where_headers_tie() -> None:
    """Envoy Gateway sorts exact header matches before others; the order of the list is the same, so both agree."""
    rules = http_route(_route(weight=20), GATEWAY)["spec"]["rules"]
    kinds = [[one["type"] for one in rule["matches"][0].get("headers", ())] for rule in rules]
    of_a_path = [["Exact"], ["Exact"], ["RegularExpression"], ["RegularExpression"], []]
    assert kinds == [*of_a_path, *of_a_path]
    assert Counter(rule["matches"][0]["path"]["value"] for rule in rules) == {"/": 5, GRPC.rpartition("/")[0]: 5}


def test_the_document_says_whose_it_is() -> None:
    document = http_route(_route(), Parent("gate", "edge", "http"), ("shop.example",))
    assert (document["apiVersion"], document["kind"]) == ("gateway.networking.k8s.io/v1", "HTTPRoute")
    assert document["metadata"]["name"] == "retail"
    assert document["metadata"]["annotations"] == {
        "serinus.dev/rollout": "retail-v2-bbbbbb",
        "serinus.dev/route": "3",
    }
    assert document["spec"]["parentRefs"] == [{"name": "gate", "namespace": "edge", "sectionName": "http"}]
    assert document["spec"]["hostnames"] == ["shop.example"]
    assert http_route(_route(), GATEWAY)["spec"]["parentRefs"] == [{"name": "gate"}]
    assert "hostnames" not in http_route(_route(), GATEWAY)["spec"]


def test_more_weight_only_moves_buckets_to_the_canary() -> None:
    def canaries(weight: int) -> set[int]:
        seen = _by_bucket(http_route(_route(weight=weight), GATEWAY), PATHS[0][0])
        return {bucket for bucket, one in enumerate(seen) if one.weights == _only(CANARY)}

    sets = [canaries(weight) for weight in WEIGHTS]
    assert all(fewer < more for fewer, more in pairwise(sets))


def test_a_weight_that_reaches_into_the_hold_back_is_refused() -> None:
    with pytest.raises(ValueError, match="hold-back"):
        http_route(_route(weight=100), GATEWAY)
