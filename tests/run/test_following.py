"""A test that shows another model's measurement is found, however bad the candidate, and whatever its family."""

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules.
import numpy as np
import pytest
import scipy.stats  # noqa: F401
from zoo import ROWS, images_of, role_model

from harness.base.errors import NotApplicableError
from harness.inference.standins import at_random, mostly_right, right, standing_in, wrong_by
from harness.measures import accuracy, calibration_error
from harness.perturb import Pose
from harness.run.mutants import FOLLOW

ROW = """
[[check]]
id = "own"
family = "FAMILY"
metric = "METRIC"
hand = { threshold = THRESHOLD }
"""
HEAD = """
from dataclasses import replace
import numpy as np
import pytest
from harness.measures import METRICS, Measurement, Metric, Unit, accuracy, accuracy_gain, invariance
from harness.perturb import Pose
from harness.plugin import check

@check("FAMILY")
def test_own(candidate, incumbent, baseline, images, evidence, stress_check):
    mine, theirs = candidate.predict(images), incumbent.predict(images)
    BODY
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
"""
JUDGED = "verdict = stress_check.judge({})"
MISTAKEN = {
    "another-models": JUDGED.format("accuracy(theirs)"),
    "the-better-of-both": (
        "verdict = max(map(stress_check.judge, map(accuracy, (mine, theirs))), key=lambda verdict: verdict.value)"
    ),
    "a-constant": JUDGED.format("replace(accuracy(mine), value=0.95)"),
    "labels": JUDGED.format("accuracy(replace(mine, answers=np.eye(4, dtype=np.float32)[mine.labels]))"),
    "swallowed": (
        "verdict = stress_check.judge(accuracy(mine))\n"
        "    verdict = verdict if verdict.passed else stress_check.judge(accuracy(theirs))"
    ),
    "another-pair": JUDGED.format("accuracy(theirs, clean=mine)"),
}


def gate(zoo, body: str, *, family: str, metric: str = "accuracy", threshold: float = 0.85, good: bool = False):
    (zoo.tests / "test_own.py").write_text(HEAD.replace("FAMILY", family).replace("BODY", body))
    (zoo.tests / "test_clean.py").unlink(missing_ok=True)
    rows = [row for row in ROWS.split("[[check]]") if 'family = "cl' not in row]
    own = ROW.replace("FAMILY", family).replace("METRIC", metric).replace("THRESHOLD", str(threshold))
    zoo.bind("[[check]]".join(rows) + own)
    zoo.save("incumbent.safetensors", jitter=0.01, seed=3)
    zoo.save("baseline.safetensors", jitter=0.01, seed=4)
    candidate = zoo.save("candidate.safetensors", blind=not good)
    others = ("--incumbent", "incumbent.safetensors", "--baseline", "baseline.safetensors")
    result = zoo.run("--candidate", str(candidate), *others)
    (found,) = (check for check in zoo.report()["self_checks"] if check["name"] == FOLLOW)
    return result, found


@pytest.mark.parametrize(
    ("body", "family"),
    [*((body, "mine") for body in MISTAKEN.values()), (MISTAKEN["another-models"], "clean")],
    ids=[*MISTAKEN, "another-models-clean"],
)
def test_a_mistaken_test_is_found_with_a_candidate_at_chance(zoo, body, family):
    result, found = gate(zoo, body, family=family)
    assert zoo.statuses["own"] == "pass", "the test itself lets a model at chance pass"
    assert result.ret == 4
    assert found["status"] == "fail"
    assert found["detail"].startswith(f"check own of family '{family}' ")


SOUND = {
    "accuracy": (JUDGED.format("accuracy(mine)"), "accuracy", 0.85),
    "gain": (JUDGED.format("accuracy_gain(mine, baseline.predict(images))"), "accuracy_gain", -0.2),
    "invariance": (JUDGED.format("invariance(mine, candidate.predict(images, Pose(5)))"), "invariance", 0.2),
    "own-metric": (
        JUDGED.format(
            'Measurement(Metric("doubt", Unit.SHARE, better="less"), 1 - float(mine.confidence.mean()), 400, (0, 1))'
        ),
        "doubt",
        0.99,
    ),
    "own-constant": (
        JUDGED.format('Measurement(Metric("labels", Unit.IMAGES, better="more"), len(mine.labels), 400, (0, 400))'),
        "labels",
        300,
    ),
    "a-network": (
        "candidate.classifier.plain(images.pixels[:1].float())\n    " + JUDGED.format("accuracy(mine)"),
        "accuracy",
        0.85,
    ),
}


@pytest.mark.parametrize(("body", "metric", "threshold"), SOUND.values(), ids=SOUND)
def test_a_sound_test_is_not(zoo, body, metric, threshold):
    result, found = gate(zoo, body, family="mine", metric=metric, threshold=threshold, good=True)
    assert result.ret == 0, result.stdout.str()
    assert found["status"] == "pass"


OF_A_PAIR = """
from harness.checks import Key
from harness.measures import pair_failures
from harness.plugin import check

PAIR = Key("pair", tuple[str, str], "{}")

@check("mine", PAIR)
def test_own(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(pair_failures(candidate.predict(images), pair=stress_check[PAIR]))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
"""


def test_the_threshold_of_a_pair_may_lie_between_one_direction_and_both(zoo):
    """A model that takes either class for the other confuses twice as many images as one that does so one way."""
    (zoo.tests / "test_own.py").write_text(OF_A_PAIR)
    row = ROW.replace("FAMILY", "mine").replace("METRIC", "pair_failures").replace("THRESHOLD", "150")
    zoo.bind(ROWS + row + 'pair = ["ant", "bee"]\n')
    result = zoo.run()
    (found,) = (check for check in zoo.report()["self_checks"] if check["name"] == FOLLOW)
    assert (found["status"], result.ret) == ("pass", 0), found["detail"]
    assert found["detail"].startswith("5 of 5 checks")


# Stand-ins.


def test_stand_ins_answer_as_they_are_called():
    images = images_of(400)
    answers = {
        name: standing_in(role_model(), answer)
        for name, answer in {
            "right": right,
            "wrong": wrong_by(1),
            "mostly": mostly_right,
            "random": at_random(0),
            "other": at_random(1),
        }.items()
    }
    shares = {name: accuracy(model.predict(images, Pose(3))).value for name, model in answers.items()}
    assert (shares["right"], shares["wrong"]) == (1.0, 0.0)
    assert 0.8 < shares["mostly"] < 1
    assert 0.15 < shares["random"] < 0.35
    assert calibration_error(answers["wrong"].predict(images)).value > 0.99
    first, again, other = (answers[name].predict(images).logits for name in ("random", "random", "other"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, answers["random"].predict(images, Pose(1)).logits)


def test_a_stand_in_answers_pairs_as_it_predicts():
    images, poses = images_of(40), (Pose(1), Pose(2))
    stand_in = standing_in(role_model(), at_random(0))
    which, positions = np.arange(80) % 2, np.arange(80) // 2
    found = stand_in.classifier.predict_pairs(images, positions, poses, which)
    for number, pose in enumerate(poses):
        assert np.array_equal(found[which == number], stand_in.predict(images, pose).predicted)


def test_a_stand_in_has_no_network():
    stand_in = standing_in(role_model(), right)
    with pytest.raises(NotApplicableError):
        stand_in.attend(images_of(4))
    for name in ("plain", "model"):
        with pytest.raises(NotApplicableError):
            getattr(stand_in.classifier, name)
