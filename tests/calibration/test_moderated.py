"""Few retrains: how rows borrow strength, what they may not borrow, and how seldom a healthy network then fails."""

import numpy as np
import pytest
from scipy import stats

from harness.calibration.bounds import calibrate
from harness.calibration.chance import chance_of
from harness.calibration.moderated import INFLATION, ROW_DF, moderated
from harness.calibration.panel import Chance, Member, Panel, Row
from harness.calibration.plan import plan_lines
from harness.errors import InputError
from harness.measures import Unit
from harness.measures.contributions import packed, unpacked
from harness.perturb import PROTOCOL

ROWS, N = 8, 10_000
STD = 0.0017
"""Of healthy retrains: what chance alone makes of it, inflated as it is found to be."""
CHANCE = STD**2 / INFLATION


def panel_of(values, chance=CHANCE, *, rest=None, answers=True, metric="accuracy", unit=Unit.SHARE):
    """Return a panel of one family, (K, rows), whose rows have this variance by chance."""
    rows = tuple(Row(f"row-{at}", "rotation", metric, unit, "at_least", N) for at in range(len(values[0])))
    members = tuple(
        Member(
            f"{number}.safetensors", f"{number}", number, {row.id: float(x) for row, x in zip(rows, of, strict=True)}
        )
        for number, of in enumerate(values)
    )
    known = {row.id: Chance(chance, rest, answers) for row in rows} if chance else {}
    return Panel("data", PROTOCOL, {}, rows, members, None, known)


def healthy(retrains, seed=0, std=STD, rows=ROWS):
    return np.random.default_rng(seed).normal(0.92, std, (retrains, rows))


def test_variances_are_smyths_between_the_rows_own_and_the_prior():
    values = healthy(3)
    found = moderated(values, np.full(ROWS, CHANCE), np.zeros(ROWS))
    own = values.var(axis=0, ddof=1)
    prior = (found.variance * (ROW_DF + 2) - 2 * own) / ROW_DF
    assert prior == pytest.approx(np.full(ROWS, prior[0]), rel=1e-9), "one inflation for the family"
    assert prior[0] == pytest.approx(STD**2, rel=0.3)


def test_many_retrains_speak_for_themselves():
    values = healthy(4_000, std=2 * STD)
    found = moderated(values, np.full(ROWS, CHANCE), np.zeros(ROWS))
    assert np.sqrt(found.variance) == pytest.approx(values.std(axis=0, ddof=1), rel=0.02)


def test_a_family_that_differs_far_more_than_by_chance_has_no_prior():
    found = moderated(healthy(5, std=12 * STD), np.full(ROWS, CHANCE), np.zeros(ROWS))
    assert not found.worth.any()
    assert found.df(5) == pytest.approx(np.full(ROWS, 4.0))


def test_a_row_that_its_own_values_contradict_has_no_prior_and_the_others_keep_theirs():
    values = healthy(5)
    values[:, 3] = np.linspace(0.85, 0.95, 5)
    found = moderated(values, np.where(np.arange(ROWS) == 3, 1, 1) * CHANCE, np.arange(ROWS) * 0 + 0.0)
    assert found.worth[3] == 0 or not found.worth.any()
    assert found.variance[3] >= values[:, 3].var(ddof=1) * 0.99


def test_what_a_strong_shift_moves_is_trusted_less_the_more_it_costs():
    loss = np.array([0, 0.02, 0.05, 0.1, 0.4])
    found = moderated(healthy(3, rows=5), np.full(5, CHANCE), loss)
    assert (np.diff(found.worth) < 0).all()
    assert (np.diff(found.variance) > 0).all()
    assert found.worth[-1] == pytest.approx(3, abs=0.1)


def test_without_what_chance_does_nothing_is_borrowed():
    values = healthy(6)
    found = moderated(values, np.full(ROWS, np.nan), np.zeros(ROWS))
    assert found.variance == pytest.approx(values.var(axis=0, ddof=1))
    assert found.df(6) == pytest.approx(np.full(ROWS, 5.0))


@pytest.mark.parametrize("retrains", [1, 3, 8])
def test_a_healthy_network_misses_a_floor_no_more_often_than_promised(retrains):
    """By simulation, with inflations that differ between families and rows as much as the prior says."""
    rng, share, draws = np.random.default_rng(retrains), 0.01 / 12, 1_000
    missed = 0.0
    for _ in range(draws):
        std = np.sqrt(16 / rng.chisquare(16)) * np.sqrt(ROW_DF / rng.chisquare(ROW_DF, ROWS))
        values = std * rng.normal(0, 1, (retrains, ROWS))
        found = moderated(values, np.full(ROWS, 1 / INFLATION), np.zeros(ROWS))
        k = stats.t.isf(share / ROWS, found.df(retrains))
        floors = values.mean(axis=0) - k * np.sqrt(found.variance * (1 + 1 / retrains))
        missed += 1 - np.prod(1 - stats.norm.cdf(floors / std))
    assert missed / draws < 1.1 * share


def test_three_retrains_notice_nearly_what_twenty_do():
    losses = {
        retrains: np.median([item.detects for item in calibrate(panel_of(healthy(retrains)), {"rotation": 1.0})])
        for retrains in (3, 20)
    }
    assert losses[3] < 1.7 * losses[20]


def test_a_row_of_few_retrains_without_a_prior_is_reported_and_says_why():
    panel = panel_of(np.hstack([healthy(3), healthy(3)]))
    unknown = Panel(
        *(getattr(panel, name) for name in ("data_sha256", "protocol", "recipe", "rows", "members")),
        None,
        {row.id: chance for row, chance in list(zip(panel.rows, panel.chance.values(), strict=True))[:ROWS]},
    )
    items = calibrate(unknown, {"rotation": 1.0})
    assert [bool(item.not_gated) for item in items] == [False] * ROWS + [True] * ROWS
    assert "cannot be known from 3" in items[-1].not_gated


def test_one_network_gates_by_its_yes_and_no_alone():
    assert not calibrate(panel_of(healthy(1)), {"rotation": 1.0})[0].not_gated
    assert calibrate(panel_of(healthy(1), answers=False), {"rotation": 1.0})[0].not_gated


def test_few_retrains_of_which_nothing_is_known_image_by_image_give_no_floors():
    with pytest.raises(InputError, match=r"a panel of 7 retrains is too small .* image by image: at least 8"):
        calibrate(panel_of(healthy(7), chance=None), {})


def test_chance_is_what_independent_errors_make_of_a_mean():
    rng = np.random.default_rng(0)
    right = rng.random((3, 4_000)) < (rights := rng.choice([0.05, 0.5, 0.99], 4_000))
    entries = [{"id": "clean", "unit": "share", "each": packed(each), "rest": 0.9} for each in right]
    expected = (rights * (1 - rights)).sum() / 4_000**2
    found = chance_of(entries)
    assert found.variance == pytest.approx(expected, rel=0.1)
    assert (found.rest, found.answers) == (pytest.approx(0.9), True)
    counted = chance_of([{**entry, "unit": "images"} for entry in entries])
    assert counted.variance == pytest.approx(expected * 4_000**2, rel=0.1)
    assert chance_of([{**entries[0], "each": ""}, entries[1]]) is None


def test_networks_that_tell_of_different_images_are_refused():
    entries = [{"id": "clean", "unit": "share", "each": packed(np.ones(n, dtype=bool))} for n in (5, 6)]
    with pytest.raises(InputError, match="row clean: networks tell of different numbers of images"):
        chance_of(entries)


@pytest.mark.parametrize(
    "each",
    [np.arange(11) % 3 == 0, np.array([-1, 0, 1], dtype=np.int8), np.array([0.25, 3.5])],
    ids=["yes", "gain", "real"],
)
def test_contributions_survive_the_way_between_processes(each):
    assert unpacked(packed(each)).tolist() == each.astype(float).tolist()


@pytest.mark.parametrize(
    "text", ["", "bool 3 ?", "int8 99 " + packed(np.ones(3, dtype=np.int8)).split()[2], "text 1 abc", "bool x y z"]
)
def test_contributions_that_are_none_are_told(text):
    with pytest.raises(InputError, match="contributions of images"):
        unpacked(text)


def test_a_plan_counts_what_would_gate_and_what_is_to_be_trained():
    lines = plan_lines(panel_of(healthy(3)), {"rotation": 0.012})
    assert lines[0].split("detected")[1].split() == [
        "3",
        "retrains",
        "5",
        "retrains",
        "8",
        "retrains",
        "20",
        "retrains",
    ]
    gated = [int(cell) for cell in lines[-2].split()[3:]]
    assert gated == sorted(gated)
    assert gated[0] < gated[-1] == ROWS
    assert lines[-1].split()[-4:] == ["0", "2", "5", "17"]
