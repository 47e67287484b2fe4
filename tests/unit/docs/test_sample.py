"""The picture of README is what `make pictures` draws of the rollouts that are recorded beside it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[3] / "docs/sample"


def test_the_picture_is_what_the_command_draws_of_the_record() -> None:
    drawn = runpy.run_path(str(SAMPLE / "pictures.py"))["picture"]()
    assert drawn == (SAMPLE / "rollout.svg").read_text(encoding="utf-8"), "run `make pictures`"


def test_the_picture_loads_nothing_from_elsewhere() -> None:
    text = (SAMPLE / "rollout.svg").read_text(encoding="utf-8")
    assert "url(http" not in text
    assert "href" not in text
    assert "…" not in text


@pytest.mark.parametrize("name", ["promoted.json", "rolled_back.json"])
def test_a_record_holds_no_place_of_a_machine(name: str) -> None:
    text = (SAMPLE / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert json.loads(text)["state"]["phase"] == name.removesuffix(".json")


def test_the_sample_report_is_small_and_complete_in_itself() -> None:
    text = (SAMPLE / "report.html").read_text(encoding="utf-8")
    assert len(text) < 500_000
    assert "<script" not in text
    assert "://" not in text.replace("http://www.w3.org", "")
    assert 'id="rollouts"' in text
