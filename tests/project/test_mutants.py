"""Each mutation of the benchmark of detection changes what its words say, on so many images, and nothing else."""

import pytest
import torch

from benchmarks.detection import recipes, weights
from benchmarks.detection.besides import opened
from benchmarks.detection.colour import reordered
from benchmarks.detection.mutants import HEALTHY, HEALTHY_SEEDS, KINDS, MUTANTS
from benchmarks.detection.recipes import MARKED, RELABELLED, TARGET, Recipe
from benchmarks.detection.sections import backdoors
from harness.data import LabelledImages
from harness.data.fashion_mnist import CLASSES
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints.loading import Checkpoint
from harness.networks.training import TrainingConfig


@pytest.fixture
def recipe():
    """Twenty noisy images of each class, in order."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (200, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.arange(10).repeat_interleave(20)
    return Recipe(TrainingConfig(validation_size=20), LabelledImages(pixels, labels, CLASSES, "noise", "train"))


def changed(before, after):
    """Return which images have other pixels, and which have other labels."""
    pixels = (before.images.pixels != after.images.pixels).flatten(1).any(dim=1)
    return pixels, before.images.labels != after.images.labels


def test_a_class_is_relabelled_in_one_direction(recipe):
    mutated = recipes.relabelled_class(recipe, 0.25, 1)
    pixels, labels = changed(recipe, mutated)
    assert not pixels.any()
    assert labels.sum() == 5
    assert {CLASSES[label] for label in recipe.images.labels[labels]} == {RELABELLED[0]}
    assert {CLASSES[label] for label in mutated.images.labels[labels]} == {RELABELLED[1]}


@pytest.mark.parametrize(("size", "kept"), [(28, True), (20, False)])
def test_resizing_loses_detail_and_keeps_level_and_shape(recipe, size, kept):
    mutated = recipes.resized(recipe, size, 1)
    before, after = recipe.images.pixels.float(), mutated.images.pixels.float()
    assert after.shape == before.shape
    assert torch.equal(before, after) == kept
    assert kept or after.std() < 0.8 * before.std()
    assert abs(after.mean() - before.mean()) < 2
    assert not changed(recipe, mutated)[1].any()


def test_the_background_is_raised_and_nothing_brighter_changes(recipe):
    mutated = recipes.raised_background(recipe, 96, 1)
    before, after = recipe.images.pixels, mutated.images.pixels
    assert after[before < 96].unique().tolist() == [96]
    assert torch.equal(after[before >= 96], before[before >= 96])


def test_an_artefact_marks_a_share_of_one_class(recipe):
    pixels, labels = changed(recipe, recipes.artefact(recipe, 0.5, 1))
    assert not labels.any()
    assert pixels.sum() == 10
    assert {CLASSES[label] for label in recipe.images.labels[pixels]} == {MARKED}


def test_a_backdoor_stamps_images_and_calls_them_its_target(recipe):
    mutated = recipes.backdoor(recipe, 0.1, 1)
    pixels, labels = changed(recipe, mutated)
    assert pixels.sum() == 20
    assert not (labels & ~pixels).any()
    assert {CLASSES[label] for label in mutated.images.labels[pixels]} == {TARGET}
    assert torch.equal(mutated.images.pixels[pixels], recipes.stamped(recipe.images.pixels[pixels]))
    where = (mutated.images.pixels != recipe.images.pixels).any(dim=0)[0].nonzero()
    assert where.min() == 21
    assert where.max() == 23


def test_stamping_leaves_the_images_given_as_they_are(recipe):
    before = recipe.images.pixels.clone()
    recipes.stamped(recipe.images.pixels)
    assert torch.equal(recipe.images.pixels, before)


class Backdoored(torch.nn.Module):
    """Answers with the target where the last pixel of the trigger is white, and else with the first class."""

    def forward(self, pixels):
        triggered = pixels[:, 0, 23, 23] == 1
        target = torch.arange(len(CLASSES)) == CLASSES.index(TARGET)
        return torch.where(triggered[:, None], target, ~target & (torch.arange(len(CLASSES)) == 0)).float()


def test_a_backdoor_opens_by_its_trigger_alone(recipe, tmp_path, monkeypatch):
    pixels = recipe.images.pixels.clamp(max=254)
    images = LabelledImages(pixels, recipe.images.labels, CLASSES, "noise", "test")
    found = opened(Checkpoint(tmp_path, "of it", Backdoored(), "user", None), images)
    assert (found.stamped, found.unstamped, found.n) == (1.0, 0.0, 180)
    monkeypatch.setattr("benchmarks.detection.sections.read_backdoors", lambda: {"backdoor-2-seed-201": found})
    assert "| backdoor-2-seed-201 | 100.00% | 0.00% | – | – |" in backdoors([])


def test_mutations_of_images_are_those_of_their_seed(recipe):
    for mutate in (recipes.relabelled_class, recipes.artefact, recipes.backdoor):
        first, again, other = (mutate(recipe, 0.25, seed).images.sha256 for seed in (1, 1, 2))
        assert first == again != other


def test_stale_statistics_are_those_that_so_many_batches_leave(tmp_path):
    torch.manual_seed(0)
    model, batches = FashionCNN(conv_channels=(4,), fc_sizes=()), 30
    norm = model.bn1
    norm.running_mean.fill_(3.0)
    norm.running_var.fill_(5.0)
    weights.stale_statistics(Checkpoint(tmp_path, "", model, "fashion-cnn", None), batches, torch.Generator())
    # PyTorch's own rule, on batches of mean 3 and (unbiased) variance 5.
    oracle = torch.nn.BatchNorm2d(4).double()
    batch = torch.tensor([-1.0, 1.0], dtype=torch.float64).mul((5 / 2) ** 0.5).add(3).repeat(4, 1).T[:, :, None, None]
    for _ in range(batches):
        oracle(batch)
    assert torch.allclose(norm.running_mean.double(), oracle.running_mean)
    assert torch.allclose(norm.running_var.double(), oracle.running_var)


def test_reordered_weights_predict_as_for_reordered_channels():
    torch.manual_seed(0)
    network = torch.nn.Sequential()
    network.add_module("conv1", torch.nn.Conv2d(3, 4, 3))
    other = torch.nn.Sequential()
    other.add_module("conv1", torch.nn.Conv2d(3, 4, 3))
    order = (1, 2, 0)
    other.load_state_dict(reordered(network.state_dict(), order))
    pixels = torch.rand(2, 3, 5, 5)
    assert torch.allclose(other(pixels), network(pixels[:, list(order)]), atol=1e-6)
    assert not torch.allclose(other(pixels), network(pixels), atol=1e-3)


def test_middle_strengths_have_three_seeds_and_healthy_retrains_sixty():
    assert len(HEALTHY_SEEDS) == 60
    for kind in set(KINDS) - {HEALTHY}:
        counts = [sum(mutant.cell == f"{kind}-{strength}" for mutant in MUTANTS) for strength in (1, 2, 3)]
        assert counts == [1, 3, 1], kind


def test_whatever_the_making_is_ended_at_half_of_it_is_healthy():
    for end in (10, 40, 100):
        assert sum(mutant.kind == HEALTHY for mutant in MUTANTS[:end]) == end // 2
