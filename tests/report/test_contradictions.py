"""A record whose verdict or statuses contradict its other fields is refused everywhere."""

import json
from dataclasses import replace

import numpy as np
import pytest
from outcomes import EMPTY, outcome_with

from harness.checks import Check, Threshold
from harness.checks.conditions import Conditions
from harness.cli import main
from harness.measures import METRICS
from harness.measures.accuracy import ACCURACY
from harness.measures.changed_predictions import PREDICTIONS_CHANGED
from harness.measures.equivalence import proportion
from harness.measures.flips import Flips
from harness.measures.metric import Measurement, Sampling
from harness.report.redraw import outcome_at
from harness.run.stress_json import record_and_images

ACCURATE, WORSE = 0.9, 0.8
INTERVAL = (0.75, 0.95)
PANEL = Threshold(0.85, mean=0.92, std=0.01, reference_models=20, n=100)


def accuracy(value=ACCURATE, **facts):
    return Measurement(ACCURACY, value, 100, INTERVAL, **facts)


def lost_and_gained(lost, gained):
    flips = Flips(100, np.arange(lost), np.arange(50, 50 + gained), {}, {})
    metric = METRICS["accuracy_change"]
    return Measurement(metric, flips.net, 100, (-1.0, 1.0), p_value=flips.p_value, flips=flips)


def changed(images):
    quantity = proportion(images, 1_000)
    return Measurement(PREDICTIONS_CHANGED, quantity.value, 1_000, (0.0, 1.0), quantity=quantity)


def regression(**keys):
    by_hand = Threshold(-0.01, reason="at most one point")
    return Check(
        "regression", "regression", "accuracy_change", role="incumbent", hand=by_hand, **keys
    )


VERDICTS = {
    "threshold": Check("clean", "clean", "accuracy", panel=PANEL).judge(accuracy(WORSE)),
    "other images": Check("sampled", "clean", "accuracy", panel=replace(PANEL, n=1_000)).judge(
        accuracy(WORSE)
    ),
    "sampling": Check("hand", "clean", "accuracy", hand=Threshold(0.85)).judge(
        accuracy(WORSE, sampling=Sampling(0.0, 0.0))
    ),
    "significance": regression(significance=0.01).judge(lost_and_gained(6, 1)),
    "tolerance": Check(
        "equal", "equivalence", "predictions_changed", role="original", tolerance=0.05
    ).judge(changed(10)),
    "without a value": Check("gone", "clean", "accuracy").unjudged(
        "not_applicable", "no incumbent"
    ),
}
STOPPED = Check(
    "stopped", "clean", "accuracy", panel=PANEL, conditions=Conditions(stopped=200)
).judge(accuracy(0.2))


def record_of(folder, *verdicts, **facts):
    path = folder / "stress.json"
    path.write_text(
        record_and_images(outcome_with(EMPTY, verdicts=verdicts, folder=str(folder), **facts))[0]
    )
    return path


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def of_check(**facts):
    """Return the edit of the fields of the first check."""
    return lambda record: record["checks"][0].update(facts)


def of_run(**facts):
    return lambda record: record.update(facts)


def not_finished(record):
    record["finished"] = False


def test_statuses_of_a_run_follow_from_its_record(tmp_path):
    statuses = {name: verdict.status for name, verdict in VERDICTS.items()}
    assert statuses == {
        "threshold": "fail",
        "other images": "pass",
        "sampling": "inconclusive",
        "significance": "pass",
        "tolerance": "pass",
        "without a value": "not_applicable",
    }
    whole, _ = outcome_at(record_of(tmp_path, *VERDICTS.values()))
    assert (whole.results.verdicts, whole.verdict) == (tuple(VERDICTS.values()), "partial")
    stopped, _ = outcome_at(record_of(tmp_path, STOPPED, stopped="stopped at clean"))
    assert stopped.results.verdicts == (STOPPED,)


@pytest.mark.parametrize(
    ("verdict", "change", "said"),
    [
        ("threshold", of_check(status="pass"), "check clean (value 0.8, n 100) has status 'pass'"),
        (
            "other images",
            of_check(status="fail"),
            "has status 'fail', and its other fields give 'pass'",
        ),
        ("other images", of_check(interval=[0.7, 0.8]), "has status 'pass'"),
        (
            "other images",
            of_check(threshold=0.5),
            "has threshold 0.5, and its other fields give 0.85",
        ),
        (
            "other images",
            of_check(value=0.3, interval=[0.2, 0.4]),
            "check sampled (value 0.3, n 100)",
        ),
        (
            "sampling",
            of_check(sampling=None),
            "has status 'inconclusive', and its other fields give 'fail'",
        ),
        (
            "significance",
            of_check(p_value=1e-6),
            "has status 'pass', and its other fields give 'fail'",
        ),
        (
            "tolerance",
            of_check(confidence_limits={"lower": 0.1, "upper": 0.2, "provable": True}),
            "give 'fail'",
        ),
        (
            "tolerance",
            of_check(confidence_limits=None),
            "has status 'pass', and its other fields give 'inconclusive'",
        ),
        ("without a value", of_check(status="pass"), "give 'not_applicable'"),
        (
            "threshold",
            of_check(role="baseline"),
            "has role 'baseline', and its other fields give 'candidate'",
        ),
        ("threshold", of_check(reference_mean=0.8), "has reference_mean 0.8"),
        (
            "threshold",
            of_run(verdict="pass"),
            "the run has verdict 'pass', and its other fields give 'fail'",
        ),
        ("threshold", of_run(headline="PASS: 1 of 1 checks pass"), "the run has headline 'PASS: 1"),
        ("threshold", of_run(provisional=True), "the run has provisional True"),
        ("threshold", of_run(provisional=0), "the run has provisional 0"),
        ("threshold", not_finished, "the run did not finish; it has verdict 'fail'"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(tmp_path, capsys, verdict, change, said):
    path = record_of(tmp_path, VERDICTS[verdict])
    edit(path, change)
    for command in ("report", "attest", "card", "badge"):
        assert main([command, str(path)]) == 2, command
        error = capsys.readouterr().err
        assert f"{path}: contradicts itself: " in error
        assert said in error
    assert list(tmp_path.iterdir()) == [path], "nothing is written"


@pytest.mark.parametrize("change", [of_check(stopped=0), of_run(stopped=""), of_check(value=0.9)])
def test_a_stopped_run_that_contradicts_itself_is_refused(tmp_path, capsys, change):
    path = record_of(tmp_path, STOPPED, stopped="stopped at clean")
    edit(path, change)
    assert main(["report", str(path)]) == 2
    assert "contradicts itself" in capsys.readouterr().err
