"""A row's own keys: its stress test declares them, with types and words, and whatever else a row says is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from harness.checks import Check, ChecksError, Key, Share, one_of
from harness.checks.keys import declared_keys, with_keys
from harness.perturb import Pose

FILE = Path("shop/checks.toml")
ROW = Check("dim-030", "dim", "accuracy")
DECLARED = declared_keys(
    {
        "strength": Key(Share, "{:.0%} of the light taken away"),
        "lamp": one_of(["bulb", "sun"]),
        "pair": Key(tuple[str, str], " and ".join),
        "about": Pose,
        "only": Literal["wrong"],
        "size": int,
        "factor": float,
    },
    test="test_dim",
)


def read(**keys):
    return with_keys(replace(ROW, keys=keys), DECLARED, path=FILE, test="test_dim")


def test_keys_are_attributes_of_the_row_and_what_is_left_out_is_none():
    row = read(strength=0.3, lamp="sun", pair=["a", "b"], about={"dx": 2}, factor=2)
    assert (row.strength, row.lamp, row.pair, row.about, row.factor) == (0.3, "sun", ("a", "b"), Pose(dx=2.0), 2.0)
    assert (row.only, row.size) == (None, None)


def test_keys_are_told_in_words_in_the_order_in_which_they_are_declared():
    assert read(pair=["a", "b"], strength=0.3).words == ("30% of the light taken away", "a and b")
    assert read().words == ()
    assert read(lamp="sun").words == ("sun",), "a type alone is told as it is written"


def test_a_row_measures_the_same_whether_its_keys_were_read_or_not():
    given = replace(ROW, keys={"pair": ["a", "b"]})
    assert with_keys(given, DECLARED, path=FILE, test="test_dim").definition == given.definition


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5, expected a number of at most 1"),
        ({"strength": -0.1}, "strength is -0.1, expected a number of at least 0"),
        ({"strength": True}, "strength is True, expected a number"),
        ({"strength": "0.3"}, "strength is '0.3', expected a number"),
        ({"factor": float("nan")}, "factor is nan, expected a finite number"),
        ({"size": 2.5}, "size is 2.5, expected a whole number"),
        ({"lamp": "moon"}, "lamp is 'moon', expected 'bulb' or 'sun'"),
        ({"only": "right"}, "only is 'right', expected 'wrong'"),
        ({"pair": "ab"}, "pair is 'ab', expected a list"),
        ({"pair": ["a", 3]}, r"pair: 1 is 3, expected text"),
        ({"pair": ["a"]}, r"pair is \['a'\], expected 2 values"),
        ({"pair": ["a", "b", "c"]}, r"pair is \['a', 'b', 'c'\], expected 2 values"),
        ({"about": {"angle": 3}}, "about: unknown key 'angle'; known are degrees, dx, dy"),
        ({"about": {"dx": "far"}}, "about: dx is 'far', expected a number"),
    ],
    ids=str,
)
def test_a_key_of_another_type_is_refused_with_file_row_and_test(keys, message):
    with pytest.raises(ChecksError, match=f"^shop/checks.toml: check 'dim-030' of test_dim: {message}"):
        read(**keys)


def test_a_key_that_is_not_declared_is_refused_with_all_that_are_known():
    given = replace(ROW, keys={"strenght": 0.3, "zeal": 1})
    with pytest.raises(ChecksError) as refusal:
        with_keys(given, declared_keys({"strength": float}, test=""), path=FILE, test="t")
    assert str(refusal.value) == (
        "shop/checks.toml: check 'dim-030' of t: unknown key 'strenght'; known are class, direction, family, hand, id, "
        "metric, informational, panel, pose, role, significance, and what the test declares: strength"
    )
    with pytest.raises(ChecksError, match=r"and what the test declares: none$"):
        with_keys(replace(ROW, keys={"strenght": 0.3}), {}, path=FILE, test="t")


@pytest.mark.parametrize("name", ["pose", "class_name", "class", "definition", "binding", "judge", "id"])
def test_a_key_named_like_something_of_every_row_cannot_be_declared(name):
    with pytest.raises(ChecksError, match=f"^test_dim declares a key '{name}', but every row has something of this"):
        declared_keys({"strength": float, name: str}, test="test_dim")


def test_what_no_test_declares_is_no_attribute_and_says_how_it_would_be():
    with pytest.raises(
        AttributeError, match=r"check dim-030: 'strength' is no key .* @check\(\"family\", strength=float\)"
    ):
        _ = ROW.strength
