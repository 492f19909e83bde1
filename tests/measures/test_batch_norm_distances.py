"""Distances of running statistics from activations, against PyTorch's own divergence.

Models that the family refuses.
"""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from harness.base.errors import NotApplicableError, UserCodeError
from harness.data import LabelledImages
from harness.data.images import unit_range
from harness.features.batch_norm.distance import (
    batch_norm_distance,
    batch_norm_distance_minimum,
    batch_norm_misfit,
    find_batch_norm_distances,
)
from harness.features.batch_norm.family import stale_statistics_are_noticed
from harness.features.batch_norm.metrics import GROUPS
from harness.inference import Classifier, standins
from harness.inference.role import RoleModel
from harness.perturb.augmentation import Augmentation, UserAugmentation

N = 200
PIXELS = torch.randint(0, 256, (N, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(
    torch.uint8
)
IMAGES = LabelledImages(PIXELS, torch.arange(N) % 2, ("ant", "bee"), "noise", "test")


def network(layers: int = 4) -> nn.Sequential:
    torch.manual_seed(1)
    blocks = [
        [nn.Conv2d(1 if not at else 3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()]
        for at in range(layers)
    ]
    made = nn.Sequential(
        *(layer for block in blocks for layer in block), nn.Flatten(), nn.Linear(192, 2)
    )
    with torch.no_grad():
        made.train()(unit_range(PIXELS[:50]))  # One batch moves the statistics by a tenth.
    return made.eval()


def role_of(model: nn.Module) -> RoleModel:
    return RoleModel("candidate", "toy.pth", "0" * 64, "1" * 64, "toy", None, Classifier(model))


def by_torch(model: nn.Sequential, x: torch.Tensor) -> dict[str, float]:
    """Return the distance of each batch norm by PyTorch, from all inputs in one batch."""
    found = {}
    for name, layer in model.named_children():
        if isinstance(layer, nn.BatchNorm2d):
            seen = x.double().transpose(0, 1).flatten(1)
            active = Normal(seen.mean(dim=1), (seen.var(dim=1, correction=0) + layer.eps).sqrt())
            running = Normal(
                layer.running_mean.double(), (layer.running_var.double() + layer.eps).sqrt()
            )
            found[name] = float(kl_divergence(active, running).mean())
        x = layer(x)
    return found


@torch.no_grad()
def test_distances_are_the_divergences_of_normal_distributions():
    model = network()
    found, expected = (
        find_batch_norm_distances(role_of(model), IMAGES),
        by_torch(model, unit_range(PIXELS)),
    )
    assert list(found.of_all) == list(expected) == ["1", "4", "7", "10"]
    assert found.of_all == pytest.approx(expected, rel=1e-4)
    assert not model.training
    early = batch_norm_distance(found, "early")
    assert early.value == pytest.approx(np.log([expected["1"], expected["4"]]).mean(), rel=1e-4)
    assert early.n == N
    assert early.interval[0] < early.value < early.interval[1]
    near, far = sorted(("1", "4"), key=lambda name: expected[name])
    assert early.detail.startswith(f"early layers 1 to 4, the farthest {far} with")
    fits = batch_norm_distance_minimum(found, "early")
    assert fits.detail.startswith(f"early layers 1 to 4, the nearest {near} with")
    late = batch_norm_distance(found, "late")
    assert late.detail == f"layer 10 with {expected['10']:.2g} nats"
    least = batch_norm_distance_minimum(found, "late")
    assert (least.value, least.metric.direction, late.metric.direction) == (
        late.value,
        "at_least",
        "at_most",
    )


def test_statistics_that_fit_too_well_and_stale_ones_lie_on_two_sides():
    def value(model):
        return batch_norm_distance(find_batch_norm_distances(role_of(model), IMAGES), "early").value

    fresh, stale = network(), network()
    with torch.no_grad():
        for layer in fresh.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
        fresh.train()(unit_range(PIXELS))
        for layer in stale.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var.mul_(4)
    assert value(fresh) < value(network()) < value(stale)
    assert value(fresh) < np.log(1e-4)


@torch.no_grad()
def test_the_misfit_is_that_of_images_augmented_as_in_training():
    trained = Augmentation(rotation_degrees=20.0, shift_fraction=0.2, flip_probability=0.5)
    draws = trained.draws(8, 8)
    moved = torch.cat([draws[at % len(draws)](unit_range(PIXELS[at : at + 1])) for at in range(N)])
    model = network()
    expected = by_torch(model, moved)
    found = find_batch_norm_distances(role_of(model), IMAGES, trained)
    assert found.of_all == pytest.approx(expected, rel=1e-4)
    assert found.of_all != find_batch_norm_distances(role_of(model), IMAGES).of_all
    early = batch_norm_misfit(found, "early")
    assert early.value == pytest.approx(((expected["1"] + expected["4"]) / 2) ** 0.25, rel=1e-4)
    assert (early.metric.direction, early.n) == ("at_most", N)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    model.train()(moved)
    fits = batch_norm_misfit(
        find_batch_norm_distances(role_of(model.eval()), IMAGES, trained), "early"
    )
    assert fits.value < 0.2 * early.value
    assert 0 <= fits.interval[0] <= fits.value <= fits.interval[1]


def darkened(image, generator):
    return image * torch.rand(1, generator=generator)


@torch.no_grad()
def test_a_function_of_ones_own_augments_each_image_by_its_draw(importable):
    function = importable(darkened)
    factors = [torch.rand(1, generator=torch.Generator().manual_seed(draw)) for draw in range(50)]
    augmented = torch.cat(
        [factors[row % 50] * unit_range(PIXELS[row : row + 1]) for row in range(N)]
    )
    model = network()

    distances = find_batch_norm_distances(role_of(model), IMAGES, UserAugmentation(function))

    assert distances.of_all == pytest.approx(by_torch(model, augmented), rel=1e-4)


FAULTS = {
    "an exception": (lambda image, generator: image / 0 + None, "raised TypeError"),
    "another shape": (
        lambda image, generator: image[:, 1:],
        r"returned Tensor \(1, 7, 8\); expected a tensor \(1, 8, 8\)",
    ),
    "normalized pixels": (
        lambda image, generator: 4 * image - 2,
        ".* expected 0 to 1, before normalization",
    ),
    "not a number": (
        lambda image, generator: image * float("nan"),
        "returned pixels from nan to nan",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_function_that_returns_no_image_is_named(importable, fault):
    function, problem = FAULTS[fault]
    augmentation = UserAugmentation(importable(function))
    with pytest.raises(
        UserCodeError, match=f"augmentation_function {augmentation.function}: {problem}"
    ):
        find_batch_norm_distances(role_of(network()), IMAGES, augmentation)


@pytest.fixture
def importable(monkeypatch):
    """Return a function that returns the `module:name` under which its argument can be imported."""

    def made(function):
        module = ModuleType("own_augmentation")
        module.augment = function
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return f"{module.__name__}:augment"

    return made


def test_workers_and_repetition_change_no_bit():
    model = network()
    found = [
        find_batch_norm_distances(
            replace(role_of(model), classifier=Classifier(model, workers=workers)), IMAGES
        )
        for workers in (1, 3, 3)
    ]
    assert found[0].of_all == found[1].of_all == found[2].of_all


class WithAuxiliaryHead(nn.Module):
    """A network with one batch norm that it calls or not, and one that it never calls."""

    def __init__(self, *, calls: bool) -> None:
        super().__init__()
        self.calls, self.norm, self.auxiliary = calls, nn.BatchNorm2d(1), nn.BatchNorm2d(3)
        self.last = nn.Linear(64, 2)

    def forward(self, x):
        return self.last((self.norm(x) if self.calls else x).flatten(1))


def test_batch_norms_that_are_not_called_are_left_out():
    assert list(
        find_batch_norm_distances(role_of(WithAuxiliaryHead(calls=True).eval()), IMAGES).of_all
    ) == ["norm"]
    with pytest.raises(NotApplicableError, match="calls no batch norm"):
        find_batch_norm_distances(role_of(WithAuxiliaryHead(calls=False).eval()), IMAGES)


@pytest.mark.parametrize(
    ("metric", "can_tell"), [("distance", True), ("misfit", True), ("distance_minimum", False)]
)
def test_no_minimum_is_asked_for_smaller_running_variances(metric, can_tell):
    rows = [SimpleNamespace(metric=f"batch_norm_{metric}", binding=True)]
    session = SimpleNamespace(checks=SimpleNamespace(family=lambda _: rows))
    assert (stale_statistics_are_noticed(session, None) is not None) == can_tell


def test_what_has_no_running_statistics_does_not_apply():
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(NotApplicableError, match="no batch norm with running statistics"):
        find_batch_norm_distances(role_of(bare), IMAGES)
    with pytest.raises(NotApplicableError, match="predictions only"):
        find_batch_norm_distances(standins.standing_in(role_of(bare), standins.right), IMAGES)
    one = find_batch_norm_distances(role_of(network(1)), IMAGES)
    assert batch_norm_distance(one, GROUPS[0]).n == N
    with pytest.raises(NotApplicableError, match="of 1 batch norms, none is late"):
        batch_norm_distance(one, "late")
