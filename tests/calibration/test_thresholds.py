"""The decision rule keeps its promises.

How often a reference model fails, and which loss is noticed.

Probabilities are computed from known distributions or simulated here in another way than the
harness does it. Seeds are fixed; the tolerances are wide enough that other seeds would fail fewer
than one time in 10,000.
"""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from panels import calibrate, check, panel_of, spread_evenly
from scipy import stats

from harness.base.errors import InputError
from harness.calibration.panel import Chance, read_panel
from harness.calibration.summary import calibration_lines, expected, plan_lines, power_lines
from harness.calibration.thresholds import (
    check_panel,
    false_alarms,
    multiplier,
    outliers,
    thresholds_of,
)
from harness.checks import Threshold, read_checks
from harness.checks.edits import with_thresholds
from harness.measures import Unit
from harness.measures.panel.threshold import PanelCheck

CLEAN_SHARE, FAMILY_SHARE = 0.01 * 8 / 24, 0.01 / 24
"""The promise: a reference model fails any check at most once in a hundred, half for clean, half
for other families.
"""
SHIPPED = Path(__file__).parents[2]


def equicorrelated(checks: int, rho: float) -> np.ndarray:
    return np.full((checks, checks), rho) + (1 - rho) * np.eye(checks)


def student(share: float, reference_models: int) -> float:
    """Student's quantile."""
    return float(stats.t.isf(share, reference_models - 1))


@pytest.mark.parametrize("reference_models", [8, 20, 60])
@pytest.mark.parametrize("share", [0.005, FAMILY_SHARE])
def test_for_one_row_k_is_students_quantile(share, reference_models):
    k = multiplier(share, reference_models=reference_models)
    assert k == pytest.approx(student(share, reference_models), rel=1e-9)


@pytest.mark.parametrize("checks", [2, 10, 201, 1000])
@pytest.mark.parametrize("reference_models", [8, 20])
def test_for_independent_checks_k_is_that_of_the_largest_of_students(checks, reference_models):
    """P(all hold) is the product of what each check gives."""
    exact = student(-math.expm1(math.log1p(-FAMILY_SHARE) / checks), reference_models)
    k = multiplier(FAMILY_SHARE / checks, reference_models=reference_models)
    assert k == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(("rho", "least_share"), [(0.0, 0.0095), (0.4, 0.009), (0.8, 0.006)])
def test_k_of_correlated_rows_keeps_the_share_in_a_simulation(rho, least_share):
    """Means and standard deviations of a panel, from normal and Wishart distributions."""
    checks, reference_models, share, draws = 4, 12, 0.01, 200_000
    correlations = equicorrelated(checks, rho)
    k = multiplier(share / checks, reference_models=reference_models)
    rng = np.random.default_rng(7)
    scatter = stats.wishart.rvs(reference_models - 1, correlations, size=draws, random_state=rng)
    stds = np.sqrt(np.diagonal(scatter, axis1=1, axis2=2) / (reference_models - 1))
    covariance = correlations * (1 + 1 / reference_models)
    shortfall = rng.multivariate_normal(np.zeros(checks), covariance, size=draws)
    misses = (shortfall > k * stds * math.sqrt(1 + 1 / reference_models)).any(axis=1).mean()
    # The simulation has a standard error of sqrt(0.01 * 0.99 / 200,000) = 0.00022.
    assert least_share - 4 * 0.00022 < misses < share + 4 * 0.00022


def only(calibrated):
    (item,) = calibrated
    return item


def test_a_floor_lies_k_standard_deviations_of_prediction_below_the_mean():
    item = only(calibrate(panel_of(spread_evenly(0.9, 0.003), family="clean")))
    assert (item.mean, item.std, item.reference_models) == (
        pytest.approx(0.9),
        pytest.approx(0.003),
        20,
    )
    assert item.k == pytest.approx(k := student(CLEAN_SHARE, 20))
    assert item.threshold == pytest.approx(0.9 - k * 0.003 * math.sqrt(21 / 20), abs=1e-4)
    assert item.minimum_detectable_drop == pytest.approx(
        (k + 1.6449) * 0.003 * math.sqrt(21 / 20), abs=1e-6
    )
    drop = (3.5 + 1.6449) * 0.003 * math.sqrt(41 / 40)
    assert item.minimum_detectable_drop_with(3.5, 40) == pytest.approx(drop, rel=1e-4)
    assert item.informational == ""
    item = only(calibrate(panel_of([1.0] * 20)))
    assert (item.std, item.informational) == (1 / 10_000, "")
    missed = (1 - item.threshold) * 10_000
    assert missed == pytest.approx(
        math.ceil(student(FAMILY_SHARE, 20) * math.sqrt(21 / 20)), abs=1e-6
    )
    assert missed < 6, "a handful of wrong answers fails"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("facts", "mean", "std", "step"),
    [
        ({"unit": "share"}, 0.9, 0.003, 1e-4),
        ({"unit": "difference"}, 0.1, 0.003, 1e-4),
        ({"unit": "images"}, 400, 30, 0.1),
        ({"unit": "share", "direction": "at_most"}, 0.1, 0.003, 1e-4),
    ],
    ids=["threshold", "threshold-of-a-difference", "threshold-of-a-count", "threshold-of-a-share"],
)
def test_thresholds_are_rounded_outwards(facts, mean, std, step, seed):
    item = only(calibrate(panel_of(np.random.default_rng(seed).normal(mean, std, 12), **facts)))
    exact = item.mean - item.check.sign * item.k * item.std * math.sqrt(13 / 12)
    slack = item.check.sign * (exact - item.threshold)
    assert 0 <= slack < step
    assert item.threshold == pytest.approx(round(item.threshold / step) * step, abs=1e-9)


@pytest.mark.parametrize(("std", "counts"), [(1.0, 10.0), (9.9, 10.0), (15.0, 15.0)])
def test_a_count_spreads_at_least_like_its_square_root(std, counts):
    item = only(calibrate(panel_of(spread_evenly(100, std), family="pairs", unit="images")))
    assert item.std == pytest.approx(counts)


def test_rows_of_a_family_share_one_k_and_families_do_not():
    checks = (
        check("a"),
        check("b"),
        check("c"),
        check("clean", family="clean"),
        check("left", family="shift"),
    )
    panel = panel_of(np.random.default_rng(0).normal(0.9, 0.002, (10, 5)), checks)
    k = {item.check.id: item.k for item in calibrate(panel)}
    assert k["a"] == multiplier(FAMILY_SHARE / 3, reference_models=10)
    assert k["a"] == k["b"] == k["c"] > k["left"]
    assert k["left"] == pytest.approx(student(FAMILY_SHARE, 10))
    assert k["clean"] == pytest.approx(student(CLEAN_SHARE, 10))
    few, full, more = calibrated_with(3), calibrated_with(16), calibrated_with(17)
    assert [item.threshold for item in few] == [item.threshold for item in full[:3]]
    assert [item.k for item in more] == [pytest.approx(student(0.01 / 25, 20))] * 17
    assert 1 < more[0].k / full[0].k < 1.012


def test_weight_goes_to_confidence_and_to_the_log_loss_within_it():
    log_loss = replace(
        check("loss", family="confidence"), metric="negative_log_likelihood", unit=Unit.SCORE
    )
    checks = (
        replace(log_loss, direction="at_most"),
        check("a", family="confidence"),
        check("b", family="odd"),
    )
    panel = panel_of(np.random.default_rng(0).normal(0.3, 0.002, (10, 3)), checks)
    k = {item.check.id: item.k for item in calibrate(panel)}
    shares = {"loss": 4 * FAMILY_SHARE * 4 / 5, "a": 4 * FAMILY_SHARE / 5, "b": FAMILY_SHARE}
    assert k == {name: pytest.approx(student(share, 10)) for name, share in shares.items()}


@pytest.mark.parametrize(("std", "valid"), [(0.10, True), (0.12, False)])
def test_a_threshold_that_a_model_at_chance_level_keeps_does_not_judge(std, valid):
    panel = replace(panel_of(spread_evenly(0.8, std, 10)), classes=4)
    item = only(calibrate(panel))
    assert (item.threshold > 0.25) == valid
    expected = (
        ""
        if valid
        else f"a model at chance level, 0.250, keeps its threshold of {item.threshold:.3f}"
    )
    assert item.informational == expected
    assert not only(calibrate(replace(panel, classes=0))).informational, "of unknown classes"


@pytest.mark.parametrize("reason", ["outlier", "chance"])
def test_a_check_with_an_outlier_or_below_chance_is_as_calibrated(tmp_path, reason):
    """Its own mean, std and k do not show that, and nobody has edited the file."""
    checks = read_checks(SHIPPED / "stress_tests/checks.toml")
    panel = read_panel(SHIPPED / "models/panel.json", checks)
    if reason == "outlier":
        first, *others = panel.models
        panel = replace(
            panel, models=(replace(first, values=first.values | {"clean-bag": 0.80}), *others)
        )
    items = calibrate(panel)
    if reason == "chance":
        items = [
            replace(item, at_chance=0.99 if item.check.id == "clean-bag" else None)
            for item in items
        ]
    path = tmp_path / "checks.toml"
    path.write_text(
        with_thresholds(
            checks.path.read_text("utf-8"), items, recipe=checks.recipe, date="2026-12-02"
        )
    )
    written = read_checks(path)
    assert next(each for each in written.checks if each.id == "clean-bag").informational
    for each in written.checks:
        written.expect_as_calibrated(each)


def calibrated_with(families: int):
    """The thresholds of a panel with so many families of one check each."""
    checks = tuple(
        check(f"r{number:02}", family=f"family-{number:02}") for number in range(families)
    )
    return calibrate(
        panel_of(np.random.default_rng(0).normal(0.9, 0.002, (20, 20))[:, :families], checks)
    )


@pytest.mark.parametrize(
    "values",
    [
        [[1.0, 1.0]] * 4 + [[59 / 60, 59 / 60]] * 4,
        [[52 / 60, 53 / 60, 1.0]] * 10,
        [[0.95, 0.95, 0.9], [0.9, 0.9, 0.95]] * 5,
    ],
    ids=["equal-checks-of-two-values", "constant-checks", "opposite-checks"],
)
def test_rows_that_go_together_perfectly_can_be_calibrated(values):
    """Few images give few values, and checks that are nearly the same give the same ones."""
    reference_models = len(values)
    least, most = (student(share, reference_models) for share in (FAMILY_SHARE, FAMILY_SHARE / 3))
    for item in calibrate(panel_of(values, n=60)):
        assert least * 0.9 <= item.k <= most * 1.05
        assert item.threshold < item.mean


@pytest.fixture(scope="module")
def clean_thresholds():
    """The clean thresholds of 150 healthy panels of 20, of networks that reach 0.9 ± 0.005."""
    panels = [
        panel_of(v, family="clean", n=1_000_000)
        for v in np.random.default_rng(11).normal(0.9, 0.005, (150, 20))
    ]
    return [only(calibrate(panel)) for panel in panels if not outliers(panel).checks]


def test_a_healthy_retrain_fails_1_time_in_200_and_a_loss_95_in_100(clean_thresholds):
    """The exact chance that another model misses a threshold is the share, on average."""
    chances = stats.norm.cdf([item.threshold for item in clean_thresholds], 0.9, 0.005)
    error = chances.std() / math.sqrt(len(chances))
    assert error < CLEAN_SHARE / 5
    assert chances.mean() == pytest.approx(CLEAN_SHARE, abs=4 * error)
    caught = [
        stats.norm.cdf(item.threshold, 0.9 - item.minimum_detectable_drop, 0.005)
        for item in clean_thresholds
    ]
    assert np.mean(caught) == pytest.approx(0.95, abs=0.03)


def counted(values, **facts):
    return panel_of(
        values, (replace(check("lost", family="consensus", unit="images"), scale="root", **facts),)
    )


def test_a_ceiling_of_rare_things_lies_above_the_mean_of_their_roots():
    values = [4, 9, 12, 16, 20, 30, 12, 9]
    item = only(calibrate(counted(values)))
    roots = 2 * np.sqrt(np.array(values) + 3 / 8)
    ceiling = roots.mean() + student(FAMILY_SHARE, 8) * roots.std(ddof=1) * math.sqrt(9 / 8)
    assert item.threshold == pytest.approx((ceiling / 2) ** 2 - 3 / 8, abs=0.1)
    assert (item.mean, item.std) == (pytest.approx(14), pytest.approx(np.std(values, ddof=1)))
    noticed = ceiling + 1.6449 * roots.std(ddof=1) * math.sqrt(9 / 8)
    assert item.minimum_detectable_drop == pytest.approx(
        (noticed / 2) ** 2 - (roots.mean() / 2) ** 2, rel=1e-3
    )
    item = only(calibrate(counted([12] * 20)))
    ceiling = 2 * math.sqrt(12 + 3 / 8) + student(FAMILY_SHARE, 20) * math.sqrt(21 / 20)
    assert item.threshold == pytest.approx((ceiling / 2) ** 2 - 3 / 8, abs=0.1)


def test_a_panel_of_seven_is_refused_and_a_healthy_one_hardly_ever():
    said = (
        r"a panel of 7 reference models without .* is too small .*At least 8, better 20.*train more"
    )
    with pytest.raises(InputError, match=said):
        calibrate(panel_of(spread_evenly(0.9, 0.003, 7)))
    check_panel(panel_of(spread_evenly(0.9, 0.003, 8)))
    panels, rng, rho = 250, np.random.default_rng(1), 0.5
    common, own = rng.normal(size=(panels, 10, 1)), rng.normal(size=(panels, 10, 6))
    values = 0.9 + 0.003 * (math.sqrt(rho) * common + math.sqrt(1 - rho) * own)
    assert sum(bool(outliers(panel_of(panel)).checks) for panel in values) < 5


@pytest.mark.parametrize("value", [0.85, 0.95], ids=["worse", "better"])
def test_a_model_that_is_an_outlier_in_many_checks_is_refused(value):
    values = np.random.default_rng(0).normal(0.9, 0.002, (10, 4))
    values[6, 1:] = value
    said = (
        r"seed-007\.safetensors is an outlier in 3 of 4 checks, and has "
        rf"r\d {value}, the others 0\.\d+ ± 0\.00\d+; remove"
    )
    with pytest.raises(InputError, match=said):
        calibrate(panel_of(values))


@pytest.mark.parametrize("value", [0.85, 0.95], ids=["worse", "better"])
def test_an_outlying_check_becomes_informational_and_spoils_no_other(value):
    values = np.random.default_rng(0).normal(0.9, 0.002, (10, 4))
    alone = calibrate(panel_of(values[:, [0, 1, 3]]))
    values[6, 2] = value
    items = calibrate(panel_of(values))
    said = (
        rf"one reference model contradicts the others: seed-007\.safetensors has {value}, the "
        r"others 0\.9"
    )
    assert re.match(said, items[2].informational)
    others = [items[0], items[1], items[3]]
    assert not any(item.informational for item in others)
    assert [item.threshold for item in others] == [item.threshold for item in alone]


@pytest.mark.parametrize(("odd", "refused"), [(11, False), (12, True)])
def test_a_model_is_refused_from_a_tenth_of_the_checks_on(odd, refused):
    values = np.random.default_rng(0).normal(0.9, 0.002, (10, 120))
    values[6, :odd] = 0.7
    found = outliers(panel_of(values))
    assert len(found.checks) == odd
    assert bool(found.models) == refused


@pytest.mark.parametrize(("share", "refused"), [(0.002, False), (0.0005, True)])
def test_a_deviation_that_one_panel_in_1000_shows_is_an_outlier(share, refused):
    """With ten networks and one check, each has a tenth of the share, on two sides."""
    away = stats.t.isf(share / 10 / 2, 8) * math.sqrt(10 / 9)
    rest = spread_evenly(0.9, 0.003, 9)
    assert bool(outliers(panel_of([*rest, 0.9 - away * 0.003])).checks) == refused


@pytest.mark.parametrize("networks", [2, 3])
def test_of_two_networks_neither_is_an_outlier_and_of_three_one_can_be(networks):
    values = np.array([0.9, 0.9001, 0.5])[-networks:]
    panel = replace(panel_of(values), chance={"r0": Chance(1e-6, None, answers=True)})
    assert bool(outliers(panel).checks) == (networks == 3)


@pytest.mark.parametrize("metric", ["lost_probability", "soft_confusion"])
def test_no_probability_is_above_one(metric):
    about = replace(check("r0", unit="images", family="consensus"), metric=metric, unit=Unit.SCORE)
    (item,) = calibrate(panel_of(spread_evenly(-0.4, 0.15, 8), [about]))
    assert (item.threshold, item.informational) == (0, "its threshold of 0.000 cannot fail")


def test_logarithms_of_small_means_make_no_outlier():
    values = np.column_stack([spread_evenly(0.9, 0.003, 8), [*spread_evenly(-6.0, 0.05, 7), -3.0]])
    of_all, plain = check("r0"), check("r1")
    assert [*outliers(panel_of(values, [of_all, plain])).checks] == ["r1"]
    logarithm = replace(plain, family="consensus", metric="lost_probability", unit=Unit.SCORE)
    assert not outliers(panel_of(values, [of_all, logarithm])).checks
    assert not outliers(panel_of(values[:, 1:], [logarithm])).checks


@pytest.fixture(scope="module")
def four_checks():
    """A panel of three healthy checks, and one of low accuracy whose threshold nothing can miss."""
    values = np.random.default_rng(3).normal(0.9, 0.002, (20, 4))
    values[:, 3] = spread_evenly(0.1, 0.04)
    return panel_of(values)


@pytest.fixture(scope="module")
def three_checks(four_checks):
    return calibrate(four_checks)


def test_a_check_that_cannot_fail_says_so_and_takes_no_share(three_checks, four_checks):
    assert [bool(item.informational) for item in three_checks] == [False] * 3 + [True]
    assert three_checks[3].informational == "its threshold of 0.000 cannot fail"
    alone = calibrate(panel_of(four_checks.values(four_checks.checks[:3])))
    assert [item.k for item in three_checks[:3]] == [item.k for item in alone]


@pytest.mark.parametrize("std", [0.003, 0.05])
def test_a_valid_threshold_judges_whatever_its_detectable_drop(std):
    item = only(calibrate(panel_of(spread_evenly(0.9, std))))
    assert item.informational == ""
    assert item.minimum_detectable_drop > 5 * std


@pytest.mark.parametrize("checks", [1, 2])
def test_rows_with_a_hand_threshold_take_nothing_of_the_share(four_checks, checks):
    by_hand = frozenset(r.id for r in four_checks.checks[checks:])
    calibrated = calibrate(four_checks, by_hand=by_hand)[:3]
    alone = calibrate(panel_of(four_checks.values(four_checks.checks[:checks])))
    assert {item.k for item in calibrated} == {alone[0].k}
    assert [item.threshold for item in calibrated[:checks]] == [item.threshold for item in alone]
    for item in calibrated[checks:]:
        assert item.threshold == pytest.approx(
            item.mean - item.k * item.std * math.sqrt(21 / 20), abs=1e-4
        )


@pytest.mark.parametrize(("mean", "std", "unit"), [(0.02, 0.005, "share"), (9_000, 300, "images")])
def test_a_threshold_that_nothing_can_miss_is_no_gate(mean, std, unit):
    item = only(calibrate(panel_of(spread_evenly(mean, std), unit=unit)))
    assert "cannot fail" in item.informational


def test_the_loss_of_a_class_is_no_gate_where_no_class_can_lose_so_many():
    """Reference models lose three of ten images of a class, and no more of a thousand."""
    lost = [3.0, 2.0, 4.0, 3.0] * 5

    def said(largest: int) -> str:
        return only(
            calibrate(panel_of(lost, [PanelCheck(*facts, largest, scale="root")]))
        ).informational

    facts = ("class", "consensus", "worst_class_consensus_set_errors", Unit.IMAGES, "at_most")
    assert said(10) == "its threshold of 10 images cannot fail"
    assert said(1_000) == ""


@pytest.fixture(scope="module")
def one_doubtful():
    """Networks.

    The fifth is 4.2 standard deviations of prediction worse than the others, on clean images.
    """
    values = np.column_stack([spread_evenly(0.9, 0.003), spread_evenly(0.8, 0.003)])
    rest = np.delete(values[:, 0], 4)
    values[4, 0] = rest.mean() - 4.2 * rest.std(ddof=1) * math.sqrt(20 / 19)
    return panel_of(values, (check("clean", family="clean"), check("ccw-010")))


def test_a_member_just_inside_the_limit_of_outliers_is_found_with_its_rows(one_doubtful):
    assert not outliers(one_doubtful).checks
    calibrated = calibrate(one_doubtful)
    assert false_alarms(one_doubtful, calibrated) == ["seed-005.safetensors: clean"]
    lines = calibration_lines(one_doubtful, calibrated, {})
    assert lines[-2:] == [
        "leave-one-out false alarms: 1 of 20 networks",
        "  seed-005.safetensors: clean",
    ]
    never = [replace(item, outlier="is odd") for item in calibrated]
    assert false_alarms(one_doubtful, never) == [], "it is informational then"


@pytest.mark.parametrize(
    ("side", "alarms"), [(1, ["seed-005.safetensors: r0"]), (-1, [])], ids=["more", "fewer"]
)
def test_more_failures_than_the_others_allow_are_an_alarm(side, alarms):
    values = spread_evenly(400, 30)
    rest = np.delete(values, 4)
    values[4] = rest.mean() + side * 4.5 * rest.std(ddof=1) * math.sqrt(20 / 19)
    panel = panel_of(values, family="pairs", unit="images")
    assert false_alarms(panel, calibrate(panel)) == alarms


def test_a_threshold_stays_within_what_its_metric_can_be():
    score = PanelCheck("brier", "confidence", "brier_score", Unit.SCORE, "at_most", 10_000)
    (item,) = thresholds_of(panel_of([0.3, 1.9, 0.2, 1.7] * 2, [score]))
    assert item.threshold == 2.0
    assert item.informational == "its threshold of 2.000 cannot fail"


def test_the_summary_has_a_line_per_family_and_warns_of_lenient_thresholds(
    four_checks, three_checks
):
    held = {"r0": Threshold(0.99), "another": Threshold(0.1)}
    lines = calibration_lines(four_checks, three_checks, held)
    assert lines[1].split()[:4] == ["rotation", "4", "3", f"{three_checks[0].k:.2f}"]
    (counted,) = [line for line in lines if line.startswith("informational: ")]
    assert (
        counted
        == "informational: 1 of 4 checks: 1 with a threshold that cannot fail (-v prints all "
        "reasons)"
    )
    assert "thresholds set by hand win over the panel's: r0" in lines
    assert "leave-one-out false alarms: 0 of 20 networks" in lines
    assert not [line for line in lines if line.startswith("warning")]
    every = calibration_lines(four_checks, three_checks, held, reasons=True)
    assert f"informational: r3: {three_checks[3].informational}" in every
    hands = {"r0": Threshold(0.5), "r1": Threshold(0.4, "until calibrated"), "r3": Threshold(0.0)}
    lines = calibration_lines(four_checks, three_checks, hands)
    threshold = f"{three_checks[0].threshold:g}"
    more = (
        f"is more lenient than the panel's, {threshold}; remove `hand` from the check unless you "
        "mean it"
    )
    assert f"warning: r0: the threshold by hand, 0.5, {more}" in lines
    assert sum(line.startswith("warning") for line in lines) == 1, "the panel has none for r3"
    assert "thresholds set by hand stay, as the panel has none: r3" in lines
    replaced = f"{three_checks[1].threshold:g}"
    assert (
        f"r1: the panel's threshold, {replaced}, replaces the one by hand, 0.4, that was until "
        "calibrated" in lines
    )


def test_the_summary_says_what_more_reference_models_would_gain():
    checks = tuple(check(f"r{number}") for number in range(3))
    panel = panel_of(
        np.stack([spread_evenly(0.9, std, 4) for std in (0.002, 0.006, 0.05)], axis=1), checks
    )
    few, more = (len(expected(panel, count)["rotation"]) for count in (8, 20))
    lines = calibration_lines(panel, thresholds_of(panel), {})
    (gained,) = [line for line in lines if line.startswith("for more thresholds: ")]
    assert (
        f"8 reference models for about {few}, 20 reference models for about {more} of 3 checks"
        in gained
    )
    assert more > 0
    twenty = panel_of(np.stack([spread_evenly(0.1, 0.05, 20)] * 3, axis=1), checks)
    lines = calibration_lines(twenty, thresholds_of(twenty), {})
    assert not [line for line in lines if line.startswith("for more thresholds: ")], (
        "it is a full panel"
    )


def test_a_plan_counts_checks_by_hand_as_the_calibration_does():
    checks = tuple(check(f"r{number}") for number in range(3))
    panel = panel_of(
        np.stack([spread_evenly(0.9, std, 8) for std in (0.02, 0.03, 0.04)], axis=1), checks
    )
    by_hand = frozenset({"r1", "r2"})
    calibrated = thresholds_of(panel, by_hand=by_hand)

    table = calibration_lines(panel, calibrated, {}, by_hand=by_hand)
    heads, rotation, *_ = plan_lines(panel, by_hand=by_hand)

    sizes, cells = re.findall(r"\d+ reference models", heads), re.split(r" {2,}", rotation)
    columns = dict(zip(sizes, cells[-len(sizes) :], strict=True))
    best = f"{100 * calibrated[0].minimum_detectable_drop:.1f} points"
    assert f"  {best} to " in table[1]
    assert columns["8 reference models"] == f"3, {best}"
    (gained,) = [line for line in table if line.startswith("for more thresholds: ")] or [""]
    assert gained == "" or columns["20 reference models"].split(",")[0] in gained
    assert plan_lines(panel)[1] != rotation, "checks by hand would share the false alarms"


@pytest.mark.parametrize(
    ("count", "models"), [(1, "one reference model"), (3, "three reference models")]
)
def test_models_that_show_no_spread_have_no_k_and_no_drop(count, models):
    panel = panel_of(np.linspace(0.90, 0.92, count), family="clean")
    calibrated = thresholds_of(panel)
    assert (
        calibrated[0].informational
        == f"{models} cannot show how much models differ here; eight can"
    )
    (_, head, line) = power_lines(panel, calibrated)
    assert head == "clean: 0 of 1 checks have a threshold, none detects a drop"
    assert line.split()[2:7] == ["-", "-", "-", "-", "8"]


def test_no_drop_is_stated_that_no_model_can_lose():
    checks = (check("wide"), check("narrow"))
    panel = panel_of(
        np.stack([spread_evenly(0.5, std, 8) for std in (0.070, 0.003)], axis=1), checks
    )
    calibrated = calibrate(panel)
    assert (
        calibrated[0].minimum_detectable_drop > 0.5 > calibrated[0].mean - calibrated[0].threshold
    )
    assert calibrated[0].informational == "", "the threshold can fail"
    lines = calibration_lines(panel, calibrated, {})
    assert lines[1].endswith(" points to none")
    narrow = f"{calibrated[1].minimum_detectable_drop:.4f}"
    assert [line.split()[4] for line in power_lines(panel, calibrated)[2:]] == ["none", narrow]


@pytest.mark.parametrize("count", [1, 8])
def test_drops_say_for_how_many_reference_models_they_hold(count):
    panel = panel_of(np.linspace(0.90, 0.92, count))

    head = calibration_lines(panel, thresholds_of(panel), {})[0]

    models = "1 reference model" if count == 1 else "8 reference models"
    assert head.endswith(f"minimum detectable drop with {models}, best and worst check")


def test_the_best_check_of_a_family_has_the_unit_of_most_of_its_checks():
    """A score's drop of 0.05 is not better than one of 30 images."""
    counts = (check("few", unit="images"), check("many", unit="images"))
    score = PanelCheck("score", "rotation", "log_loss", Unit.SCORE, "at_most", 10_000)
    values = [spread_evenly(500, 40, 8), spread_evenly(500, 60, 8), spread_evenly(4, 0.05, 8)]
    panel = panel_of(np.stack(values, axis=1), (*counts, score))
    calibrated = calibrate(panel)
    assert calibrated[2].minimum_detectable_drop < calibrated[0].minimum_detectable_drop

    summary = calibration_lines(panel, calibrated, {})[1]
    plan = plan_lines(panel)[1]
    power = power_lines(panel, calibrated)[1]

    few, many = (f"{item.minimum_detectable_drop:.0f} images" for item in calibrated[:2])
    assert summary.split()[1:3] == ["3", "3"], "all have a threshold"
    assert summary.endswith(f"{few} to {many}")
    assert f"3, {few}" in plan
    assert power.endswith(f"the best detects {few}")


def test_columns_of_a_plan_stay_apart():
    checks = tuple(check(f"r{number}", family="a_family_with_a_long_name") for number in range(12))
    panel = panel_of(np.stack([spread_evenly(0.9, 0.03, 8)] * 12, axis=1), checks)

    table = plan_lines(panel)[:-1]

    ends = [head.end() for head in re.finditer(r"\d+ reference models", table[0])]
    for line in table:
        assert [line[end - 1 : end + 2].isspace() for end in ends] == [False] * 4, (
            "a cell ends below its head"
        )
        assert [line[end : end + 2].strip() for end in ends] == [""] * 4, "two spaces follow it"


@pytest.mark.parametrize(
    ("drop", "wanted", "needed"),
    [
        (None, 0.0087, "more than 60"),
        (0.0145, 0.0145, "20"),
        (0.0001, 0.0001, "more than 60"),
        (0.5, 0.5, "8"),
    ],
)
def test_power_says_what_each_row_notices_and_how_many_retrains_that_needs(drop, wanted, needed):
    """(t + 1.645) 0.003 sqrt(1 + 1/K) falls with K.

    It is 0.0173 for 8 reference models, 0.0150 for 15 and 0.0144 for 20.
    """
    panel = panel_of(spread_evenly(0.9, 0.003, 8), family="clean")
    calibrated = calibrate(panel)
    notices = (student(CLEAN_SHARE, 8) + 1.6449) * 0.003 * math.sqrt(9 / 8)
    (_, head, line) = power_lines(panel, calibrated, drop=drop)
    assert head == f"clean: 1 of 1 checks have a threshold, the best detects {notices:.4f}"
    assert line.split()[:3] == ["r0", "0.9000", "0.0030"]
    assert line.split()[4:6] == [f"{notices:.4f}", f"{wanted:.4f}"]
    assert line.split(f"{wanted:.4f}")[1].strip() == needed


def test_power_compares_accuracy_with_the_consensus_row():
    lost = check("consensus-clean", family="consensus", unit="images")
    lost = replace(lost, metric="consensus_set_errors", scale="root")
    checks = (check("clean", family="clean"), lost, check("turned"))
    values = np.stack(
        [spread_evenly(0.9, 0.003, 8), spread_evenly(12, 4, 8), spread_evenly(0.9, 0.003, 8)],
        axis=1,
    )
    panel = panel_of(values, checks)
    calibrated = calibrate(panel)
    lines = power_lines(panel, calibrated)
    notices = {item.check.id: item.minimum_detectable_drop for item in calibrated}
    assert (
        f"  beside it consensus-clean detects {notices['consensus-clean']:.0f} images lost of those"
        in lines[2]
    )
    assert f"clean {10_000 * notices['clean']:.0f} of 10000 lost net" in lines[2]
    assert sum("beside it" in line for line in lines) == 1, "no consensus check sees what is turned"


def test_shipped_checks_have_the_thresholds_of_the_shipped_panel():
    """Calibrated again, the file is the same in every digit and every reason."""
    checks = read_checks(SHIPPED / "stress_tests/checks.toml")
    panel = read_panel(SHIPPED / "models/panel.json", checks)
    by_hand = frozenset(check.id for check in checks.checks if check.hand)
    calibrated = calibrate(panel, by_hand=by_hand)
    content = checks.path.read_text("utf-8")
    assert (
        with_thresholds(content, calibrated, recipe=checks.recipe, date=checks.recipe["date"])
        == content
    )
