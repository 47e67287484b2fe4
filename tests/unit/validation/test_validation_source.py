"""A source that cannot be read whole is named, with what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from serinus.core.errors import DataError
from serinus.validation.source import read_table

ROWS = pd.DataFrame({"id": ["a", "b"], "price": [1.5, None], "at": pd.to_datetime(["2024-01-01", "2024-01-02"])})


def refused(path: Path) -> DataError:
    with pytest.raises(DataError) as fault:
        read_table(path, name=f"data/{path.name}")
    assert fault.value.exit_code == 3
    return fault.value


def parquet(folder: Path) -> Path:
    path = folder / "log.parquet"
    ROWS.to_parquet(path, index=False)
    return path


def test_parquet_and_csv_come_back_as_they_were(tmp_path: Path) -> None:
    ROWS.to_csv(tmp_path / "log.csv", index=False)
    for path in (parquet(tmp_path), tmp_path / "log.csv"):
        read = read_table(path, name="log")
        pd.testing.assert_frame_equal(read, ROWS, check_dtype=False)
        assert read["at"].dtype.kind == "M"


def test_days_are_times_in_either_format(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("day\n2024-01-01\n", encoding="utf-8")
    read_table(tmp_path / "log.csv", name="log").assign(day=lambda f: f["day"].dt.date).to_parquet(
        tmp_path / "d.parquet"
    )
    assert read_table(tmp_path / "log.csv", name="log")["day"].dtype.kind == "M"
    assert read_table(tmp_path / "d.parquet", name="log")["day"].dtype.kind == "M"


def test_a_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "log.parquet").headline == "data/log.parquet does not exist"


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    path.touch()
    assert refused(path).headline == "data/log.parquet is empty (0 bytes)"


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_truncated_file(tmp_path: Path, kept: float) -> None:
    path = parquet(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert refused(path).headline == "data/log.parquet is truncated"


def test_a_file_cut_within_its_first_bytes_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    path.write_bytes(b"PA")
    assert refused(path).headline == "data/log.parquet is not a parquet file"


def test_a_file_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    ROWS.to_csv(path)
    assert refused(path).headline == "data/log.parquet is not a parquet file"


def test_a_file_with_a_damaged_footer(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[-60:-20] = b"\xff" * 40
    path.write_bytes(damaged)
    assert refused(path).headline == "data/log.parquet is damaged"


def test_a_table_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    ROWS.head(0).to_parquet(path, index=False)
    fault = refused(path)
    assert fault.headline == "data/log.parquet has no rows"
    assert fault.cause == "columns: id, price, at"


def test_a_csv_cut_within_a_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("id,price,at\na,1,2024-01-01\nb,2", encoding="utf-8")
    fault = refused(path)
    assert fault.headline == "data/log.csv is not a whole CSV table"
    assert "Expected 3 columns, got 2" in fault.cause


def test_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("id,id\na,b\n", encoding="utf-8")
    assert refused(path).headline == "data/log.csv has several columns called id"


def test_a_file_of_unknown_format(tmp_path: Path) -> None:
    path = tmp_path / "log.xls"
    path.write_text("id", encoding="utf-8")
    assert refused(path).headline == "data/log.xls is neither .parquet nor .csv"
