"""Columns are said once, in `serinus.core.events`: whatever carries rows follows from there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from serinus.core.events import ROW_TYPES, Stream, Use, columns, row_of
from serinus.evidence.entries import decoded, encoded
from serinus.evidence.intake import OutcomeIn
from serinus.evidence.rows import SCHEMAS

HERE = Path(__file__).parent
CARD = HERE.parents[2] / "problems/retail/problem.yaml"


def test_a_column_added_to_a_row_type_is_in_files_in_redis_and_in_kpi_rows(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "one_more_column.py"), str(tmp_path), str(CARD)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(HERE)}
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("stream", Stream)
def test_the_schema_of_a_stream_has_the_columns_of_its_rows(stream: Stream) -> None:
    assert SCHEMAS[stream].names == list(ROW_TYPES[stream].__dataclass_fields__)


@pytest.mark.parametrize("stream", Stream)
def test_rows_fold_by_an_id_and_join_by_their_request(stream: Stream) -> None:
    assert {"id", "request_id"} <= {one.name for one in columns(stream, Use.IDENTITY)}


@pytest.mark.parametrize("stream", Stream)
def test_what_a_sender_leaves_out_of_a_row_is_empty(stream: Stream) -> None:
    row = asdict(row_of(stream, {"id": "a"}))
    assert row.pop("id") == "a"
    assert not any(row.values())
    entry = {name.encode(): value for name, value in encoded(stream, [row_of(stream, {"id": "a"})]).items()}
    assert decoded(stream, entry).num_rows == 1
    with pytest.raises(ValueError, match="mood"):
        row_of(stream, {"mood": "good"})


def test_what_comes_over_the_wire_is_a_row_but_for_when_it_arrived() -> None:
    assert [*OutcomeIn.model_fields, "at"] == [one.name for one in columns(Stream.OUTCOMES)]
