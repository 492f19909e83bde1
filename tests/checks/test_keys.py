"""A row's own keys.

Its stress test declares them, with types and words, and whatever else a row says is refused.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from harness.checks import Check, ChecksError, Key, Share, one_of
from harness.checks.rows import declared_keys
from harness.perturb import Pose

FILE = Path("shop/checks.toml")
ROW = Check("dim-030", "dim", "accuracy")
STRENGTH = Key("strength", Share, "{:.0%} of the light taken away")
LAMP, PAIR = Key("lamp", one_of(["bulb", "sun"])), Key("pair", tuple[str, str], " and ".join)
ABOUT, ONLY = Key("about", Pose), Key("only", Literal["wrong"])
SIZE, FACTOR = Key("size", int), Key("factor", float)
DECLARED = declared_keys([STRENGTH, LAMP, PAIR, ABOUT, ONLY, SIZE, FACTOR], test="test_dim")


def read(**keys):
    return replace(ROW, keys=keys).with_keys(DECLARED, path=FILE, test="test_dim")


def test_a_check_has_the_values_and_words_of_its_keys():
    check = read(strength=0.3, lamp="sun", pair=["a", "b"], about={"dx": 2}, factor=2)
    assert [check[key] for key in (STRENGTH, LAMP, PAIR, ABOUT, FACTOR)] == [
        0.3,
        "sun",
        ("a", "b"),
        Pose(dx=2.0),
        2.0,
    ]
    assert (check[ONLY], check[SIZE]) == (None, None)
    assert read(pair=["a", "b"], strength=0.3).words == ("30% of the light taken away", "a and b")
    assert read().words == ()
    assert read(lamp="sun").words == ("sun",), "a key without words has its value"
    given = replace(ROW, keys={"pair": ["a", "b"]})
    assert given.with_keys(DECLARED, path=FILE, test="test_dim").definition == given.definition


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
    with pytest.raises(
        ChecksError, match=f"^shop/checks.toml: check 'dim-030' of test_dim: {message}"
    ):
        read(**keys)


@pytest.mark.parametrize("name", ["pose", "class_name", "class", "definition", "id"])
def test_a_key_named_like_something_of_every_row_cannot_be_declared(name):
    with pytest.raises(
        ChecksError,
        match=f"^test_dim declares a key '{name}', but every check has something of this",
    ):
        declared_keys([STRENGTH, Key(name, str)], test="test_dim")


def test_only_keys_can_be_declared_and_each_of_them_once():
    with pytest.raises(
        ChecksError, match=r"^test_dim declares <class 'float'>; expected a key such as Key"
    ):
        declared_keys([float], test="test_dim")
    with pytest.raises(ChecksError, match=r"^test_dim declares the key 'strength' twice"):
        declared_keys([STRENGTH, Key("strength", float)], test="test_dim")
    with pytest.raises(
        ChecksError,
        match=r"check dim-030: the test reads the key 'strength' and does not declare it",
    ):
        _ = ROW[STRENGTH]
    given = replace(ROW, keys={"strenght": 0.3, "zeal": 1})
    with pytest.raises(ChecksError) as refusal:
        given.with_keys([Key("strength", float)], path=FILE, test="t")
    assert str(refusal.value) == (
        "shop/checks.toml: check 'dim-030' of t: unknown key 'strenght'; known are class, "
        "direction, family, hand, id, informational, metric, panel, pose, reason, role, "
        "significance, tolerance, and those that the test declares: strength"
    )
    with pytest.raises(ChecksError, match=r"(?m)and those that the test declares: none$"):
        replace(ROW, keys={"strenght": 0.3}).with_keys([], path=FILE, test="t")
