"""The benchmark of few reference models: what it keeps of networks, and how it draws them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.few.__main__ import digits, table_of
from benchmarks.few.consensus import Asked, asked, consensus_table
from benchmarks.few.splits import Networks, draws, panel_of, split
from benchmarks.few.stored import Answers, distances_of, read_answers, read_distances, with_answers
from harness.base.errors import InputError
from harness.calibration.panel import Chance, Panel
from harness.measures import Unit
from harness.measures.metric import packed
from harness.measures.panel.collection import ReferencePredictions
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import PROTOCOL

N, NETWORKS = 900, 6
NAMES = tuple(f"seed-{number}" for number in range(1, NETWORKS + 1))
ROWS = (
    PanelCheck("clean", "clean", "accuracy", Unit.SHARE, "at_least", N),
    PanelCheck("wrong", "confidence", "confident_errors", Unit.IMAGES, "at_most", N),
)


def entry(row, right, *, images=False):
    of_rest = None if images else 0.95
    value = float(right.sum() if images else right.mean())
    return {
        "id": row,
        "value": value,
        "unit": "images" if images else "share",
        "each": packed(right),
        "rest": of_rest,
    }


@pytest.fixture(scope="module")
def measured():
    rights = np.random.default_rng(0).choice([0.3, 0.9, 0.99], N)
    answers = np.random.default_rng(1).random((NETWORKS, N)) < rights
    return [
        [
            entry("clean", each),
            entry("wrong", ~each, images=True),
            {**entry("mute", each), "each": ""},
        ]
        for each in answers
    ]


def networks_of(measured):
    nobody = np.empty((0, len(ROWS)))
    panel = Panel("data", PROTOCOL, {}, ROWS, ())
    return Networks(panel, distances_of(NAMES, measured), frozenset(), nobody, nobody)


@pytest.mark.parametrize(
    "chosen", [[0, 1], [1, 3, 5], list(range(NETWORKS))], ids=["two", "three", "all"]
)
def test_chance_of_any_networks_is_told_by_what_two_and_two_differ_by(measured, chosen):
    found = panel_of(networks_of(measured), np.array(chosen)).chance
    for at, row in enumerate(ROWS):
        expected = Chance.of([measured[network][at] for network in chosen])
        assert found[row.id].variance == pytest.approx(expected.variance, rel=1e-9)
        assert (found[row.id].rest, found[row.id].answers) == (
            pytest.approx(expected.rest),
            expected.answers,
        )


def test_of_one_network_chance_is_told_by_its_yes_and_no(measured):
    found = panel_of(networks_of(measured), np.array([2])).chance["clean"]
    assert found.variance == pytest.approx(Chance.of([measured[2][0]]).variance, rel=1e-9)


def test_what_is_kept_is_what_was_measured(measured, tmp_path):
    found = distances_of(NAMES, measured)
    assert set(found.values) == {"clean", "wrong", "mute"}, (
        "a row that tells nothing image by image has its values"
    )
    found.write(tmp_path / "kept.json")
    kept = read_distances(tmp_path / "kept.json")
    assert (kept.networks, kept.answers) == (found.networks, found.answers)
    for row, values in found.chance.items():
        assert kept.chance[row] == pytest.approx(values, rel=1e-2)
    assert {row: values.tolist() for row, values in kept.values.items()} == {
        row: values.tolist() for row, values in found.values.items()
    }


def test_networks_held_out_are_all_but_those_that_calibrate(measured):
    found = split(networks_of(measured), np.array([0, 2, 4]))
    assert found.held == ("seed-2", "seed-4", "seed-6")
    worse = networks_of(measured)
    bad = replace(worse, healthy=np.array([[0.2, 700.0], [np.nan, np.nan]]))
    assert split(bad, np.array([0, 2, 4])).alarms.tolist()[-2:] == [True, False]


@pytest.mark.parametrize(
    ("count", "size", "splits", "expected"),
    [(20, 1, 1_000, 20), (20, 2, 1_000, 190), (20, 20, 1_000, 1), (20, 3, 50, 50)],
)
def test_sets_are_all_different_and_all_there_are_if_few(count, size, splits, expected):
    drawn = draws(count, size, splits)
    assert len({tuple(chosen) for chosen in drawn}) == len(drawn) == expected
    assert all(len(set(chosen)) == size for chosen in drawn)
    assert [tuple(chosen) for chosen in draws(count, size, splits)] == [
        tuple(chosen) for chosen in drawn
    ]


def answer(name, wrong):
    positions, shares = np.arange(len(wrong)), np.ones((len(wrong), 1))
    return ReferencePredictions(
        name,
        positions,
        np.array(wrong, dtype=bool),
        shares[:, 0],
        np.zeros_like(shares),
        shares,
        ("a", "b"),
    )


def test_answers_are_kept_by_view_and_those_of_others_stay(tmp_path):
    first = with_answers(
        None, {"one": [answer("tilted", [1, 0]), answer("as they are", [0, 0, 1])]}
    )
    first.write(tmp_path / "answers.json")
    both = with_answers(
        read_answers(tmp_path / "answers.json"),
        {"two": [answer("as they are", [1, 1, 1]), answer("tilted", [0, 1])]},
    )
    assert set(both.wrong) == {"one", "two"}
    assert both.wrong["one"][both.of_view("tilted")].tolist() == [True, False]
    assert both.wrong["two"][both.of_view("tilted")].tolist() == [False, True]
    assert both.wrong["one"][both.of_view("as they are")].tolist() == [False, False, True]
    with pytest.raises(InputError, match="two: was asked about other images"):
        with_answers(None, {"one": [answer("tilted", [1, 0])], "two": [answer("tilted", [1])]})


def test_what_is_lost_of_a_consensus_is_counted_by_row_and_by_class():
    rows = tuple(
        PanelCheck(name, "consensus", name, Unit.IMAGES, "at_most", 6, scale="root")
        for name in ("consensus_set_errors", "worst_class_consensus_set_errors")
    )
    #                    known to both of the two that calibrate:  1  1  1  1  0  0
    reference = np.array([[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1], [1, 0, 1, 1, 1, 1]], dtype=bool)
    panel = Panel("data", PROTOCOL, {}, rows, ())
    networks = Asked(
        panel,
        rows,
        (np.arange(6),) * 2,
        {"worst_class_consensus_set_errors": np.array([0, 0, 1, 1, 0, 0])},
        {},
        reference,
        reference[:0],
    )
    thresholds, others, mutants, known = networks.split(np.array([0, 1]))
    assert known.tolist() == [True] * 4 + [False] * 2
    assert others.tolist() == [[3, 2]]
    assert mutants.shape == (0, 2)
    assert [item.mean for item in thresholds] == [1.0, 1.0], (
        "each of the two loses one image that the other knows"
    )


def test_the_repository_keeps_answers_of_whole_views():
    answers = Answers({"a": 3, "b": 2}, {})
    assert (answers.of_view("a"), answers.of_view("b")) == (slice(0, 3), slice(3, 5))


def test_a_consensus_of_all_twenty_is_that_of_the_shipped_panel():
    networks = asked()
    thresholds, others, _, _ = networks.split(np.arange(len(networks.healthy)))
    shipped = networks.panel.values(networks.rows).mean(axis=0)
    assert [item.mean for item in thresholds] == pytest.approx(shipped.tolist(), abs=0.5)
    assert others.shape == (0, len(networks.rows))


def test_the_table_of_kept_networks_has_a_line_for_each_number():
    lines = table_of(digits(), (3, 5), 2).splitlines()
    assert [line.split(" | ")[:2] for line in lines[-2:]] == [["| 3", "2"], ["| 5", "2"]]


def test_the_table_of_consensus_has_the_mean_threshold():
    def split_of(chosen):
        threshold = SimpleNamespace(informational=False, threshold=39.0)
        return [threshold], np.array([[2.0]]), np.empty((0, 1)), np.ones(4, dtype=bool)

    row = SimpleNamespace(id="consensus-clean")
    networks = SimpleNamespace(
        rows=[row], mutants=(), healthy=range(4), counted=[np.arange(4)], split=split_of
    )
    page = consensus_table(networks, 4, sizes=[3])
    assert "| 3 | 4 | 4 | 2.0 ± 0.0 | 39 | 1.0 | 0.00% | – |" in page
