"""Signs of a weaker model under a PASS: margins, and informational checks far from reference models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outcomes import EMPTY, FAIL, verdict
from scipy import stats

from benchmarks.detection.judgement import judge
from benchmarks.detection.mutants import HEALTHY, MUTANTS
from benchmarks.detection.paths import CHECKS, RESULTS
from benchmarks.detection.results import read_result
from harness.checks import Check, Threshold, read_checks
from harness.measures import METRICS, Measurement
from harness.measures.panel.consensus import CONSENSUS_SET_ERRORS
from harness.measures.statistics import combined_p
from harness.report.diagnosis import diagnose
from harness.report.html import page_of
from harness.report.signs import margin_lines, probability, signs
from harness.report.text import markdown, summary_lines

NEAR = verdict("pass", "near", value=0.851, threshold=0.85, std=0.01)
SAFE = verdict("pass", "safe", family="rotation", value=0.90, threshold=0.85, std=0.01)


def informational(value, *, std=0.008, models=4, name="shown"):
    panel = Threshold(0.95, mean=0.624, std=std, reference_models=models)
    check = Check(name, "confidence", "", direction="at_most", informational="too wide", panel=panel)
    return check.judge(Measurement(METRICS["calibration_error"], value, 300, (value, value)))


def closest_lines(outcome):
    return [*margin_lines(outcome), *signs(outcome)]


def lines_of(*verdicts):
    return closest_lines(replace(EMPTY, verdicts=verdicts))


def sentence(outcome) -> str:
    return diagnose(outcome).sentence


def test_a_run_that_passes_names_its_smallest_margins_everywhere():
    outcome = replace(EMPTY, verdicts=(SAFE, replace(NEAR, check=replace(NEAR.check, id="nearer"), value=0.8502), NEAR))
    expected = "closest to failing: nearer 0.0, safe 5.0 standard deviations inside the threshold"
    assert closest_lines(outcome) == [expected], "one of each family"
    assert f"  {expected}" in summary_lines(outcome, Path("reports"))
    assert f"- {expected}" in markdown(outcome).splitlines()
    assert expected in page_of(outcome)


@pytest.mark.parametrize(
    "changed",
    [{"verdicts": (NEAR, FAIL)}, {"omissions": ("half",)}, {"errors": ("x",)}],
    ids=["fail", "partial", "error"],
)
def test_a_run_that_does_not_pass_has_no_such_line(changed):
    assert closest_lines(replace(EMPTY, **{"verdicts": (NEAR,), **changed})) == []


def test_margins_in_other_units_are_left_out():
    assert lines_of(verdict("pass", "by-hand", value=0.9)) == []


def test_an_informational_check_far_from_reference_models_is_a_sign():
    """Its probability counts how many of them were looked at."""
    far = informational(0.70)
    p = stats.t.sf(9.5 / 1.25**0.5, 3)
    assert probability(far) == pytest.approx(p)
    _, sign = lines_of(SAFE, far)
    assert sign == (
        "worse than reference models among 1 informational checks: shown 70.0%, reference models 62.4% ± 0.8 "
        f"(9.5 standard deviations, p = {p:.2g})"
    )
    ordinary = [informational(0.624, name=f"other-{at}") for at in range(60)]
    assert len(lines_of(SAFE, far, *ordinary[:20])) == 2
    assert len(lines_of(SAFE, far, *ordinary)) == 1, "one of sixty is that far by chance"


@pytest.mark.parametrize(
    "ordinary",
    [informational(0.55), informational(0.64, models=40), informational(0.70, models=1), informational(0.70, std=0)],
    ids=["better", "two deviations", "one model", "no spread"],
)
def test_what_reference_models_do_too_is_no_sign(ordinary):
    assert len(lines_of(SAFE, ordinary)) == 1


def test_signs_stand_in_the_headline():
    """A reader of the first sentence alone must not take such a model for any other that passes."""
    alone, weaker = (replace(EMPTY, verdicts=verdicts) for verdicts in ((SAFE,), (SAFE, informational(0.70))))
    assert sentence(alone) == "c.safetensors is fit to ship: all 1 checks pass."
    assert sentence(weaker) == "c.safetensors passes all 1 checks, with signs of a weaker model."
    quick = sentence(replace(weaker, scope="quick"))
    assert quick.startswith("c.safetensors passes all 1 quick checks, with signs of a weaker model; only")
    many = replace(weaker, verdicts=(SAFE, informational(0.70), *(informational(0.6, name=f"{at}") for at in range(4))))
    assert "that have a threshold, with signs of a weaker model; 5 are informational." in sentence(many)
    assert page_of(weaker).count("worse than reference models") == 1


@pytest.mark.parametrize(("value", "models", "count"), [(0.67, 4, 1), (0.659, 4, 0), (0.67, 2, 0)])
def test_an_informational_check_beyond_its_threshold_is_a_sign(value, models, count):
    """With four reference models, no value is rare by the spread of their own values alone."""
    found = informational(value, models=models)
    near = replace(found, check=replace(found.check, panel=replace(found.check.panel, threshold=0.66)))
    others = [informational(0.624, models=models, name=f"other-{at}") for at in range(30)]
    said = lines_of(SAFE, near, *others)[1:]
    assert len(said) == count
    assert all(line.endswith("(5.8 standard deviations, beyond their threshold of 66.0%)") for line in said)


def test_a_threshold_for_other_questions_makes_no_sign():
    found = informational(0.67, models=4)
    panel = replace(found.check.panel, threshold=0.66)
    others = [informational(0.624, models=4, name=f"other-{at}") for at in range(30)]
    for changed in ({"panel": replace(panel, n=200)}, {"panel": panel, "keys": {"within": {}}}):
        assert len(lines_of(SAFE, replace(found, check=replace(found.check, **changed)), *others)) == 1
    low = replace(found.check, direction="at_least", panel=replace(panel, mean=0.716))
    assert (
        len(lines_of(SAFE, replace(found, check=replace(low, panel=replace(low.panel, threshold=0.68))), *others)) == 2
    )


def test_many_signs_are_one_line():
    found = lines_of(SAFE, *(informational(0.9, name=f"sign-{at}") for at in range(5)))
    assert len(found) == 2
    assert found[1].endswith("; and 3 more")


def test_rare_counts_are_compared_on_the_scale_of_roots():
    panel = Threshold(90, mean=35, std=8, reference_models=20, root_mean=11.9, root_std=1.35)
    check = Check("known", "consensus", "", informational="too wide", panel=panel)
    counted = check.judge(Measurement(CONSENSUS_SET_ERRORS, 67, 2_500, (60, 70)))
    assert probability(counted) == pytest.approx(stats.t.sf((2 * 67.375**0.5 - 11.9) / 1.35 / 1.05**0.5, 19))


def test_healthy_networks_see_no_sign_and_some_mutants_that_pass_do():
    """At most 5% of the stored networks of other seeds that pass may see more than their margins."""
    checks, seen = read_checks(CHECKS), {}
    for mutant in MUTANTS:
        result = read_result(mutant.id, RESULTS)
        if result and result.clean_accuracy is not None:
            judged = judge(result, checks)
            if not judged.detected:
                seen[mutant.id] = mutant.kind, len(closest_lines(replace(EMPTY, verdicts=judged.verdicts)))
    healthy = [lines for kind, lines in seen.values() if kind == HEALTHY]
    assert len(healthy) >= 50
    assert sum(lines > 1 for lines in healthy) <= 0.05 * len(healthy)
    assert all(lines <= 3 for lines in healthy)
    assert seen["learning-rate-1-seed-201"][1] == 3


def test_many_checks_a_little_worse_are_one_sign():
    """The line has the Cauchy combination of their probabilities, and needs more than one family."""

    def rows(value):
        of_three = [informational(value, models=20, name=f"row-{at}") for at in range(3)]
        families = ("class", "rotation", "flip", "pose")
        return [replace(row, check=replace(row.check, family=each)) for each in families for row in of_three]

    worse = rows(0.648)
    p = stats.t.sf(3 / 1.05**0.5, 19)
    assert lines_of(SAFE, *worse)[-1] == (
        f"worse than reference models over 12 checks together: p = {p:.2g}; mostly class +3.0, flip +3.0, "
        "pose +3.0 standard deviations, means of a family's checks"
    )
    assert not any("together" in line for line in lines_of(SAFE, *worse[:3])), "one family has its own signs"
    assert len(lines_of(SAFE, *rows(0.632))) == 1


def test_one_check_that_is_much_better_hides_no_others():
    worse = [informational(0.648, models=20, name=f"row-{at}") for at in range(12)]
    worse = [replace(row, check=replace(row.check, family=f"family-{at % 4}")) for at, row in enumerate(worse)]
    better = replace(worse[0], value=0.50)
    assert "together" in lines_of(SAFE, better, *worse[1:])[-1]


def test_a_check_with_a_line_of_its_own_is_in_no_other_line():
    far, *others = (informational(0.62, models=20, name=f"row-{at}") for at in range(30))
    others = [replace(row, check=replace(row.check, family=f"family-{at % 4}")) for at, row in enumerate(others)]
    _, sign = lines_of(SAFE, replace(far, value=0.70), *others)
    assert sign.startswith("worse than reference models among 30 informational checks: row-0 ")


def test_a_check_with_a_threshold_by_hand_is_in_no_line_of_all_checks():
    """Its threshold says that the spread of the reference models does not count."""
    far, *others = (informational(0.62, models=20, name=f"row-{at}") for at in range(30))
    others = [replace(row, check=replace(row.check, family=f"family-{at % 4}")) for at, row in enumerate(others)]
    by_hand = replace(far.check, hand=Threshold(0.9, reason="by chance"), informational="")
    assert len(lines_of(SAFE, replace(far, check=by_hand, status="pass", value=0.75), *others)) == 1


def test_an_infinite_value_is_no_sign():
    rows = [informational(float("inf"), models=20), *(informational(0.624, models=20, name=f"{at}") for at in range(9))]
    rows = [replace(row, check=replace(row.check, family=f"family-{at % 4}")) for at, row in enumerate(rows)]
    assert len(lines_of(SAFE, *rows)) == 1


@pytest.mark.parametrize("p", [0.0, 1e-6, 0.01, 0.4, 0.99])
def test_combination_of_equal_probabilities_is_the_same(p):
    assert combined_p([p] * 4, [1, 2, 3, 4]) == pytest.approx(p, rel=1e-6, abs=1e-12)


def test_combination_is_a_tail_of_the_cauchy_distribution():
    p, weights = np.array([0.001, 0.2, 0.95]), np.array([1, 1, 2])
    statistic = np.average(stats.cauchy.isf(p), weights=weights)
    assert combined_p(p, weights) == pytest.approx(stats.cauchy.sf(statistic))


def test_small_combinations_hold_for_checks_that_depend_on_each_other():
    """Of normal checks with a correlation of 0.6, as many combinations are below 1% as the level says."""
    rng = np.random.default_rng(0)
    checks = 0.6**0.5 * rng.standard_normal((4_000, 1)) + 0.4**0.5 * rng.standard_normal((4_000, 12))
    found = [combined_p(p, [1] * 12) for p in stats.norm.sf(checks)]
    assert 0.005 < np.mean(np.array(found) < 0.01) < 0.015
