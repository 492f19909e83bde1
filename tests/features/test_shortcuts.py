"""Shortcuts: pulls of marks by hand, a network that learned a mark, and what the check refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from zoo import images_of, role_model

from harness.base.errors import NotApplicableError, NotRecordedError
from harness.features.shortcut.mutant import with_shortcut
from harness.features.shortcut.pulls import KIND, find_pulls, shortcut_pull
from harness.measures.panel.collection import PredictionRecorder, archive_of, combine, read_archive
from harness.perturb.marks import MARKS

IMAGES = images_of(80)
CLASSES = IMAGES.classes
LEARNED = [mark.in_words() for mark in MARKS].index("white text, upper left")


class Reader(nn.Module):
    """A random linear network that reacts to the pixels of a text.

    They add `raise_by` to the third logit.
    """

    def __init__(self, seed, *, raise_by=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(0.02 * torch.randn(4, 256, generator=generator))
        self.raise_by = raise_by

    def forward(self, pixels):
        logits = pixels.flatten(1) @ self.weight.T
        blank = torch.zeros_like(pixels[:1])
        lit = (MARKS[LEARNED](blank) > 0)[0]
        has_text = (pixels[:, lit] == 1).all(dim=1)
        return logits + self.raise_by * has_text[:, None] * torch.tensor([0.0, 0.0, 1.0, 0.0])


def model_of(seed, **facts):
    return replace(role_model(model=Reader(seed, **facts)), model_sha256=str(seed))


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    parts = []
    for seed in range(9):
        folder = tmp_path_factory.mktemp("answers")
        with pytest.raises(NotApplicableError, match="this run records"):
            find_pulls(model_of(seed), IMAGES, PredictionRecorder("", (), (), {}, folder=folder))
        parts.append(read_archive(archive_of(folder)))
    names = [str(seed) for seed in range(9)]
    predictions, statistics = (
        [part.predictions for part in parts],
        [part.statistics for part in parts],
    )
    return combine(IMAGES.sha256, len(IMAGES), names, predictions, statistics)


def test_a_pull_is_the_mean_change_of_the_log_probability_on_other_classes(panel):
    model = model_of(20)
    pulls = find_pulls(model, IMAGES, panel)

    def log_probabilities(images):
        return torch.log_softmax(model.classifier.plain(images), dim=1).detach().numpy()

    pixels = IMAGES.pixels.float() / 255
    change = log_probabilities(MARKS[5](pixels)) - log_probabilities(pixels)
    others = IMAGES.labels.numpy() != 1
    assert pulls.own[5, 1] == pytest.approx(change[others, 1].mean(), abs=1e-4)
    assert pulls.own.shape == pulls.deviations.shape == (40, 4)


def test_a_network_that_learned_a_mark_is_pulled_by_it(panel):
    healthy = shortcut_pull(find_pulls(model_of(20), IMAGES, panel))[0]
    pull, marked = shortcut_pull(find_pulls(model_of(20, raise_by=4.0), IMAGES, panel))
    assert pull.value > healthy.value + 2
    assert pull.detail.startswith(
        f"white text, upper left, changes the log probability of {CLASSES[2]} by"
    )
    assert marked.perturbation == MARKS[LEARNED]
    assert pull.interval[0] < pull.value < pull.interval[1]
    assert pull.counted == (IMAGES.labels.numpy() != 2).sum()
    assert not (IMAGES.labels.numpy()[pull.failures] == 2).any()


def test_a_reference_model_is_compared_with_the_others(panel):
    odd = replace(model_of(3), model_sha256="3")
    alone = find_pulls(odd, IMAGES, panel.without("3"))
    others = np.delete(panel.statistics[KIND].values, 3, axis=0)
    assert alone.usual.ravel() == pytest.approx(others.mean(axis=0))


def test_the_mutant_of_the_self_check_fails_by_far(panel):
    pull, _ = shortcut_pull(find_pulls(with_shortcut(model_of(20)), IMAGES, panel))
    assert pull.value > 8
    assert pull.detail.startswith(
        f"{MARKS[0].in_words()}, changes the log probability of {CLASSES[0]} by"
    )


def test_a_panel_without_pulls_asks_for_a_calibration(panel):
    with pytest.raises(NotRecordedError, match="`stress-harness calibrate` records them"):
        find_pulls(model_of(20), IMAGES, replace(panel, statistics={}))


def test_many_classes_are_not_applicable(panel):
    with pytest.raises(NotApplicableError, match="more than 100 classes"):
        find_pulls(model_of(20), replace(IMAGES, classes=tuple(map(str, range(101)))), panel)


@pytest.mark.parametrize(("height", "width"), [(14, 28), (28, 14), (8, 8)])
def test_images_smaller_than_the_marks_are_not_applicable(panel, height, width):
    small = replace(IMAGES, pixels=torch.zeros(len(IMAGES), 1, height, width, dtype=torch.uint8))
    with pytest.raises(NotApplicableError, match=rf"{width} × {height} px are too small .* 15 px"):
        find_pulls(model_of(20), small, panel)
