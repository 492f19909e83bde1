"""Trials of serving pipelines in rounds: the same answers and scores as of all images at once, from fewer images."""

import numpy as np
import pytest
from zoo import images_of, role_model

from harness.data.serving.catalog import variations
from harness.features.skew.diagnosis import Diagnosis, explained
from harness.features.skew.trials import MANY, WHOLE, Trials
from harness.inference.serving import model_serving, served_predictions
from harness.measures.serving import explanation


@pytest.fixture(scope="module")
def model():
    return role_model()


@pytest.fixture(scope="module")
def serving(model):
    return model_serving(model, images_of(400))


def of_fault(model, serving, pipeline):
    """Return the trials of a fault's answers."""
    return trials_of(model, serving, served_predictions(model, serving, pipeline).predicted)


def trials_of(model, serving, served):
    return Trials(model, serving, served, model.predict(serving.images).predicted)


@pytest.fixture
def asked(monkeypatch):
    """Return a list that gets the number of images of each question."""
    counts = []

    def counted(model, serving, pipeline):
        counts.append(len(serving.images))
        return served_predictions(model, serving, pipeline)

    monkeypatch.setattr("harness.features.skew.trials.served_predictions", counted)
    return counts


def raced(trials):
    trials.race([*trials.serving.catalog.values(), *variations(trials.serving.reference, (16, 16))])


def test_a_trial_has_the_answers_and_the_score_of_all_images_at_once(model, serving):
    trials = of_fault(model, serving, serving.skewed("gamma-linear"))
    trial = trials.entered(serving.skewed("crop-right-1"), WHOLE)
    whole = served_predictions(model, serving, trial.pipeline)
    behind = whole.answers[trials.order, trials.served] - whole.answers[trials.order].max(axis=1)
    assert np.array_equal(trial.answers, whole.predicted[trials.order])
    assert trials.score(trial) == pytest.approx(np.maximum(behind, np.log(1e-3)).sum(), rel=1e-5)


def test_images_that_are_looked_at_stand_for_all_of_their_kind(model, serving, monkeypatch):
    """With 20 changed and 20 unchanged images, the score weighs them by how many there are of each."""
    monkeypatch.setattr("harness.features.skew.trials._LOOKED_AT", 20)
    trials = of_fault(model, serving, serving.skewed("gamma-linear"))
    changed = trials.served != trials.known
    assert 20 < changed.sum() < 380
    whole = served_predictions(model, serving, serving.skewed("crop-right-1"))
    logits = whole.answers[trials.order]
    behind = np.maximum(logits[np.arange(400), trials.served] - logits.max(axis=1), np.log(1e-3))
    parts = [behind[:40][changed[:40] == which].mean() * (changed == which).sum() for which in (True, False)]
    trial = trials.entered(serving.skewed("crop-right-1"), MANY)
    assert trials.score(trial) == pytest.approx(sum(parts), rel=1e-5)
    assert len(trial.answers) == 40
    trials.advance(trial)
    assert np.array_equal(trial.answers, whole.predicted[trials.order])


def test_the_first_images_are_changed_and_unchanged_by_turns(model, serving):
    trials = of_fault(model, serving, serving.skewed("gamma-linear"))
    assert (trials.served != trials.known)[:32].sum() == 16
    assert sorted(trials.order) == list(range(400))


@pytest.mark.parametrize("name", ["gamma-linear", "crop-right-1", "video-range"])
def test_a_race_leaves_the_true_pipeline_for_a_third_of_the_images(model, serving, asked, name):
    trials = of_fault(model, serving, serving.skewed(name))
    raced(trials)
    assert trials.score(trials.ranked()[0]) == 0
    assert serving.skewed(name) in [trial.pipeline for trial in trials.ranked() if trials.score(trial) == 0]
    assert sum(asked) < len(trials) * 400 / 3


def test_the_best_of_each_cause_comes_to_all_images(model, serving):
    trials = of_fault(model, serving, serving.skewed("gamma-linear"))
    raced(trials)
    assert {trial.causes for trial in trials.ranked(MANY)} == {trial.causes for trial in trials.ranked(0)}


def test_pairs_that_could_prove_nothing_are_not_tried(model, serving, asked):
    # The served answers are those of a skew but for 6: a pair is better than the skew on these alone.
    served = served_predictions(model, serving, serving.skewed("gamma-linear")).predicted.copy()
    served[:6] = (served[:6] + 1) % 4
    trials = trials_of(model, serving, served)
    found = explained(Diagnosis(serving, explanation(trials.served, trials.known, trials.known), ()), trials)
    assert found.named
    assert not any(len(trial.causes) > 1 for trial in trials.ranked(0))
    assert found.comparisons == 2 * len(trials)
