"""Rows to copy from a report are valid rows of the same measurement."""

import itertools
from pathlib import Path

import pytest

from harness.checks import read_checks
from harness.checks.copied import copied, of_pair

SHIPPED = Path(__file__).parents[2] / "stress_tests/checks.toml"
CHECKS = {check.id: check for check in read_checks(SHIPPED).written}


def added(rows: str, folder: Path):
    """Return the checks that these rows add to the shipped file."""
    (folder / "checks.toml").write_text(f"{SHIPPED.read_text()}\n{rows}")
    return [
        check for check in read_checks(folder / "checks.toml").written if check.id not in CHECKS
    ]


def test_each_shipped_check_can_be_copied(tmp_path):
    found = added("\n".join(copied(check) for check in CHECKS.values()), tmp_path)
    assert [check.id for check in found] == [f"{name}-copy" for name in CHECKS]
    for one, check in zip(found, CHECKS.values(), strict=True):
        assert (one.family, one.metric, one.role, one.pose, one.class_name) == (
            *(check.family, check.metric, check.role, check.pose, check.class_name),
        )
        assert {**one.keys} == {**check.keys}
        assert (one.panel, one.hand) == (None, check.hand)


@pytest.mark.parametrize("names", [("Bag", "Sneaker"), ('a "quoted" one', "ünï\n"), ("9", "10")])
def test_a_confusion_becomes_a_check_of_its_pair(names, tmp_path):
    (check,) = added(of_pair(*names, (0, 1)), tmp_path)
    assert (check.family, check.metric, tuple(check.keys["pair"])) == (
        "pairs",
        "pair_failures",
        names,
    )


def test_pairs_have_ids_of_their_own_whatever_the_names(tmp_path):
    names = ("猫", "犬", "Ä", "ä", "a b", "a-b")
    pairs = list(itertools.permutations(range(len(names)), 2))
    found = added(
        "\n".join(of_pair(names[one], names[two], (one, two)) for one, two in pairs), tmp_path
    )
    assert [tuple(check.keys["pair"]) for check in found] == [
        (names[one], names[two]) for one, two in pairs
    ]
