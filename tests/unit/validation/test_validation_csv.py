"""A CSV file is read whole and by all of its cells, or refused with the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.core.errors import DataError
from serinus.validation.columns import kind_of
from serinus.validation.source import read_table

IN_WINDOWS = "line 3 holds the byte 0xe9; read as cp1252 (Windows) it says '2,café'"
DTYPES = {"text": "object", "flag": "bool", "whole": "int64", "number": "float64", "time": "datetime64[us]"}


def read(folder: Path, content: str | bytes) -> pd.DataFrame:
    path = folder / "log.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, name="data/log.csv")


def column(folder: Path, *cells: str) -> pd.Series:
    """Beside a column that makes lines of empty cells rows."""
    return read(folder, "n,c\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells)))["c"]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (("a", "1"), "text"),
        (("00123", "45"), "text"),
        (("+5", "6"), "text"),
        (("1_000", "2"), "text"),
        (('"1,000"', "2"), "text"),
        (('"1,5"', "2"), "text"),
        (("1e3", "x"), "text"),
        (("true", "0"), "text"),
        (("18446744073709551615", "1"), "text"),
        (("9007199254740993", "1.5"), "text"),
        (("9007199254740993.0", "2.0"), "text"),
        (("9223372036854775808", "1"), "text"),
        (("1e400", "1.5"), "text"),
        (("-1e400", "inf"), "text"),
        (("NA", "GB"), "text"),
        (("2024-01-01", "2024-01-01T10:00:00Z"), "text"),
        (("2024-02-30", "2024-01-01"), "text"),
        (("01/02/2024", "2024-01-01"), "text"),
        (("true", "False", "TRUE"), "flag"),
        (("1", "-0", " 7 "), "whole"),
        (("9223372036854775807", "-9223372036854775808"), "whole"),
        (("1.5", "2", "-.5", "1e-3", "-0.0", "5."), "number"),
        (("inf", "1.5"), "number"),
        (("2024-01-01", "2024-01-01 10:00", "2024-01-01T10:00:00.123456789"), "time"),
        (("2024-01-01T10:00+02:00", "2024-01-01T10:00:00.5Z", "2024-01-01 10:00:00-0330"), "time"),
    ],
)
def test_the_kind_of_a_column_is_that_of_all_its_cells(tmp_path: Path, cells: tuple[str, ...], kind: str) -> None:
    found = column(tmp_path, *cells)
    assert kind_of(found) == kind
    assert str(found.dtype) == DTYPES[kind]
    if kind == "text":
        assert found.tolist() == [one.strip('"') for one in cells]


@pytest.mark.parametrize("word", ["", "   ", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "NaN", "nan"])
@pytest.mark.parametrize(
    ("cell", "dtype"), [("7", "Int64"), ("1.5", "float64"), ("true", "object"), ("2024-01-01", "datetime64[us]")]
)
def test_a_word_for_nothing_is_empty_beside_numbers_times_and_flags(
    tmp_path: Path, word: str, cell: str, dtype: str
) -> None:
    found = column(tmp_path, cell, word)
    assert found.isna().tolist() == [False, True]
    assert str(found.dtype) == dtype


def test_in_text_only_what_is_blank_is_empty(tmp_path: Path) -> None:
    found = column(tmp_path, "a", "", '""', "  ", "NA", " b ")
    assert found.isna().tolist() == [False, True, True, True, False, False]
    assert found.dropna().tolist() == ["a", "NA", " b "]
    assert kind_of(column(tmp_path, "", "NA")) == "empty"


def test_line_breaks_in_quotes_are_read_in_files_of_any_size(tmp_path: Path) -> None:
    rows = 30_000
    cell = 'first line of a note\nsecond, with a ""word""\r\nthird'
    frame = read(tmp_path, "n,note\n" + "".join(f'{n},"{cell}"\n' for n in range(rows)))
    assert (tmp_path / "log.csv").stat().st_size > 1 << 20
    assert frame["n"].tolist() == list(range(rows))
    assert frame["note"].unique().tolist() == [cell.replace('""', '"')]


def test_a_cell_of_more_than_a_block_is_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, 'n,note\n1,"' + "x\n" * (1 << 20) + '"\n')["note"][0]) == 2 << 20


@pytest.mark.parametrize(
    ("content", "headline", "cause"),
    [
        ("n,name\n1,a\n2,café\n".encode("cp1252"), "is not UTF-8", IN_WINDOWS),
        ("prénom\na\n".encode("latin-1"), "is not UTF-8", "line 1"),
        ("n,name\n1,a\n".encode("utf-16"), "is not UTF-8", "UTF-16"),
        ("n,name\n1,a\n".encode("utf-16-le"), "is not UTF-8", "UTF-16"),
        ("a,b\n1\n", "is not a whole CSV table", "Expected 2 columns, got 1"),
        ("a,b\n1,2,3\n", "is not a whole CSV table", "Expected 2 columns, got 3"),
        ('a,b\n1,"x\n2,y\n3,z\n', "is not a whole CSV table", "a quote is not closed"),
        ('a,b\n1,"x\n2,"y\n3,z\n', "is not a whole CSV table", ""),
        ("a;b\n1;2\n", "is not separated by commas", "'a;b'"),
        ("a\tb\n1\t2\n", "is not separated by commas", ""),
        ("a,,c\n1,2,3\n", "has a column without a name", "column 2 of 3"),
        ("a, a\n1,2\n", "has several columns called a", ""),
        ("a,b\n", "has no rows", "columns: a, b"),
        ("a,b", "has no rows", "one line"),
        ("\n\n", "has no rows", ""),
    ],
)  # fmt: skip
def test_what_is_no_whole_table_is_refused(tmp_path: Path, content: str | bytes, headline: str, cause: str) -> None:
    with pytest.raises(DataError) as fault:
        read(tmp_path, content)
    assert fault.value.headline == f"data/log.csv {headline}"
    assert cause in fault.value.cause
    assert fault.value.exit_code == 3


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_marks_line_ends_and_blanks_around_names_do_not_count(tmp_path: Path, ending: str) -> None:
    text = ending.join([" id , amount", "a,1.5", "b, 2.5 "])
    for content in (text.encode(), text.encode("utf-8-sig")):
        frame = read(tmp_path, content)
        assert list(frame.columns) == ["id", "amount"]
        assert frame["amount"].tolist() == [1.5, 2.5]


def test_an_empty_cell_of_the_only_column_is_a_row(tmp_path: Path) -> None:
    assert read(tmp_path, "a\n1\n\n3\n")["a"].isna().tolist() == [False, True, False]


@given(
    values=st.lists(
        st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53 + 1, 2**63 - 1, -(2**53) - 1]) | st.none(), min_size=1
    )
)
def test_whole_numbers_keep_every_digit(tmp_path_factory: pytest.TempPathFactory, values: list[int | None]) -> None:
    folder = tmp_path_factory.getbasetemp()
    found = column(folder, *("" if one is None else str(one) for one in values))
    assert [None if pd.isna(one) else int(one) for one in found] == values


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@given(st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=5))
def test_text_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    quoted = "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)
    frame = read(tmp_path_factory.getbasetemp(), "a,b\nanchor,anchor\n" + quoted)
    wanted: list[tuple[Any, ...]] = [tuple(None if not cell.strip() else cell for cell in row) for row in rows]
    found = [tuple(None if pd.isna(one) else one for one in row) for row in frame.to_numpy().tolist()[1:]]
    assert found == wanted


def test_zones_of_a_file_become_utc(tmp_path: Path) -> None:
    found = column(tmp_path, "2024-01-01T10:00+02:00", "2024-01-01T10:00Z", "")
    assert found.dtype == np.dtype("datetime64[us]")
    assert found[:2].tolist() == [pd.Timestamp("2024-01-01 08:00"), pd.Timestamp("2024-01-01 10:00")]
