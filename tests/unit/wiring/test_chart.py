"""Values of the chart: they follow what a home has in service, and say what a rollout's route does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from serinus.cli.app import app
from serinus.core.errors import UsageError
from serinus.core.names import ModelRef, ServiceRef
from serinus.core.rollout.route import Route
from serinus.core.words import Arm
from serinus.wiring.adapters import deployer
from serinus.wiring.chart import Shares, chart_values, route_values
from serinus.wiring.project import open_project

RENEWAL = ServiceRef("default", "renewal")

HASHES = {1: "a" * 64, 2: "b" * 64}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def want(version: int, digest: str) -> None:
    deployer(open_project()).want(RENEWAL, ModelRef("renewal", version), f"file:///home/bundles/renewal/{digest}")


def test_the_values_name_what_was_trained(renewal_project: Path) -> None:
    for version, digest in HASHES.items():
        want(version, digest)
    found = run("chart", "renewal", "--weight", "20")
    assert found.exit_code == 0, found.output
    values = yaml.safe_load(found.stdout)
    assert values == json.loads(run("chart", "renewal", "--weight", "20", "--json").stdout)
    assert values["revisions"] == {
        "stable": {"version": "1", "bundle": HASHES[1]},
        "canary": {"version": "2", "bundle": HASHES[2]},
    }
    assert values["service"]["name"] == "renewal"
    want(3, "c" * 64)
    assert chart_values(open_project(), RENEWAL, Shares())["revisions"]["canary"]["bundle"] == "c" * 64


def test_one_version_alone_gets_everything(renewal_project: Path) -> None:
    want(1, HASHES[1])
    values = chart_values(open_project(), RENEWAL, Shares())
    assert list(values["revisions"]) == ["stable"]
    assert values["route"] == {"weight": 0, "listed": "canary", "buckets": ""}
    refused = run("chart", "renewal", "--weight", "1")
    assert refused.exit_code == 2
    assert "version 1 alone" in refused.stderr


@pytest.mark.parametrize("shares", [Shares(100), Shares(-1), Shares(96, hold_back=5)])
def test_shares_that_cannot_be_are_refused(renewal_project: Path, shares: Shares) -> None:
    for version, digest in HASHES.items():
        want(version, digest)
    with pytest.raises(UsageError, match="these shares cannot be"):
        chart_values(open_project(), RENEWAL, shares)


def test_nothing_deployed_is_told(renewal_project: Path) -> None:
    found = run("chart", "renewal")
    assert found.exit_code == 4
    assert "nothing is deployed for renewal yet" in found.stderr


@settings(max_examples=40, deadline=None)
@given(weight=st.integers(0, 100), seed=st.integers(0, 2**32), data=st.data())
def test_the_listed_buckets_are_those_of_a_rollouts_route(weight: int, seed: int, data: st.DataObject) -> None:
    held = data.draw(st.integers(0, 100 - weight))
    found = route_values(Shares(weight, held, seed), 0, 0)
    route = Route(service="s", rollout="r", number=1, stable="a", canary="b", weight=weight, seed=seed, hold_back=held)
    listed = Arm(found["listed"])
    for bucket in range(1000):
        matched = bool(found["buckets"]) and re.fullmatch(found["buckets"], f"{bucket:03d}") is not None
        other = Arm.STABLE if listed is Arm.CANARY else Arm.CANARY
        assert route.assigned(bucket) is (listed if matched else other)
