"""Few reference models.

How checks borrow strength, where they may not, and how seldom a healthy network fails.
"""

from dataclasses import replace

import numpy as np
import pytest
from panels import calibrate
from scipy import special, stats

from harness.base.errors import InputError
from harness.calibration.moderated_variance import CHECK_DF, INFLATION, moderated_variances
from harness.calibration.panel import Chance, Panel, ReferenceModel
from harness.calibration.summary import plan_lines
from harness.calibration.thresholds import thresholds_of
from harness.measures import Unit
from harness.measures.metric import packed, unpacked
from harness.measures.panel.threshold import PanelCheck
from harness.networks.training import Epoch, write_history
from harness.perturb import PROTOCOL

ROWS, N = 8, 10_000
STD = 0.0017
"""Spread of reference models: chance alone, times the inflation found."""
CHANCE = STD**2 / INFLATION


def panel_of(values, chance=CHANCE, *, rest=None, answers=True, metric="accuracy", unit=Unit.SHARE):
    """Return a panel of one family, (K, checks), whose checks have this variance by chance."""
    checks = tuple(
        PanelCheck(f"check-{at}", "rotation", metric, unit, "at_least", N)
        for at in range(len(values[0]))
    )
    models = tuple(
        ReferenceModel(
            f"{number}.safetensors",
            f"{number}",
            number,
            {check.id: float(x) for check, x in zip(checks, of, strict=True)},
        )
        for number, of in enumerate(values)
    )
    known = {check.id: Chance(chance, rest, answers) for check in checks} if chance else {}
    return Panel("data", PROTOCOL, {}, checks, models, None, known)


def reference(reference_models, seed=0, std=STD, checks=ROWS):
    return np.random.default_rng(seed).normal(0.92, std, (reference_models, checks))


def test_variances_are_smyths_between_the_rows_own_and_the_prior():
    values = reference(3)
    found = moderated_variances(values, np.full(ROWS, CHANCE), np.zeros(ROWS))
    own = values.var(axis=0, ddof=1)
    prior = (found.variance * (CHECK_DF + 2) - 2 * own) / CHECK_DF
    assert prior == pytest.approx(np.full(ROWS, prior[0]), rel=1e-9), "one inflation for the family"
    assert prior[0] == pytest.approx(STD**2, rel=0.3)
    loss = np.array([0, 0.02, 0.05, 0.1, 0.4])
    found = moderated_variances(reference(3, checks=5), np.full(5, CHANCE), loss)
    assert (np.diff(found.prior_df[1:]) < 0).all()
    assert found.prior_df[0] == CHECK_DF
    assert (np.diff(found.variance) > 0).all()
    assert found.prior_df[-1] == pytest.approx(3, abs=0.1)
    values = reference(6)
    found = moderated_variances(values, np.full(ROWS, np.nan), np.zeros(ROWS))
    assert found.variance == pytest.approx(values.var(axis=0, ddof=1))
    assert found.df(6) == pytest.approx(np.full(ROWS, 5.0))


def with_variance(variance, count=5):
    """Return values, (count, 1), with exactly this variance."""
    steps = np.linspace(-1, 1, count)
    return (0.9 + np.sqrt(variance) * steps / steps.std(ddof=1))[:, None]


@pytest.mark.parametrize(("chance_of_it", "keeps"), [(0.002, True), (0.0005, False)])
def test_a_spread_of_one_panel_in_1000_contradicts_the_prior_of_a_row(chance_of_it, keeps):
    """Under a shift that says nothing of the family's inflation: the prior is known beforehand."""
    shift = (0.074 * 0.1) ** 2
    by_chance = (prior := 1.6 * CHANCE + shift) and 1.6 * CHANCE / prior
    worth = 1 / (by_chance**2 / CHECK_DF + (1 - by_chance) ** 2 / 3)
    values = with_variance(prior * stats.f.isf(chance_of_it, 4, worth))
    found = moderated_variances(values, np.full(1, CHANCE), np.full(1, 0.1))
    assert found.prior_df == pytest.approx([worth if keeps else 0.0])


def test_a_check_that_contradicts_its_prior_says_nothing_about_its_family():
    """One odd check among eight: the others keep the thresholds that they have without it."""
    values = reference(3)
    values[2, 0] -= 0.03
    odd = moderated_variances(values, np.full(ROWS, CHANCE), np.zeros(ROWS))
    without = moderated_variances(values[:, 1:], np.full(ROWS - 1, CHANCE), np.zeros(ROWS - 1))
    assert odd.prior_df[0] == 0
    assert odd.variance[1:] == pytest.approx(without.variance)
    others = range(1, ROWS)
    each = np.full(ROWS, 0.0004 / (ROWS - 1))
    k = odd.multipliers(each, 3, others)[1:]
    assert k == pytest.approx(without.multipliers(each[1:], 3, range(ROWS - 1)))


def test_the_inflation_lies_between_the_usual_and_the_rows_own():
    """8 degrees of freedom for 1.6, and (K - 1) for each of the checks, three at most."""
    values = np.tile(with_variance(2.4 * CHANCE), (1, 5))
    found = moderated_variances(values, np.full(5, CHANCE), np.zeros(5))
    inflation = (8 * 1.6 + 3 * 4 * 2.4) / (8 + 3 * 4)
    assert found.variance == pytest.approx(
        np.full(5, (CHECK_DF * inflation + 4 * 2.4) / (CHECK_DF + 4) * CHANCE)
    )
    half = np.sqrt(0.5 * 1.6 * CHANCE) / 0.074
    inflation_df = [
        moderated_variances(
            reference(5, checks=1), np.full(1, CHANCE), np.full(1, loss)
        ).inflation_df
        for loss in (0.99 * half, half * 1.01)
    ]
    assert inflation_df == [8 + 4, 8]


@pytest.mark.parametrize("sharing", [range(ROWS), range(3)], ids=["all", "some"])
def test_a_family_uses_its_part_although_its_rows_share_an_inflation(sharing):
    found, share = (
        moderated_variances(reference(1), np.full(ROWS, CHANCE), np.zeros(ROWS)),
        0.005 / 12,
    )
    each = np.full(ROWS, share / len(sharing))
    k, rng, draws = found.multipliers(each, 1, sharing), np.random.default_rng(0), 200_000
    inflation, own = (
        8 / rng.chisquare(8, (draws, 1)),
        CHECK_DF / rng.chisquare(CHECK_DF, (draws, len(sharing))),
    )
    missed = 1 - np.prod(special.ndtr(k[: len(sharing)] / np.sqrt(inflation * own)), axis=1)
    assert missed.mean() == pytest.approx(share, rel=0.1)
    assert (k < stats.t.isf(share / len(sharing), found.df(1))).all(), (
        "equal parts take the checks for independent"
    )


def test_a_row_of_few_retrains_without_a_prior_is_reported_and_says_why():
    panel = panel_of(np.hstack([reference(3), reference(3)]))
    unknown = Panel(
        *(
            getattr(panel, name)
            for name in ("data_sha256", "protocol", "recipe", "checks", "models")
        ),
        None,
        {
            check.id: chance
            for check, chance in list(zip(panel.checks, panel.chance.values(), strict=True))[:ROWS]
        },
    )
    items = calibrate(unknown)
    assert [bool(item.informational) for item in items] == [False] * ROWS + [True] * ROWS
    assert (
        items[-1].informational
        == "three reference models cannot show how much models differ here; eight can"
    )
    assert not calibrate(panel_of(reference(1)))[0].informational
    assert calibrate(panel_of(reference(1), answers=False))[0].informational


@pytest.mark.parametrize(("reference_models", "judged"), [(3, [True, False]), (8, [True, True])])
def test_a_count_that_images_add_to_twice_is_no_poissons(reference_models, judged):
    """As what is lost over many corners.

    Few reference models do not show how it spreads, and chance does not know.
    """
    counts = np.random.default_rng(1).poisson(100, (reference_models, 2))
    panel = panel_of(counts, chance=None, metric="consensus_set_errors", unit=Unit.IMAGES)
    checks = tuple(replace(check, direction="at_most", scale="root") for check in panel.checks)
    panel = replace(panel, checks=checks, chance={checks[1].id: Chance(90.0, None, answers=False)})
    items = thresholds_of(panel)
    assert [not item.informational for item in items] == judged


def test_chance_is_what_independent_errors_make_of_a_mean():
    rng = np.random.default_rng(0)
    right = rng.random((3, 4_000)) < (rights := rng.choice([0.05, 0.5, 0.99], 4_000))
    entries = [
        {"id": "clean", "unit": "share", "each": packed(each), "rest": 0.9} for each in right
    ]
    expected = (rights * (1 - rights)).sum() / 4_000**2
    found = Chance.of(entries)
    assert found.variance == pytest.approx(expected, rel=0.1)
    assert (found.rest, found.answers) == (pytest.approx(0.9), True)
    counted = Chance.of([{**entry, "unit": "images"} for entry in entries])
    assert counted.variance == pytest.approx(expected * 4_000**2, rel=0.1)
    assert Chance.of([{**entries[0], "each": ""}, entries[1]]) is None
    right = np.arange(1_000) % 4 > 0
    found = Chance.of([{"id": "clean", "unit": "share", "each": packed(right)}])
    assert found.variance == pytest.approx(0.4 * 0.75 * 0.25 / 1_000)
    entries = [
        {"id": "clean", "unit": "share", "each": packed(np.ones(n, dtype=bool))} for n in (5, 6)
    ]
    with pytest.raises(InputError, match="check clean: networks have different numbers of images"):
        Chance.of(entries)


@pytest.mark.parametrize(
    "each",
    [np.arange(11) % 3 == 0, np.array([-1, 0, 1], dtype=np.int8), np.array([0.25, 3.5])],
    ids=["yes", "gain", "real"],
)
def test_contributions_survive_the_way_between_processes(each):
    assert unpacked(packed(each)).tolist() == each.tolist()


@pytest.mark.parametrize(
    "text", ["", "not packed", packed(np.ones(3, dtype=np.int8))[:-9], packed(np.ones(3))[9:]]
)
def test_contributions_that_are_none_are_told(text):
    with pytest.raises(InputError, match="contributions of images"):
        unpacked(text)


def test_a_plan_says_what_training_takes_by_what_it_took(tmp_path):
    def at_hand(seconds):
        models = []
        for number, of_one in enumerate(seconds):
            path = tmp_path / f"seed-{number}.safetensors"
            write_history(path, tuple(Epoch(epoch, 1.0, 0.5, 1.0, 0.5, of_one) for epoch in (1, 2)))
            models.append(replace(panel.models[number], path=str(path)))
        return replace(panel, models=tuple(models))

    panel = panel_of(reference(3))
    assert "which takes" not in "".join(plan_lines(panel)), "nothing tells"
    lines = plan_lines(at_hand([110.0, 120.0, 130.0]))
    assert lines[-3].split()[-4:] == ["0", "2", "5", "17"]
    assert lines[-2].split()[:7] == ["which", "takes,", "at", "4", "min", "each", "-"]
    assert lines[-2].split()[7:] == ["8", "min", "20", "min", "68", "min"]
    assert "which takes" not in "".join(plan_lines(at_hand([None, None, None])))
