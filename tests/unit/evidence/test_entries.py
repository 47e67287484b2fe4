"""Rows as entries: what comes back is what was put in, and what is no entry is told, never half read."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from memory_log import exposure, outcome, scores

from serinus.core.errors import DataError
from serinus.core.events import Decided, Event, Exposure, Inputs, Outcome, Scores, Stream
from serinus.evidence.entries import Entry, Fields, decoded, encoded, row_count

floats = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=("Cs",)))
wholes = st.integers(-(2**63), 2**63 - 1)
services = st.builds("{}/{}".format, texts, texts)  # a ServiceRef has a slash, whatever it is around it
lists_of_texts, lists_of_floats = st.lists(texts).map(tuple), st.lists(floats).map(tuple)
EXPOSURES = st.builds(Exposure, texts, texts, services, *[texts] * 6, wholes, texts, floats, floats, wholes,
                      st.booleans(), *[wholes] * 3, floats, texts, lists_of_floats, texts, wholes)  # fmt: skip
SCORES = st.builds(Scores, texts, texts, lists_of_texts, lists_of_floats)
DECISIONS = st.builds(Decided, texts, texts, texts, floats, texts, lists_of_texts, lists_of_texts, floats,
                      st.lists(wholes).map(tuple))  # fmt: skip
INPUTS = st.builds(Inputs, texts, texts, texts, floats, floats, wholes, texts, lists_of_floats, texts)
OUTCOMES = st.builds(Outcome, *[texts] * 5, floats, floats, floats)


def stored(entry: dict[str, bytes]) -> Fields:
    """As Redis gives it back."""
    return {name.encode(): value for name, value in entry.items()}


def back(stream: Stream, events: list[Event]) -> list[dict[str, Any]]:
    return decoded(stream, stored(encoded(stream, events))).to_pylist()


def plain(event: Event) -> dict[str, Any]:
    return {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(event).items()}


@given(
    st.one_of(
        st.tuples(st.just(Stream.EXPOSURES), st.lists(EXPOSURES, min_size=1, max_size=4)),
        st.tuples(st.just(Stream.SCORES), st.lists(SCORES, min_size=1, max_size=4)),
        st.tuples(st.just(Stream.DECISIONS), st.lists(DECISIONS, min_size=1, max_size=4)),
        st.tuples(st.just(Stream.INPUTS), st.lists(INPUTS, min_size=1, max_size=4)),
        st.tuples(st.just(Stream.OUTCOMES), st.lists(OUTCOMES, min_size=1, max_size=4)),
    )
)
def test_any_rows_come_back_as_they_were(given: tuple[Stream, list[Event]]) -> None:
    assert repr(back(*given)) == repr([plain(event) for event in given[1]])  # repr tells 0.0 from -0.0


@pytest.mark.parametrize("value", [math.inf, -math.inf, 5e-324, -0.0, 1 / 3, 2.0**1023])
def test_a_float_keeps_its_bits(value: float) -> None:
    (row,) = back(Stream.OUTCOMES, [outcome("o", value=value)])
    assert struct.pack("<d", row["value"]) == struct.pack("<d", value)


def test_what_is_not_a_number_stays_so() -> None:
    (row,) = back(Stream.OUTCOMES, [outcome("o", value=math.nan)])
    assert math.isnan(row["value"])


def test_text_that_no_file_can_hold_is_refused_before_it_is_written() -> None:
    with pytest.raises(TypeError):
        encoded(Stream.OUTCOMES, [outcome("\ud800")])


def test_an_entry_says_how_many_rows_and_bytes_it_has() -> None:
    entry = Entry("1-0", stored(encoded(Stream.SCORES, [scores("a"), scores("b")])))
    assert row_count(entry.fields) == 2
    assert entry.size == sum(map(len, entry.fields.values()))


def test_a_column_that_an_older_release_did_not_write_is_null() -> None:
    entry = encoded(Stream.OUTCOMES, [outcome("o")])
    del entry["value"]
    assert decoded(Stream.OUTCOMES, stored(entry)).to_pylist() == [plain(outcome("o")) | {"value": None}]


def test_a_column_of_a_newer_release_is_left_out() -> None:
    entry = encoded(Stream.OUTCOMES, [outcome("o")]) | {"mood": b'["good"]'}
    assert decoded(Stream.OUTCOMES, stored(entry)).to_pylist() == [plain(outcome("o"))]


BROKEN: dict[str, Callable[[dict[str, bytes]], object]] = {
    "no rows": lambda e: e.pop("rows"),
    "not a number of rows": lambda e: e.update(rows=b"many"),
    "more rows than it has": lambda e: e.update(rows=b"3"),
    "none": lambda e: e.update({name: b"[]" if e[name][:1] == b"[" else b"" for name in e}, rows=b"0"),
    "nothing but rows": lambda e: [e.pop(name) for name in list(e) if name != "rows"],
    "half a float": lambda e: e.update(at=e["at"][:-3]),
    "a float less": lambda e: e.update(at=e["at"][:-8]),
    "half a list": lambda e: e.update(unit=e["unit"][:-4]),
    "no text": lambda e: e.update(unit=orjson.dumps([1, 2])),
    "a number too large": lambda e: e.update(sequence=orjson.dumps([1, 2**64 - 1])),
    "no utf-8": lambda e: e.update(unit=b'["\xff", "u"]'),
    "no id": lambda e: e.pop("id"),
    "no writer": lambda e: e.pop("writer"),
    "a row without an id": lambda e: e.update(id=b'["a", null]'),
    "a row without a number": lambda e: e.update(bucket=b"[1, null]"),
    "no list": lambda e: e.update(unit=b"7"),
    "no lengths": lambda e: e.pop("covariates.n"),
    "lengths of a list more": lambda e: e.update({"covariates.n": b"[1, 1, 1]"}),
    "lengths before the end": lambda e: e.update({"covariates.n": b"[0, 0]"}),
    "lengths past the end": lambda e: e.update({"covariates.n": b"[1, 7]"}),
    "lengths below nothing": lambda e: e.update({"covariates.n": b"[3, -1]"}),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_no_entry_is_told(how: str) -> None:
    entry = encoded(Stream.EXPOSURES, [exposure("a"), replace(exposure("b"), covariates=(1.0,))])
    BROKEN[how](entry)
    with pytest.raises(DataError):
        decoded(Stream.EXPOSURES, stored(entry))


@pytest.mark.parametrize(("stream", "event"), [(Stream.SCORES, scores("a")), (Stream.OUTCOMES, outcome("a"))])
def test_rows_that_cannot_be_joined_are_told(stream: Stream, event: Event) -> None:
    entry = encoded(stream, [event])
    del entry["request_id"]
    with pytest.raises(DataError):
        decoded(stream, stored(entry))


def test_an_entry_of_another_stream_is_told() -> None:
    with pytest.raises(DataError):
        decoded(Stream.EXPOSURES, {b"rows": b"1", b"something": b"[1]"})
