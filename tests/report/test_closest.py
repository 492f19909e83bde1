"""Signs of a weaker model under a PASS.

Margins, and informational checks far from reference models.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outcomes import EMPTY, FAIL, outcome_with, verdict
from scipy import stats

from benchmarks.detection.judgement import judge
from benchmarks.detection.mutants import HEALTHY, MUTANTS
from benchmarks.detection.paths import CHECKS, RESULTS
from benchmarks.detection.results import read_result
from harness.checks import Check, Threshold, read_checks
from harness.features.consensus.measures import CONSENSUS_SET_ERRORS
from harness.measures import METRICS, Measurement
from harness.measures.statistics import combined_p
from harness.report.diagnosis import diagnose
from harness.report.html import page_of
from harness.report.signs import margin_lines, probability, signs
from harness.report.text import markdown, summary_lines

NEAR = verdict("pass", "near", value=0.851, threshold=0.85, std=0.01)
SAFE = verdict("pass", "safe", family="rotation", value=0.90, threshold=0.85, std=0.01)


def informational(value, *, std=0.008, models=4, name="shown"):
    panel = Threshold(0.95, mean=0.624, std=std, reference_models=models)
    check = Check(
        name, "confidence", "", direction="at_most", informational="too wide", panel=panel
    )
    return check.judge(Measurement(METRICS["calibration_error"], value, 300, (value, value)))


def several(count, value, *, families=1, models=20):
    """Informational checks of one value, of so many families."""
    found = [informational(value, models=models, name=f"row-{at}") for at in range(count)]
    return [
        replace(row, check=replace(row.check, family=f"family-{at % families}"))
        if families > 1
        else row
        for at, row in enumerate(found)
    ]


def with_panel(found, **facts):
    check = replace(
        found.check, **{name: each for name, each in facts.items() if name in {"direction", "keys"}}
    )
    panel = replace(
        check.panel,
        **{name: each for name, each in facts.items() if name not in {"direction", "keys"}},
    )
    return replace(found, check=replace(check, panel=panel))


def lines_of(*verdicts, **facts):
    outcome = outcome_with(EMPTY, verdicts=verdicts, **facts)
    return [*margin_lines(outcome), *signs(outcome)]


def test_a_run_that_passes_names_its_smallest_margins_everywhere():
    verdicts = SAFE, replace(NEAR, check=replace(NEAR.check, id="nearer"), value=0.8502), NEAR
    expected = "closest to failing: nearer 0.0, safe 5.0 standard deviations inside the threshold"
    assert lines_of(*verdicts) == [expected], "one of each family"
    outcome = outcome_with(EMPTY, verdicts=verdicts)
    assert f"  {expected}" in summary_lines(outcome, Path("reports"))
    assert f"- {expected}" in markdown(outcome).splitlines()
    assert expected in page_of(outcome)


def test_other_runs_and_margins_in_other_units_have_no_such_line():
    assert (
        lines_of(NEAR, FAIL)
        == lines_of(NEAR, omissions=("half",))
        == lines_of(NEAR, errors=("x",))
        == []
    )
    assert lines_of(verdict("pass", "by-hand", value=0.9)) == []


@pytest.mark.parametrize(("value", "told"), [(4.0, False), (5.9, False), (6.1, True)])
def test_a_metric_that_never_judges_is_a_sign_twice_as_far_as_a_threshold(value, told):
    panel = Threshold(3.5, mean=1.0, std=0.5, reference_models=20)
    check = Check(
        "slices-worst",
        "slices",
        "worst_slice",
        direction="at_most",
        informational="a screen",
        panel=panel,
    )
    found = check.judge(Measurement(METRICS["worst_slice"], value, 300, (value, value)))
    assert [line for line in lines_of(SAFE, found) if "slices-worst" in line] == lines_of(
        SAFE, found
    )[1:]
    assert len(lines_of(SAFE, found)) == 1 + told


def test_an_informational_check_far_from_reference_models_is_a_sign():
    """Its probability counts how many of them were looked at."""
    far = informational(0.70)
    p = stats.t.sf(9.5 / 1.25**0.5, 3)
    assert probability(far) == pytest.approx(p)
    _, sign = lines_of(SAFE, far)
    assert sign == (
        "worse than reference models among 1 informational checks: shown 70.0%, reference models "
        f"62.4% ± 0.8 (9.5 standard deviations, p = {p:.2g})"
    )
    ordinary = several(60, 0.624, models=4)
    assert len(lines_of(SAFE, far, *ordinary[:20])) == 2
    assert len(lines_of(SAFE, far, *ordinary)) == 1, "one of sixty is that far by chance"
    many = lines_of(SAFE, *several(5, 0.9, models=4))
    assert len(many) == 2
    assert many[1].endswith("; and 3 more")


@pytest.mark.parametrize(
    "ordinary",
    [
        informational(0.55),
        informational(0.64, models=40),
        informational(0.70, models=1),
        informational(0.70, std=0),
    ],
    ids=["better", "two deviations", "one model", "no spread"],
)
def test_what_reference_models_do_too_is_no_sign(ordinary):
    assert len(lines_of(SAFE, ordinary)) == 1


@pytest.mark.parametrize(
    ("verdicts", "facts", "said"),
    [
        ((SAFE,), {}, "c.safetensors is fit to ship: all 1 checks pass."),
        (
            (SAFE, informational(0.7)),
            {},
            "c.safetensors passes all 1 checks, with signs of a weaker model.",
        ),
        (
            (SAFE, informational(0.7)),
            {"scope": "quick"},
            "c.safetensors passes all 1 quick checks, with signs of a weaker model; only the full "
            "gate can say that it is fit to ship.",
        ),
        (
            (SAFE, informational(0.7), *several(4, 0.6)),
            {},
            "c.safetensors passes all 1 checks that have a threshold, with signs of a weaker "
            "model; 5 are informational.",
        ),
    ],
    ids=["alone", "weaker", "quick", "many"],
)
def test_signs_stand_in_the_headline(verdicts, facts, said):
    """A reader of the first sentence alone must not take such a model for any other that passes."""
    outcome = outcome_with(EMPTY, verdicts=verdicts, **facts)
    assert diagnose(outcome).sentence == said
    assert page_of(outcome).count("worse than reference models") == (len(verdicts) > 1)


@pytest.mark.parametrize(
    ("value", "models", "facts", "count"),
    [
        (0.67, 4, {}, 1),
        (0.659, 4, {}, 0),
        (0.67, 2, {}, 0),
        (0.67, 4, {"n": 200}, 0),
        (0.67, 4, {"keys": {"within": {}}}, 0),
        (0.67, 4, {"direction": "at_least", "mean": 0.716, "threshold": 0.68}, 1),
    ],
)
def test_an_informational_check_beyond_its_threshold_is_a_sign(value, models, facts, count):
    """With four reference models, no value is rare by the spread of their own values alone."""
    found = with_panel(informational(value, models=models), **{"threshold": 0.66, **facts})
    said = lines_of(SAFE, found, *several(30, 0.624, models=models))[1:]
    assert len(said) == count
    assert all("standard deviations, beyond their threshold of 6" in line for line in said)


def test_rare_counts_are_compared_on_the_scale_of_roots():
    panel = Threshold(90, mean=35, std=8, reference_models=20, root_mean=11.9, root_std=1.35)
    check = Check("known", "consensus", "", informational="too wide", panel=panel)
    counted = check.judge(Measurement(CONSENSUS_SET_ERRORS, 67, 2_500, (60, 70)))
    assert probability(counted) == pytest.approx(
        stats.t.sf((2 * 67.375**0.5 - 11.9) / 1.35 / 1.05**0.5, 19)
    )


def test_healthy_networks_see_no_sign_and_some_mutants_that_pass_do():
    """At most 5% of the stored passing networks of other seeds exceed their margins."""
    checks, seen = read_checks(CHECKS), {}
    for mutant in MUTANTS:
        result = read_result(mutant.id, RESULTS)
        if result and result.clean_accuracy is not None:
            judged = judge(result, checks)
            if not judged.detected:
                seen[mutant.id] = mutant.kind, len(lines_of(*judged.verdicts))
    healthy = [lines for kind, lines in seen.values() if kind == HEALTHY]
    assert len(healthy) >= 50
    assert sum(lines > 1 for lines in healthy) <= 0.05 * len(healthy)
    assert all(lines <= 3 for lines in healthy)
    assert any(lines == 2 for kind, lines in seen.values() if kind != HEALTHY)


def test_many_checks_a_little_worse_are_one_sign():
    """The line has the Cauchy combination of probabilities, and needs several families."""
    worse = several(12, 0.648, families=4)
    p = stats.t.sf(3 / 1.05**0.5, 19)
    assert lines_of(SAFE, *worse)[-1] == (
        f"worse than reference models over 12 checks together: p = {p:.2g}; mostly family 0 +3.0, "
        "family 1 +3.0, family 2 +3.0 standard deviations, means of a family's checks"
    )
    assert not any("together" in line for line in lines_of(SAFE, *worse[::4])), (
        "one family has its own signs"
    )
    assert len(lines_of(SAFE, *several(12, 0.632, families=4))) == 1
    assert "together" in lines_of(SAFE, replace(worse[0], value=0.50), *worse[1:])[-1], (
        "one better hides no others"
    )


def test_checks_named_alone_or_by_hand_are_in_no_line_of_all():
    far, *others = several(30, 0.62, families=4)
    _, sign = lines_of(SAFE, replace(far, value=0.70), *others)
    assert sign.startswith("worse than reference models among 30 informational checks: row-0 ")
    # A threshold by hand says that the spread of the reference models does not count.
    by_hand = replace(far.check, hand=Threshold(0.9, reason="by chance"), informational="")
    assert len(lines_of(SAFE, replace(far, check=by_hand, status="pass", value=0.75), *others)) == 1
    infinite = replace(far, value=float("inf"))
    assert len(lines_of(SAFE, infinite, *several(9, 0.624, families=4))) == 1


def test_small_combinations_hold_for_checks_that_depend_on_each_other():
    """Combinations of normal checks are below 1% as often as the level says.

    Their correlation is 0.6.
    """
    assert [combined_p([p] * 4, [1, 2, 3, 4]) for p in (0.0, 1e-6, 0.4)] == pytest.approx(
        [0, 1e-6, 0.4], abs=1e-12
    )
    p, weights = np.array([0.001, 0.2, 0.95]), np.array([1, 1, 2])
    statistic = np.average(stats.cauchy.isf(p), weights=weights)
    assert combined_p(p, weights) == pytest.approx(stats.cauchy.sf(statistic))
    rng = np.random.default_rng(0)
    checks = 0.6**0.5 * rng.standard_normal((4_000, 1)) + 0.4**0.5 * rng.standard_normal(
        (4_000, 12)
    )
    found = [combined_p(p, [1] * 12) for p in stats.norm.sf(checks)]
    assert 0.005 < np.mean(np.array(found) < 0.01) < 0.015
