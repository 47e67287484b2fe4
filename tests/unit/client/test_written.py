"""The written form: one id, one spelling; times and numbers as callers may write them, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.client import Client, bucket_header, bucket_of
from serinus.client.written import LARGEST, in_range, moment, number, whole_id, written_id
from serinus.features.keys import fault_of, key_of

ONE_CUSTOMER = [
    "12347", "1_2347", "012347", "+12347", " 12347", "12347 ", "12347\n", "12347.0", "1.2347e4", "१२३४७",
    "\uff12", "12347\0", "12347\u200b", "\ufeff12347", "-0", "--1", "0x303b", "",
]  # fmt: skip


@pytest.mark.parametrize("spelling", ONE_CUSTOMER[1:])
def test_a_whole_number_has_one_spelling(spelling: str) -> None:
    assert key_of("INT64", "12347") == 12347
    assert fault_of("INT64", spelling)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_whole_number_of_64_bits_is_its_own_id(value: int) -> None:
    assert written_id(value) == str(value)
    assert key_of("INT64", str(value)) == whole_id(str(value)) == value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_beyond_the_bits_of_its_key_nothing_is_an_id(value: int) -> None:
    assert fault_of("INT64", str(value))
    assert fault_of("INT32", str(2**31))
    assert not fault_of("INT32", str(2**31 - 1))


@given(st.text(max_size=8), st.text(max_size=8))
def test_two_texts_are_two_ids_or_none(one: str, other: str) -> None:
    if not fault_of("INT64", one) and not fault_of("INT64", other):
        assert (one == other) == (int(one) == int(other))
    if not fault_of("STRING", one):
        assert key_of("STRING", one) == one == one.strip()
        assert one.isprintable()


@pytest.mark.parametrize(
    "value",
    ["", " a", "a ", "a\tb", "a\0b", "a\u00a0b", "a\u200bb", "e\u0301", "\ud800", "x" * 201, 1.0, True, None, b"a"],
)
def test_what_is_no_id_is_no_id_anywhere_in_the_client(value: object) -> None:
    with pytest.raises(ValueError, match=r"\bid\b"):
        written_id(value)
    client = Client("http://127.0.0.1:1", salt="ab", tries=1)
    with pytest.raises(ValueError, match=r"\bid\b"):
        client.predict(value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\bid\b"):
        client.predict("1", [value])  # type: ignore[list-item]
    for name in ("unit", "item", "request_id") if value is not None else ():
        with pytest.raises(ValueError, match=r"\bid\b"):
            client.send_outcomes([{"id": "o", "name": "n", "as_of": 1.0, name: value}])
    if value != "":
        with pytest.raises(ValueError, match=r"\bid\b"):
            bucket_header("ab", value)  # type: ignore[arg-type]


def test_whole_numbers_of_python_and_numpy_are_ids() -> None:
    assert [written_id(one) for one in (12347, np.int64(12347), np.uint8(7), "é", "a b")] == [
        "12347", "12347", "7", "é", "a b"
    ]  # fmt: skip
    assert bucket_of("ab12", 12347) == bucket_of("ab12", "12347") == 449


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2011-10-03", datetime(2011, 10, 3, tzinfo=UTC)),
        ("2011-10-03 14:30", datetime(2011, 10, 3, 14, 30, tzinfo=UTC)),
        ("2011-10-03T14:30:00.123456789Z", datetime(2011, 10, 3, 14, 30, 0, 123456, tzinfo=UTC)),
        ("2011-10-03T16:30:00+02:00", datetime(2011, 10, 3, 14, 30, tzinfo=UTC)),
        (datetime(2011, 10, 3), datetime(2011, 10, 3, tzinfo=UTC)),
        (1317652200, datetime(2011, 10, 3, 14, 30, tzinfo=UTC)),
        (1317652200.5, datetime(2011, 10, 3, 14, 30, 0, 500000, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_utc(value: object, read: datetime) -> None:
    assert moment(value) == read
    assert moment(value).tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        "20111003",
        "1317652200",
        "soon",
        "",
        "2011-02-30",
        "2011-10-03T25:00",
        "03.10.2011",
        True,
        None,
        float("nan"),
        1e300,
    ],
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"time|between"):
        moment(value)


def test_milliseconds_are_no_seconds() -> None:
    assert not in_range(moment("9999-12-31T23:59:59-14:00"))
    assert not in_range(moment("1815-01-01"))
    with pytest.raises(ValueError, match="between 1970 and 2199"):
        moment(1317652200000)


@pytest.mark.parametrize("value", [1e39, -1e39, 10**400, float("inf"), float("nan"), True, "5", None, [1]])
def test_what_no_model_can_take_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match="must be a"):
        number(value)


@given(st.floats(-LARGEST, LARGEST) | st.integers(-(10**38), 10**38))
def test_every_number_that_passes_is_finite_in_float32(value: float) -> None:
    assert np.isfinite(np.float32(number(value)))


@pytest.mark.parametrize(
    "unseen", [0x34F, 0x115F, 0x1160, 0x17B4, 0x180B, 0x2800, 0x3164, 0xFE00, 0xFE0F, 0xFFA0, 0xE0101]
)
def test_what_nobody_sees_makes_no_second_id(unseen: int) -> None:
    for spelling in (f"abc{chr(unseen)}", f"a{chr(unseen)}bc"):
        with pytest.raises(ValueError, match="printable"):
            written_id(spelling)
