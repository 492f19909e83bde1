"""A backend runs models; another is one entry in a table, and everything else goes on as it was."""

import numpy as np
import pytest
import torch
from zoo import images_of, network

from harness.base import PredictionCache
from harness.base.errors import InputError
from harness.inference import Classifier, ModelError, open_model
from harness.inference.backends import BACKENDS
from harness.inference.engine import checked
from harness.inference.search import first_failures
from harness.perturb import Pose


class Counting:
    """Runs a model in this process, three images at a time, and counts the images."""

    def __init__(self, model, *, device, workers, screen):
        self.model, self.seen = model, 0

    decides = ("counting", 3)

    def measure_precision_on(self, count, inputs, *, name):
        pass

    def screens_for(self, count):
        return False

    def logits(self, count, inputs, *, classes, what):
        return self.exact_logits(count, inputs, classes=classes, what=what)

    def exact_logits(self, count, inputs, *, classes, what):
        self.seen += count
        batches = np.split(np.arange(count), range(3, count, 3))
        with torch.inference_mode():
            logits = [checked(self.model(inputs(batch)), (len(batch), classes), images=len(batch)) for batch in batches]
        return torch.cat(logits).numpy()


@pytest.fixture
def made(monkeypatch):
    """The backends that were made since the entry was added."""
    backends = []

    def make(model, **facts):
        backends.append(Counting(model, **facts))
        return backends[-1]

    monkeypatch.setitem(BACKENDS, "counting", make)
    return backends


def test_predictions_run_through_the_backend_that_is_named(made):
    images = images_of(40)
    classifier = Classifier(network(), backend="counting")
    ours = classifier.predict(images, Pose(5.0))
    assert classifier.predict(images, Pose(5.0)) is ours, "remembered"
    assert [backend.seen for backend in made] == [40]
    reference = Classifier(network(), screen=False).predict(images, Pose(5.0))
    np.testing.assert_allclose(ours.logits, reference.logits, rtol=1e-5)
    poses = (Pose(), Pose(30.0), Pose(90.0))
    assert first_failures(classifier, images, poses).first.tolist() == (
        first_failures(Classifier(network()), images, poses).first.tolist()
    )
    assert made[0].seen > 40


def test_a_model_like_another_runs_on_the_same_backend(made):
    classifier = Classifier(network(), backend="counting").like(network(jitter=1.0))
    classifier.predict(images_of(5))
    assert [backend.seen for backend in made] == [0, 5]


def test_a_checkpoint_is_opened_on_the_backend_that_is_named(made, tmp_path):
    from zoo import Zoo

    place = Zoo(tmp_path)
    open_model(place.root / "models/augmented.safetensors", place.images, device="cpu", backend="counting")
    assert [backend.seen for backend in made] == [1], "the first image, to see that it works"


def test_backends_do_not_find_each_others_predictions_in_the_cache(made, tmp_path):
    images, cache = images_of(8), PredictionCache(tmp_path)
    for backend, entries in (("process", 1), ("counting", 2), ("counting", 2)):
        Classifier(network(), cache=cache, backend=backend).predict(images)
        assert cache.info().entries == entries
    assert [backend.seen for backend in made] == [8, 0]


def test_the_size_of_batches_is_the_backends_business():
    """The name of the process's own backend includes its batches: other sizes are cached apart."""
    from harness.inference import devices
    from harness.inference.engine import Engine

    backend = Engine(network(), device=torch.device("cpu"), workers=1)
    assert (devices.FLOAT32_BATCH, devices.BFLOAT16_BATCH) in backend.decides


def test_a_backend_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="backend 'abacus' is unknown; expected process"):
        Classifier(network(), backend="abacus")


def test_a_model_that_fails_is_named_by_what_it_was_asked():
    class Broken(torch.nn.Module):
        def forward(self, pixels):
            raise RuntimeError("out of order")

    with pytest.raises(ModelError, match=r"the model failed on images \(3, 1, 16, 16\) under .*: out of order"):
        Classifier(Broken()).predict(images_of(3))
