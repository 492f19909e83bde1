"""Records come back from JSON as they were written."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.base.records import Unbounded, as_json, as_plain, read_json, read_record, record


@record
class Bounds:
    value: Unbounded
    interval: tuple[Unbounded, Unbounded] | None = None


NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)


@given(NUMBERS, st.none() | st.tuples(NUMBERS, NUMBERS))
def test_unbounded_numbers_and_counts_come_back_equal(value, interval):
    written = Bounds(value, interval)
    assert read_json(Bounds, as_json(written), where="bounds") == written
    assert read_record(Bounds, as_plain(written), where="bounds") == written


@pytest.mark.parametrize("number", [3, 3.0])
def test_a_count_stays_a_whole_number(number):
    text = as_json(Bounds(number))
    assert type(read_json(Bounds, text, where="bounds").value) is type(number)


def test_nan_comes_back():
    written = Bounds(math.nan, (0.0, math.inf))
    found = read_json(Bounds, as_json(written), where="bounds")
    assert math.isnan(found.value)
    assert replace(found, value=0) == replace(written, value=0)
