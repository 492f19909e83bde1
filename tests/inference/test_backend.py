"""A backend runs models; with another, everything else goes on as it was."""

import numpy as np
import pytest
from zoo import images_of, network

from harness.base.cache import Store
from harness.inference import Classifier, open_model
from harness.inference.engine import Engine
from harness.inference.search import first_failures
from harness.perturb import Pose


class Counting(Engine):
    """Runs a model three images at a time, and counts the images."""

    decides = ("counting", 3)

    def __init__(self, model, *, device, workers, screen):
        super().__init__(model, device=device, workers=1, screen=False)
        self.seen = 0

    def over_batches(self, task, model, inputs, *, size):
        self.seen += len(inputs)
        return super().over_batches(task, model, inputs, size=3)


@pytest.fixture
def made():
    """The backends that `counting` has made."""
    return []


@pytest.fixture
def counting(made):
    def make(model, **facts):
        made.append(Counting(model, **facts))
        return made[-1]

    return make


def test_predictions_run_through_the_backend_that_is_named(made, counting):
    images = images_of(40)
    classifier = Classifier(network(), backend=counting)
    ours = classifier.predict(images, Pose(5.0))
    assert classifier.predict(images, Pose(5.0)) is ours, "remembered"
    assert [backend.seen for backend in made] == [40]
    reference = Classifier(network(), screen=False).predict(images, Pose(5.0))
    np.testing.assert_allclose(ours.logits, reference.logits, rtol=1e-5)
    poses = (Pose(), Pose(30.0), Pose(90.0))
    found, expected = (
        first_failures(each, images, poses).first for each in (classifier, Classifier(network()))
    )
    assert found.tolist() == expected.tolist()
    assert made[0].seen > 40


def test_a_model_like_another_runs_on_the_same_backend(made, counting):
    classifier = Classifier(network(), backend=counting).like(network(jitter=1.0))
    classifier.predict(images_of(5))
    assert [backend.seen for backend in made] == [0, 5]


def test_a_checkpoint_is_opened_on_the_backend_that_is_named(made, counting, tmp_path):
    from zoo import Zoo

    place = Zoo(tmp_path)
    open_model(
        place.root / "models/augmented.safetensors", place.images, device="cpu", backend=counting
    )
    assert [backend.seen for backend in made] == [1], "the first image, to see that it works"


def test_backends_do_not_find_each_others_predictions_in_the_cache(made, counting, tmp_path):
    images, cache = images_of(8), Store(tmp_path)
    for backend, entries in ((Engine, 1), (counting, 2), (counting, 2)):
        Classifier(network(), cache=cache, backend=backend).predict(images)
        assert cache.info().entries == entries
    assert [backend.seen for backend in made] == [8, 0]
