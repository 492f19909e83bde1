"""Predictors behind the one protocol.

Models like any other, with a cache by identity and refusals by fact.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from linear import IMAGES, WEIGHTS

from harness.base.cache import Store
from harness.base.errors import InputError, NotApplicableError
from harness.inference import open_model
from harness.inference.predictors.kinds import KINDS, PredictorKind, model_spec
from harness.inference.predictors.protocol import Identity, Provides
from harness.networks import NetworkOptions
from harness.perturb import Pose


def logits(pixels):
    return pixels.reshape(len(pixels), -1) @ WEIGHTS


def probabilities(pixels):
    scores = np.exp(logits(pixels))
    return scores / scores.sum(axis=1, keepdims=True)


@dataclass
class Made:
    answer: object = logits
    provides: Provides = field(default_factory=Provides)
    identity: Identity = field(default_factory=lambda: Identity("made", {"version": "1"}))
    asked: list = field(default_factory=list)

    def predict(self, pixels):
        self.asked.append(len(pixels))
        assert pixels.dtype == np.float32
        assert pixels.flags.c_contiguous
        return self.answer(pixels)

    def close(self):
        pass


@pytest.fixture
def opened(monkeypatch, tmp_path):
    def open_it(predictor, *, batch=32, cache=None):
        kind = PredictorKind("made:NAME", "", "", open=lambda spec, options, images: predictor)
        monkeypatch.setitem(KINDS.own, "made", kind)
        options = NetworkOptions(predictor_batch=batch)
        return open_model(
            model_spec("made:it"), IMAGES, role="candidate", network=options, cache=cache
        )

    return open_it


@pytest.mark.parametrize(
    "text", ["runs/a.pth", "C:\\runs\\a.pth", "run:3.safetensors", "./made:it", "a b:c", "x"]
)
def test_a_path_with_a_colon_stays_a_path(text):
    assert model_spec(text) == Path(text)


def test_a_predictor_is_asked_in_full_batches_of_one_size(opened):
    made = Made()
    model = opened(made, batch=16)
    np.testing.assert_allclose(
        model.predict(IMAGES).logits, logits(IMAGES.pixels.numpy() / np.float32(255)), rtol=1e-5
    )
    assert set(made.asked) == {16}
    assert str(model.path) == "made:it"
    assert model.as_json()["architecture"] == "made"
    made = Made(provides=Provides(live=False))
    opened(made, batch=16).predict(IMAGES)
    assert made.asked[-5:] == [16, 16, 16, 16, 6]
    with pytest.raises(
        NotApplicableError, match="attention: a model of the kind made gives predictions only"
    ):
        opened(Made()).attend(IMAGES)


def test_probabilities_stay_what_they_are(opened):
    model = opened(Made(probabilities, Provides("probabilities")))
    expected = probabilities(IMAGES.pixels.numpy() / np.float32(255))
    np.testing.assert_allclose(model.predict(IMAGES).probabilities, expected, rtol=1e-4)
    expected = logits(IMAGES.pixels.numpy() / np.float32(255)).argmax(axis=1)

    def top(pixels):
        scores = probabilities(pixels)
        return np.where(np.eye(3)[scores.argmax(axis=1)] == 1, scores, np.nan).astype(np.float32)

    for made in (
        Made(lambda pixels: logits(pixels).argmax(axis=1), Provides("labels")),
        Made(top, Provides("probabilities", top=1)),
    ):
        assert (opened(made).predict(IMAGES).predicted == expected).all()


def test_answers_are_cached_by_a_lasting_identity_alone(opened, tmp_path):
    for lasting, again in ((True, 0), (False, 1 + 70 + 70)):
        made = Made(identity=Identity("made", {"version": str(lasting)}, lasting=lasting))
        for _ in range(2):
            made.asked.clear()
            opened(made, batch=1, cache=Store(tmp_path)).predict(IMAGES, Pose(3))
        assert sum(made.asked) == again  # The first image, the order of classes, and the pose.


WRONG = {
    "shape": (
        lambda pixels: logits(pixels)[:, :2],
        Provides(),
        r"shape \(32, 2\) for 32 images, expected \(32, 3\)",
    ),
    "nan": (
        lambda pixels: logits(pixels) * np.nan,
        Provides(),
        "NaN or infinity for 32 of 32 images",
    ),
    "integers": (
        lambda pixels: logits(pixels).astype(int),
        Provides(),
        "logits are int64 of shape .*, expected floats",
    ),
    "sums": (
        lambda pixels: probabilities(pixels) / 2,
        Provides("probabilities"),
        "sums of 0.5 to 0.5",
    ),
    "negative": (
        lambda pixels: probabilities(pixels) * 3 - 2 / 3,
        Provides("probabilities"),
        "probabilities are -",
    ),
    "label": (
        lambda pixels: np.full(len(pixels), 3),
        Provides("labels"),
        "32 of 32 labels are no class: 3; the data have classes 0 to 2",
    ),
    "labels": (
        lambda pixels: np.zeros(len(pixels)),
        Provides("labels"),
        "labels are float64 of shape .* expected 32 int",
    ),
    "top": (
        probabilities,
        Provides("probabilities", top=2),
        "declared the top 2 classes, but returned 3",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_answers_are_refused_with_what_was_found(opened, case):
    answer, provides, message = WRONG[case]
    with pytest.raises(InputError, match=f"candidate made:it: .*{message}"):
        opened(Made(answer, provides))
