"""Answers that are not the candidate's, such as those of another model in the cache, are found by a self-check."""

import re

from zoo import CLASSES, images_of, network

from harness.inference import Classifier, RoleModel
from harness.perturb import HorizontalFlip, Pose
from harness.run.selfcheck import _answers_are_the_models
from harness.run.session import StressSession
from harness.store.cache import PredictionCache

IMAGES = images_of()


def session_of(model, cache) -> StressSession:
    classifier = Classifier(model, cache=cache)
    candidate = RoleModel("candidate", "a", "", "", "fashion-cnn", None, classifier)
    return StressSession(IMAGES, None, {"candidate": candidate})


def asked(session):
    for perturbation in (Pose(5), Pose(dx=1), HorizontalFlip()):
        session.roles["candidate"].predict(IMAGES, perturbation)
    return _answers_are_the_models(session)


def test_answers_of_the_model_itself_are_found_to_be_its_own(tmp_path):
    for _ in ("first", "from the cache"):
        check = asked(session_of(network(), PredictionCache(tmp_path)))
        assert check.status == "pass"


def test_answers_of_another_model_in_the_cache_are_found(tmp_path, monkeypatch):
    good = Classifier(network())
    monkeypatch.setattr(
        PredictionCache,
        "load",
        lambda self, key, shape: good.predict(IMAGES).answers if shape[1:] == (len(CLASSES),) else None,
    )
    blind = network()
    blind.fc1.weight.data.zero_()
    check = asked(session_of(blind, PredictionCache(tmp_path)))
    assert check.status == "fail"
    assert re.match(r"[1-9]\d* of 96 answers of this run are others", check.detail)
    assert "cache --clear" in check.detail


def test_a_run_that_asked_for_nothing_has_nothing_to_check(tmp_path):
    check = _answers_are_the_models(session_of(network(), None))
    assert check.status == "pass"
