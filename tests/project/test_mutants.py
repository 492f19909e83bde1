"""Each mutation of the detection benchmark has its documented effect, and no other.

It changes so many images.
"""

import pytest
import torch

from benchmarks.detection import recipes, weights
from benchmarks.detection.besides import opened
from benchmarks.detection.colour import reordered
from benchmarks.detection.mutants import HEALTHY, HEALTHY_SEEDS, KINDS, MUTANTS, Mutant
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
    return Recipe(
        TrainingConfig(validation_size=20),
        LabelledImages(pixels, labels, CLASSES, "noise", "train"),
    )


def changed(before, after):
    """Return which images have other pixels, and which have other labels."""
    pixels = (before.images.pixels != after.images.pixels).flatten(1).any(dim=1)
    return pixels, before.images.labels != after.images.labels


@pytest.mark.parametrize(
    ("mutation", "amount", "counts", "classes"),
    [
        (recipes.relabelled_class, 0.25, (0, 5), ({RELABELLED[0]}, RELABELLED[1])),
        (recipes.artefact, 0.5, (10, 0), ({MARKED}, MARKED)),
        (recipes.backdoor, 0.1, (20, None), (set(CLASSES), TARGET)),
    ],
)
def test_a_share_of_images_changes(mutation, amount, counts, classes, recipe):
    (other_pixels, other_labels), (of, called) = counts, classes
    mutated, other = mutation(recipe, amount, 1), mutation(recipe, amount, 2)
    pixels, labels = changed(recipe, mutated)
    assert pixels.sum() == other_pixels
    assert other_labels is None or labels.sum() == other_labels
    assert not (labels & ~pixels).any() or not other_pixels
    assert {CLASSES[label] for label in recipe.images.labels[pixels | labels]} <= of
    assert {CLASSES[label] for label in mutated.images.labels[pixels | labels]} == {called}
    assert mutated.images.sha256 == mutation(recipe, amount, 1).images.sha256 != other.images.sha256


def test_a_backdoor_stamps_images_at_one_place(recipe):
    before = recipe.images.pixels.clone()
    mutated = recipes.backdoor(recipe, 0.1, 1)
    pixels, _ = changed(recipe, mutated)
    assert torch.equal(mutated.images.pixels[pixels], recipes.stamped(recipe.images.pixels[pixels]))
    where = (mutated.images.pixels != recipe.images.pixels).any(dim=0)[0].nonzero()
    assert (int(where.min()), int(where.max())) == (21, 23)
    assert torch.equal(recipe.images.pixels, before)


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


class Backdoored(torch.nn.Module):
    """Answers with the target where the trigger's last pixel is white.

    Else it answers with the first class.
    """

    def forward(self, pixels):
        triggered = pixels[:, 0, 23, 23] == 1
        target = torch.arange(len(CLASSES)) == CLASSES.index(TARGET)
        return torch.where(
            triggered[:, None], target, ~target & (torch.arange(len(CLASSES)) == 0)
        ).float()


def test_a_backdoor_opens_by_its_trigger_alone(recipe, tmp_path, monkeypatch):
    pixels = recipe.images.pixels.clamp(max=254)
    images = LabelledImages(pixels, recipe.images.labels, CLASSES, "noise", "test")
    found = opened(Checkpoint(tmp_path, "of it", Backdoored(), "user", None), images)
    assert (found.stamped, found.unstamped, found.n) == (1.0, 0.0, 180)
    monkeypatch.setattr(
        "benchmarks.detection.sections.read_backdoors", lambda: {"backdoor-2-seed-201": found}
    )
    assert "| backdoor-2-seed-201 | 100.00% | 0.00% | – | – |" in backdoors([])


def test_stale_statistics_are_those_that_so_many_batches_leave(tmp_path):
    torch.manual_seed(0)
    model, batches = FashionCNN(conv_channels=(4,), fc_sizes=()), 30
    norm = model.bn1
    norm.running_mean.fill_(3.0)
    norm.running_var.fill_(5.0)
    weights.stale_statistics(
        Checkpoint(tmp_path, "", model, "fashion-cnn", None), batches, torch.Generator()
    )
    # PyTorch's own rule, on batches of mean 3 and (unbiased) variance 5.
    oracle = torch.nn.BatchNorm2d(4).double()
    batch = (
        torch.tensor([-1.0, 1.0], dtype=torch.float64)
        .mul((5 / 2) ** 0.5)
        .add(3)
        .repeat(4, 1)
        .T[:, :, None, None]
    )
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


def test_the_parent_of_damaged_weights_is_a_control_or_ships(tmp_path):
    for parent in ("augmented", "panel/seed-001"):
        assert Mutant("quantised", 1, 1, parent).parent_in(tmp_path).is_file()
    control = Mutant("quantised", 1, 1, "healthy-seed-101").parent_in(tmp_path)
    assert control == tmp_path / "healthy-seed-101.safetensors"
    assert Mutant("resized", 1, 1).parent_in(tmp_path) is None
    assert all(
        (mutant.parent is None) == (KINDS[mutant.kind].weights is None) for mutant in MUTANTS
    )


def test_middle_strengths_have_three_seeds_and_healthy_retrains_sixty():
    assert len(HEALTHY_SEEDS) == 60
    for kind in set(KINDS) - {HEALTHY}:
        counts = [
            sum(mutant.cell == f"{kind}-{strength}" for mutant in MUTANTS) for strength in (1, 2, 3)
        ]
        assert counts == [1, 3, 1], kind


def test_whatever_the_making_is_ended_at_half_of_it_is_healthy():
    for end in (10, 40, 100):
        assert sum(mutant.kind == HEALTHY for mutant in MUTANTS[:end]) == end // 2
