"""The benchmark of fine-tunings: its split of the pictures, its recipes, and values that depend on the panel."""

import numpy as np
import pytest

from benchmarks.transfer.pictures import TEST_EMOJI, VENDORS, Emoji, halves, slug_of
from benchmarks.transfer.recipes import HEALTHY, RECIPES, Recipe, labels_of, pictures_of
from benchmarks.transfer.splits import asked_of, of_panel, regressed

CLASSES = ["animals", "food"]
LABELS = np.repeat([0, 1], [6, 4])


def test_all_pictures_of_an_emoji_are_on_one_side():
    drawn = dict.fromkeys(VENDORS)
    emoji = [Emoji(f"{n:04X}", "food", drawn if n % 20 else {"google": None}) for n in range(TEST_EMOJI + 100)]
    learnt, tested = halves(emoji)
    assert len(tested) == TEST_EMOJI
    assert {each.code for each in tested}.isdisjoint(each.code for each in learnt)
    assert all(len(each.files) == len(VENDORS) for each in tested)


@pytest.mark.parametrize(
    ("name", "slug"), [("Food & Drink", "food-drink"), ("man’s shoe", "mans-shoe"), ("A button", "a-button")]
)
def test_a_name_becomes_the_name_of_a_file(name, slug):
    assert slug_of(name) == slug


def test_a_recipe_changes_only_what_it_names():
    vendors = np.array(["fluent", "google"] * 5)
    assert pictures_of(Recipe("plain", 1), LABELS, vendors, CLASSES).tolist() == list(range(10))
    assert pictures_of(Recipe("x", 1, without_vendor="fluent"), LABELS, vendors, CLASSES).tolist() == [1, 3, 5, 7, 9]
    halved = pictures_of(Recipe("x", 1, halved_class="food"), LABELS, vendors, CLASSES)
    assert [int((LABELS[halved] == label).sum()) for label in (0, 1)] == [6, 2]
    assert (labels_of(Recipe("x", 1, wrong_labels=0.2), LABELS, 2) != LABELS).sum() == 2


def test_networks_have_a_name_each_and_twelve_are_sound():
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    assert sum(recipe.kind == HEALTHY for recipe in RECIPES) >= 12


def row(family, metric, of_class=None, **keys):
    return asked_of({"id": "row", "family": family, "metric": metric, "class": of_class, "keys": keys}, LABELS, CLASSES)


def test_reference_models_are_counted_as_a_calibration_counts_them():
    wrong = np.zeros((3, 10), dtype=bool)
    wrong[0, [0, 1, 6]] = wrong[1, [1, 2]] = True
    assert of_panel(row("consensus", "consensus_set_errors"), wrong, LABELS) == pytest.approx([4 / 3, 2 / 3, 0])
    assert of_panel(row("consensus", "worst_class_consensus_set_errors"), wrong, LABELS) == [1, 1, 0]
    assert of_panel(row("flips", "negative_flips"), wrong, LABELS) == [2, 2, 0]
    assert of_panel(row("flips", "negative_flips", "food"), wrong, LABELS) == [1, 0, 0]
    among = row("flips", "negative_flips", among="consensus")
    assert of_panel(among, wrong, LABELS) == pytest.approx([1, 0.5, 0])


def test_only_a_clear_loss_fails_against_the_incumbent():
    right = np.ones(1_000, dtype=bool)
    assert not regressed(np.arange(1_000) < 10, right)
    assert regressed(np.arange(1_000) < 30, right)
