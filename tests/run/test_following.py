"""A test that shows another model's measurement is found, in any family."""

from dataclasses import replace

import numpy as np
import pytest
from zoo import checks_text, images_of, network, role_model

from harness.base.errors import NotApplicableError
from harness.checks import read_checks
from harness.inference.standins import at_random, mostly_right, right, standing_in, wrong_by
from harness.measures import (
    Measurement,
    Metric,
    Unit,
    accuracy,
    accuracy_gain,
    calibration_error,
    invariance,
    pair_failures,
)
from harness.perturb import Pose
from harness.run.mutants import checks_follow_the_candidate
from harness.run.session import StressSession

IMAGES = images_of(400)
ROW = '\n[[check]]\nid = "own"\nfamily = "mine"\nmetric = "{}"\nhand = {{ threshold = {} }}\n{}\n'
DOUBT, LABELS = (
    Metric("doubt", Unit.SHARE, better="less"),
    Metric("labels", Unit.IMAGES, better="more"),
)


@pytest.fixture(scope="module")
def models():
    blind = network()
    blind.fc1.weight.data.zero_()
    others = {
        role: role_model(role, network(jitter=0.01, seed=at))
        for at, role in enumerate(("incumbent", "baseline"))
    }
    return {"blind": role_model(model=blind), "good": role_model(), **others}


def followed(
    tmp_path, models, body, *, candidate="good", metric="accuracy", threshold=0.85, more=""
):
    """Return what the self-check finds of a test with this body, of the only row."""
    path = tmp_path / "checks.toml"
    path.write_text(checks_text(IMAGES, ROW.format(metric, threshold, more)))
    roles = {
        "candidate": models[candidate],
        "incumbent": models["incumbent"],
        "baseline": models["baseline"],
    }
    session = StressSession(IMAGES, read_checks(path), roles)

    def judge(session, check):
        mine, theirs = (
            session.roles[role].predict(session.images) for role in ("candidate", "incumbent")
        )
        return body(session.scaled(check), mine, theirs, session)

    (check,) = session.checks.checks
    return judge(session, check), checks_follow_the_candidate(session, judge)


def swallowed(check, mine, theirs, _):
    verdict = check.judge(accuracy(mine))
    return verdict if verdict.passed else check.judge(accuracy(theirs))


MISTAKEN = {
    "another-models": lambda check, mine, theirs, _: check.judge(accuracy(theirs)),
    "the-better-of-both": lambda check, mine, theirs, _: max(
        map(check.judge, map(accuracy, (mine, theirs))), key=lambda verdict: verdict.value
    ),
    "a-constant": lambda check, mine, theirs, _: check.judge(replace(accuracy(mine), value=0.95)),
    "labels": lambda check, mine, theirs, _: check.judge(
        accuracy(replace(mine, answers=np.eye(4, dtype=np.float32)[mine.labels]))
    ),
    "swallowed": swallowed,
    "another-pair": lambda check, mine, theirs, _: check.judge(accuracy(theirs, clean=mine)),
}


@pytest.mark.parametrize("body", MISTAKEN.values(), ids=MISTAKEN)
def test_a_mistaken_test_is_found_with_a_candidate_at_chance(tmp_path, models, body):
    verdict, finding = followed(tmp_path, models, body, candidate="blind")
    assert verdict.status == "pass", "the test itself lets a model at chance pass"
    assert not finding.holds
    assert finding.check == "own"
    assert finding.detail.startswith("check own of family 'mine' ")


def of_network(check, mine, _, session):
    session.roles["candidate"].classifier.plain(IMAGES.pixels[:1].float())
    return check.judge(accuracy(mine))


SOUND = {
    "accuracy": (lambda check, mine, *_: check.judge(accuracy(mine)), {}),
    "gain": (
        lambda check, mine, _, session: check.judge(
            accuracy_gain(mine, session.roles["baseline"].predict(session.images))
        ),
        {"metric": "accuracy_gain", "threshold": -0.2},
    ),
    "invariance": (
        lambda check, mine, _, session: check.judge(
            invariance(mine, session.roles["candidate"].predict(session.images, Pose(5)))
        ),
        {"metric": "invariance", "threshold": 0.2},
    ),
    "own-metric": (
        lambda check, mine, *_: check.judge(
            Measurement(DOUBT, 1 - float(mine.confidence.mean()), 400, (0, 1))
        ),
        {"metric": "doubt", "threshold": 0.99},
    ),
    "own-constant": (
        lambda check, mine, *_: check.judge(Measurement(LABELS, len(mine.labels), 400, (0, 400))),
        {"metric": "labels", "threshold": 300},
    ),
    "a-pair": (
        lambda check, mine, *_: check.judge(pair_failures(mine, pair=("ant", "bee"))),
        {"metric": "pair_failures", "threshold": 150, "more": 'pair = ["ant", "bee"]'},
    ),
    "a-network": (of_network, {}),
}
"""A model that takes either class of a pair for the other confuses twice as many images as one that
does so one way.
"""


@pytest.mark.parametrize(("body", "about"), SOUND.values(), ids=SOUND)
def test_a_sound_test_is_not(tmp_path, models, body, about):
    if body in {of_network, SOUND["own-constant"][0]}:
        with pytest.raises(NotApplicableError, match="0 of 1 checks"):
            followed(tmp_path, models, body, **about)
        return
    verdict, finding = followed(tmp_path, models, body, **about)
    assert verdict.status == "pass"
    assert finding.holds, finding.detail


# Stand-ins.


def test_stand_ins_answer_as_they_are_called():
    kinds = {
        "right": right,
        "wrong": wrong_by(1),
        "mostly": mostly_right,
        "random": at_random(0),
        "other": at_random(1),
    }
    answers = {name: standing_in(role_model(), answer) for name, answer in kinds.items()}
    shares = {
        name: accuracy(model.predict(IMAGES, Pose(3))).value for name, model in answers.items()
    }
    assert (shares["right"], shares["wrong"]) == (1.0, 0.0)
    assert 0.8 < shares["mostly"] < 1
    assert 0.15 < shares["random"] < 0.35
    assert calibration_error(answers["wrong"].predict(IMAGES)).value > 0.99
    first, again, other = (
        answers[name].predict(IMAGES).logits for name in ("random", "random", "other")
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, answers["random"].predict(IMAGES, Pose(1)).logits)


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
