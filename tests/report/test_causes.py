"""The likely cause of failures: rules on stored mutants, and what a reader sees of it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from outcomes import EMPTY

from benchmarks.causes.__main__ import EXPECTED, README, RESULTS, causes, letters, letters_table, tables
from benchmarks.detection.judgement import judge
from benchmarks.detection.mutants import KINDS
from benchmarks.detection.paths import CHECKS
from benchmarks.detection.paths import RESULTS as MEASURED
from benchmarks.detection.results import read_result
from harness.checks import read_checks
from harness.features.batch_norm.metrics import BATCH_NORM_MISFIT
from harness.features.consensus.soft import SOFT_CONFUSION
from harness.measures.metric import Measurement
from harness.perturb import IDENTITY
from harness.report.causes import UNCLEAR, likely_cause
from harness.report.html import page_of
from harness.report.text import markdown, summary_lines


@pytest.fixture(scope="module")
def checks():
    return read_checks(CHECKS)


@pytest.fixture(scope="module")
def named():
    return causes()


def verdicts_on(mutant, checks):
    return judge(read_result(mutant, MEASURED), checks).verdicts


@pytest.mark.parametrize(
    ("mutant", "group"),
    [
        ("swapped-logits-2-seed-201", "class confusion"),
        ("less-shift-2-seed-201", "geometry"),
        ("logit-scaling-2-seed-201", "calibration"),
        ("resized-2-seed-201", "broken pipeline"),
        ("deleted-data-2-seed-201", "drift of everything"),
        ("label-noise-2-seed-201", "training labels"),
    ],
)
def test_a_mutant_has_its_cause_in_every_report(mutant, group, checks):
    outcome = replace(EMPTY, verdicts=verdicts_on(mutant, checks))
    expected = f"Likely cause: {group}. "
    assert expected in "\n".join(summary_lines(outcome, Path("reports")))
    assert expected in markdown(outcome)
    assert expected in page_of(outcome)


def test_classes_are_named_with_their_points(checks):
    cause = likely_cause(verdicts_on("swapped-logits-2-seed-201", checks))
    assert cause.evidence.startswith("Shirt −15.7 points and T-shirt/top −1.8 points against reference models: 95%")
    assert cause.counted.startswith("geometry 41 of 61, clean images 7 of 7")


def test_a_model_that_passes_has_no_cause(checks):
    assert likely_cause(verdicts_on("healthy-seed-101", checks)) is None
    assert likely_cause(()) is None


def test_a_third_class_that_fails_is_no_confusion_of_two(checks):
    verdicts = [
        replace(each, status="fail") if each.check.id == "clean-trouser" else each
        for each in verdicts_on("swapped-logits-2-seed-201", checks)
    ]
    cause = likely_cause(verdicts)
    assert cause.group == "drift of everything"
    assert cause.evidence.endswith("fail, and Shirt and T-shirt/top lose most.")


def test_failures_of_groups_golden_images_and_pipelines_are_no_drift(checks):
    failing = [each for each in verdicts_on("healthy-seed-101", checks) if each.judged][:3]
    families = ("golden", "slice", "skew")
    verdicts = [
        replace(each, status="fail", check=replace(each.check, family=family))
        for each, family in zip(failing, families, strict=True)
    ]
    assert likely_cause(verdicts).group == UNCLEAR


def of_groups(template, accuracies, *, failing):
    """Verdicts on clean accuracy, which fails, and on groups by vendor, of references with an accuracy of 0.8."""

    def verdict(name, family, metric, value, *, keys=None, fails=False):
        check = replace(
            template.check, id=name, family=family, metric=metric, keys=keys or {}, class_name=None, pose=IDENTITY,
            panel=replace(template.check.panel, mean=0.8 if "accuracy" in metric else 0.0),
        )  # fmt: skip
        return replace(template, check=check, metric=metric, value=value, status="fail" if fails else "pass")

    clean = sum(accuracies.values()) / len(accuracies)
    verdicts = [verdict("clean", "clean", "accuracy", clean, fails=True)]
    for group, accuracy in accuracies.items():
        keys = {"by": "vendor", "group": group}
        verdicts += [
            verdict(f"slice-{group}", "slice", "group_accuracy", accuracy, keys=keys, fails=group in failing),
            verdict(
                f"difference-{group}", "slice", "group_difference", accuracy - clean, keys=keys, fails=group in failing
            ),
        ]
    return verdicts


@pytest.mark.parametrize(
    ("accuracies", "failing", "group"),
    [
        ({"a": 0.79, "b": 0.81, "c": 0.7}, "c", "one group of images"),
        ({"a": 0.79, "b": 0.72, "c": 0.7}, "bc", UNCLEAR),
        ({"b": 0.71, "c": 0.6}, "c", UNCLEAR),
        ({"c": 0.6}, "c", UNCLEAR),
        ({"a": 0.73, "b": 0.74, "c": 0.68}, "c", UNCLEAR),
        ({"a": 0.82, "b": 0.83, "c": 0.8}, "c", UNCLEAR),
    ],
)
def test_one_group_that_falls_is_the_cause(accuracies, failing, group, checks):
    template = next(each for each in verdicts_on("healthy-seed-101", checks) if each.check.id == "clean")
    cause = likely_cause(of_groups(template, accuracies, failing=failing))
    assert cause.group == group
    if group == "one group of images":
        assert cause.evidence == (
            "The odds of an error on vendor c are 1.7 times those of reference models, on any other group by vendor at "
            "most 1.1 times."
        )


def test_uniform_damage_is_no_single_group(checks):
    """Errors are 1.5 times those of reference models in each group; of the hardest one these are 15 points."""
    template = next(each for each in verdicts_on("healthy-seed-101", checks) if each.check.id == "clean")
    usual = {"a": 0.96, "b": 0.95, "c": 0.7}
    verdicts = of_groups(template, {name: 1 - 1.5 * (1 - right) for name, right in usual.items()}, failing="c")
    verdicts = [
        replace(each, check=replace(each.check, panel=replace(each.check.panel, mean=usual[each.check.keys["group"]])))
        if each.metric == "group_accuracy"
        else each
        for each in verdicts
    ]
    assert likely_cause(verdicts).group != "one group of images"


def of_class(template, *, miss):
    """An informational check of one class, by so many standard deviations beyond its threshold."""
    panel = replace(template.check.panel, mean=0.9, std=0.01, threshold=0.85, n=None)
    check = replace(
        template.check, id="difference-g", family="class-difference", metric="class_difference", panel=panel,
        class_name="g", informational="its detectable drop misses the budget",
    )  # fmt: skip
    return replace(template, check=check, value=0.85 - 0.01 * miss, status="informational", threshold=None)


def test_a_small_miss_beside_a_large_one_names_no_cause(checks):
    """Confidence misses by one standard deviation, and an informational check of a class by eleven."""
    sound = verdicts_on("healthy-seed-101", checks)
    template = next(each for each in sound if each.check.id == "clean")
    calibration = next(each for each in sound if each.check.id == "calibration-error-clean")
    missed, far = (
        replace(calibration, status="fail", value=calibration.threshold + miss * calibration.check.panel.std)
        for miss in (1, 11)
    )
    rest = [each for each in sound if each is not calibration]
    assert likely_cause([*rest, far]).group == "calibration"
    assert likely_cause([*rest, missed]).group == UNCLEAR
    beside = of_class(template, miss=11)
    assert likely_cause([*rest, missed, beside]).group == "class confusion"
    assert likely_cause([*rest, far, beside]).group == UNCLEAR
    said = " informational checks: difference-g 74.0%"
    outcome = replace(EMPTY, verdicts=(*rest, missed, beside))
    assert outcome.verdict == "fail"
    assert said in markdown(outcome)
    assert said in page_of(outcome)


def test_a_pair_confused_on_easy_images_is_the_cause_if_accuracy_passes(checks):
    rows = {check.id: check for check in checks.checks}
    said = "Coat is predicted as Pullover with 8.31% on 754 easy images, reference models 1.71%"
    confused = Measurement(SOFT_CONFUSION, -2.0, 10_000, (-2.1, -1.9), detail=said)
    pair = rows["soft-confusion-coat-pullover"].judge(confused)
    less = rows["soft-confusion-pullover-coat"].judge(replace(confused, value=-2.8, detail="another"))
    cause = likely_cause((less, pair))
    assert (cause.group, cause.evidence) == ("class confusion", f"{said}.")
    assert cause.counted == "classes 2 of 2"
    clean = replace(pair, check=rows["clean"], metric="accuracy", value=0.7, threshold=0.9)
    assert likely_cause((clean, pair)).group != "class confusion"
    near = replace(clean, value=0.8999)  # It misses by a small part of the miss of the pair.
    assert likely_cause((near, pair)).group != "class confusion"
    informational = replace(rows["soft-confusion-coat-pullover"], informational="too few").judge(confused)
    assert likely_cause((informational, less)).evidence == "another."


@pytest.mark.parametrize("beside", ["consensus-divergence", "consensus-lost-probability", "batch-norm-early"])
def test_a_pair_confused_beside_a_fault_of_the_whole_network_is_no_cause(beside, checks):
    rows = {check.id: check for check in checks.checks}
    pair = rows["soft-confusion-coat-pullover"].judge(Measurement(SOFT_CONFUSION, -2.0, 10_000, (-2.1, -1.9)))
    other = replace(pair, check=rows[beside], metric=rows[beside].metric, value=0.0, threshold=-2.0)
    assert likely_cause((pair, replace(other, status="pass"))).group == "class confusion"
    assert likely_cause((pair, other)).group != "class confusion"


def test_batch_norms_are_the_cause_where_no_rule_explains_the_others(checks):
    rows = {check.id: check for check in checks.checks}
    deviates = rows["batch-norm-augmented-early"].judge(Measurement(BATCH_NORM_MISFIT, 0.5, 2_000, (0.4, 0.6)))
    cause = likely_cause([deviates])
    assert (cause.group, cause.evidence) == ("batch norms", "Checks of batch norms fail, and no others.")
    assert cause.advice.startswith("Too far: the weights were changed")
    assert cause.counted == "batch norms 1 of 1"
    geometry = verdicts_on("less-rotation-2-seed-201", checks)
    without = likely_cause(geometry)
    assert without.group == "geometry"
    aside = f"{without.sentence} Left aside are failing checks of batch norms."
    assert likely_cause([*geometry, deviates]).sentence == aside
    unclear = verdicts_on("stale-statistics-2-seed-203", checks)
    cause = likely_cause([*unclear, deviates])
    assert cause.sentence == "Likely cause: batch norms. Checks of batch norms fail, and no rule explains the others."


def test_an_unclear_cause_is_left_out_of_reports(checks):
    verdicts = verdicts_on("stale-statistics-2-seed-203", checks)
    assert likely_cause(verdicts).group == UNCLEAR
    assert "Likely cause" not in markdown(replace(EMPTY, verdicts=verdicts))


@pytest.mark.parametrize("family", ["corruption", "attention"])
def test_failures_of_one_family_are_its_cause(family, checks):
    """No mutant has one of them alone: the checks of a reference recipe are made to fail."""
    verdicts = [
        replace(each, status="fail") if each.check.family == family and each.judged else each
        for each in verdicts_on("healthy-seed-101", checks)
    ]
    assert likely_cause(verdicts).group == {"corruption": "a corruption family"}.get(family, family)


def test_few_classes_carry_no_confusion(checks):
    kept = ("Shirt", "Coat", "Bag", None)
    verdicts = [each for each in verdicts_on("swapped-logits-2-seed-201", checks) if each.check.class_name in kept]
    assert likely_cause(verdicts).group != "class confusion"


def test_the_page_has_what_is_measured(named):
    assert set(EXPECTED) == set(KINDS) - {"healthy"}
    page = README.read_text("utf-8")
    assert tables(named) in page
    assert [each["group"] for each in json.loads(RESULTS.read_text())] == [each.group for each in named]
    shares = re.search(r"^\| tests the rules \| (\d+) \| (\d+) ", page, re.MULTILINE)
    assert int(shares[2]) / int(shares[1]) > 0.87
    assert sum(not each.right and not each.unclear and not each.developed for each in named) <= 1


def test_letters_have_the_causes_that_the_page_says():
    found = letters()
    assert letters_table(found) in README.read_text("utf-8")
    faults = [each for each in found if each.right == ("broken pipeline",)]
    assert {each.group for each in faults} == {"broken pipeline"}
    assert sum(each.group not in {None, UNCLEAR, *each.right} for each in found) <= 2
