"""The first step of a run: its rows stand under the hash of the bytes that they were read from."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from serinus.core.errors import Conflict
from serinus.validation.source import read_table
from serinus.wiring.project import open_project
from serinus.wiring.steps.data import read_source


def test_a_source_that_is_written_while_it_is_read_is_refused(renewal_project: Path, tmp_path: Path) -> None:
    problem = open_project({"SERINUS_PROJECT": str(renewal_project)}).problem("renewal")

    def meanwhile(path: Path, *, name: str) -> pd.DataFrame:
        found = read_table(path, name=name)
        path.write_text(path.read_text().replace("A000", "B000"))
        return found

    with pytest.raises(Conflict, match=r"data/accounts.csv was written while it was read"):
        read_source(problem, tmp_path / "raw", "", meanwhile)
    assert not (tmp_path / "raw").exists()
    assert read_source(problem, tmp_path / "raw", "")["rows"] == 510
