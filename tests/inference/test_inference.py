"""Predictions do not depend on batch, number of workers or folded layers."""

import copy
import math
import re
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from harness.base.errors import InputError
from harness.data import LabelledImages
from harness.data.images import unit_range
from harness.inference import Classifier, ModelError, Predictions, available_cores, pick_device
from harness.inference.attention import attend
from harness.networks.architectures import FashionCNN, build
from harness.perturb import IDENTITY, HorizontalFlip, Pose


def made_images(count, *, channels=1, size=8, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return LabelledImages(
        pixels=torch.randint(
            0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8
        ),
        labels=torch.randint(0, classes, (count,), generator=generator),
        classes=tuple("abcdefghij"[:classes]),
        name="made",
        split="test",
    )


def randomise(model, seed=0):
    """Give weights and batch norms values of ordinary size that are far from their defaults."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
        if isinstance(layer, nn.BatchNorm2d) and layer.affine:
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
            layer.bias.data.normal_(generator=generator)
    return model


def small_cnn():
    arguments = {"conv_channels": [4, 8], "fc_sizes": [8], "image_size": [8, 8], "classes": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(build("fashion-cnn", arguments))


def plain_logits(model, images, perturbation=IDENTITY, *, layout=torch.contiguous_format):
    plain = copy.deepcopy(model).eval().to(memory_format=layout)
    with torch.inference_mode():
        return plain(
            perturbation(unit_range(images.pixels)).contiguous(memory_format=layout)
        ).numpy()


def expect_own_logits(model, images):
    found = Classifier(model).predict(images).logits
    np.testing.assert_allclose(found, plain_logits(model, images), atol=1e-5, rtol=1e-5)


@pytest.fixture
def predictions():
    logits = np.log(
        np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5], [0.1, 0.6, 0.3]], dtype=np.float32)
    ) + np.float32(3)
    images = replace(made_images(3), labels=torch.tensor([0, 1, 1]))
    return Predictions(logits, images, Pose(5))


def test_predictions_by_hand(predictions):
    assert predictions.predicted.tolist() == [0, 2, 1]
    assert predictions.labels.tolist() == [0, 1, 1]
    assert predictions.correct.tolist() == [True, False, True]
    expected = [[0.7, 0.2, 0.1], [0.25, 0.25, 0.5], [0.1, 0.6, 0.3]]
    np.testing.assert_allclose(predictions.probabilities, expected, rtol=1e-6)
    np.testing.assert_allclose(predictions.confidence, [0.7, 0.5, 0.6], rtol=1e-6)
    assert (predictions.classes, predictions.perturbation) == (("a", "b", "c"), Pose(5))
    logits = np.array([[1e4, -1e4, 0.0]], dtype=np.float32)
    assert Predictions(logits, made_images(1), IDENTITY).probabilities.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("perturbation", [IDENTITY, Pose(7, 1, -2), HorizontalFlip()], ids=repr)
def test_shipped_network_gives_its_own_logits(perturbation):
    model, images = randomise(FashionCNN()), made_images(130, size=28, classes=10)
    predictions = Classifier(model).predict(images, perturbation)

    assert predictions.logits.dtype == np.float32
    assert predictions.logits.shape == (130, 10)
    np.testing.assert_allclose(
        predictions.logits, plain_logits(model, images, perturbation), atol=1e-5, rtol=1e-5
    )
    assert (predictions.images, predictions.perturbation) == (images, perturbation)


def test_resnet_gives_its_own_logits():
    model = randomise(torchvision.models.resnet18(num_classes=10))
    images = made_images(5, channels=3, size=32, classes=10)
    with torch.no_grad():
        model.fc.weight /= plain_logits(model, images).std()
    expect_own_logits(model, images)


class Net(nn.Module):
    """A convolution and a batch norm, called as `call` chooses, then the mean over the pixels."""

    def __init__(self, call, *, conv=None, norm=None):
        super().__init__()
        self.call = call
        self.conv = conv or nn.Conv2d(1, 3, 3, padding=1)
        self.norm = norm or nn.BatchNorm2d(3)

    def forward(self, pixels):
        return self.call(self, pixels).mean((2, 3))


class OwnConvolution(nn.Conv2d):
    def forward(self, pixels):
        return super().forward(pixels).abs()


class OwnNorm(nn.BatchNorm2d):
    def forward(self, pixels):
        return super().forward(pixels).abs()


def in_sequence(net, pixels):
    return net.norm(net.conv(pixels))


def with_shortcut(net, pixels):
    x = net.conv(pixels)
    return net.norm(x) + x


def hooked(net):
    net.conv.register_forward_hook(lambda layer, inputs, output: output.abs())
    return net


def norm_hooked(net):
    net.norm.register_forward_pre_hook(lambda layer, inputs: (inputs[0].abs(),))
    return net


def root_hooked(net):
    net.register_forward_pre_hook(lambda layer, inputs: ((inputs[0] - 0.5) / 0.1,))
    return net


SHAPES = {
    "in-sequence": lambda: Net(in_sequence),
    "no-bias": lambda: Net(in_sequence, conv=nn.Conv2d(1, 3, 3, bias=False)),
    "no-affine": lambda: Net(in_sequence, norm=nn.BatchNorm2d(3, affine=False)),
    "grouped-and-strided": lambda: Net(in_sequence, conv=nn.Conv2d(1, 3, 3, stride=2, dilation=2)),
    "keyword-arguments": lambda: Net(lambda net, pixels: net.norm(input=net.conv(input=pixels))),
    "norm-first": lambda: Net(
        lambda net, pixels: net.conv(net.norm(pixels)), norm=nn.BatchNorm2d(1)
    ),
    "output-used-twice": lambda: Net(with_shortcut),
    "convolution-called-twice": lambda: Net(
        lambda net, pixels: net.norm(net.conv(pixels)) + net.conv(pixels.flip(3))
    ),
    "norm-called-twice": lambda: Net(lambda net, pixels: net.norm(net.norm(net.conv(pixels)))),
    "weight-used-elsewhere": lambda: Net(
        lambda net, pixels: (
            net.norm(net.conv(pixels)) + functional.conv2d(pixels, net.conv.weight, padding=1)
        )
    ),
    "statistics-used-elsewhere": lambda: Net(
        lambda net, pixels: net.norm(net.conv(pixels)) + net.norm.running_mean.view(1, -1, 1, 1)
    ),
    "own-convolution": lambda: Net(in_sequence, conv=OwnConvolution(1, 3, 3)),
    "own-norm": lambda: Net(in_sequence, norm=OwnNorm(3)),
    "hook-on-convolution": lambda: hooked(Net(in_sequence)),
    "hook-on-norm": lambda: norm_hooked(Net(in_sequence)),
    "hook-on-model": lambda: root_hooked(Net(in_sequence)),
    "weight-norm": lambda: Net(
        in_sequence, conv=nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 3, 3))
    ),
    "branch-on-values": lambda: Net(
        lambda net, pixels: in_sequence(net, pixels) if pixels.sum() > 0 else pixels
    ),
    "branch-on-mode": lambda: Net(
        lambda net, pixels: pixels if net.training else in_sequence(net, pixels)
    ),
    "sequential": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "one-layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
    "transposed": lambda: Net(in_sequence, conv=nn.ConvTranspose2d(1, 3, 3)),
    "double-logits": lambda: Net(lambda net, pixels: in_sequence(net, pixels).double()),
    "half-logits": lambda: Net(lambda net, pixels: in_sequence(net, pixels).half()),
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_network_of_any_shape_gives_its_own_logits(make):
    model, images = randomise(make()), made_images(4)
    expect_own_logits(model, images)


def test_norm_without_running_statistics_is_left_unfolded():
    model, images = (
        Net(in_sequence, norm=nn.BatchNorm2d(3, track_running_stats=False)),
        made_images(32),
    )
    logits = Classifier(model).predict(images).logits
    # Statistics of the batch add up in the order of memory, so only the same layout gives the same
    # bits.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = plain_logits(model, images, layout=torch.channels_last)
    torch.set_num_threads(threads)
    np.testing.assert_array_equal(logits, expected)


class Standardise(nn.Module):
    """Scales every image to a spread of one, which an image of a single color does not have."""

    def forward(self, pixels):
        return (pixels / pixels.std((1, 2, 3), keepdim=True)).flatten(1)[:, :3]


def test_padding_of_a_batch_is_no_reason_to_refuse_a_model():
    images = made_images(4)
    np.testing.assert_allclose(
        Classifier(Standardise()).predict(images).logits, plain_logits(Standardise(), images)
    )


@pytest.fixture(scope="module")
def many():
    return made_images(251)


@pytest.fixture(scope="module")
def logits_of_many(many):
    return Classifier(small_cnn(), workers=1).predict(many, Pose(3, 1, 0)).logits


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_number_of_workers_changes_no_bit(many, logits_of_many, workers):
    assert np.array_equal(
        Classifier(small_cnn(), workers=workers).predict(many, Pose(3, 1, 0)).logits, logits_of_many
    )


PLACES = [*map(range, (1, 31, 32, 33, 125, 250)), [250], [7, 3, 249], range(60, 200)]


@pytest.mark.parametrize(
    "positions", PLACES, ids=["1", "31", "32", "33", "125", "250", "last", "three", "across"]
)
def test_number_and_place_in_the_batch_change_no_bit(many, logits_of_many, positions):
    predictions = Classifier(small_cnn()).predict(
        many.take(torch.tensor(list(positions))), Pose(3, 1, 0)
    )
    assert np.array_equal(predictions.logits, logits_of_many[list(positions)])


def test_no_image_at_all_has_no_predictions():
    predictions = Classifier(small_cnn()).predict(made_images(3).take(torch.arange(0)))
    assert predictions.logits.shape == (0, 3)
    assert predictions.correct.tolist() == []
    assert Classifier(small_cnn()).workers == available_cores() >= 1


class CountedFlip(HorizontalFlip):
    """A horizontal flip that counts how often it was asked."""

    def __init__(self):
        object.__setattr__(self, "calls", SimpleNamespace(count=0))

    def __call__(self, images):
        self.calls.count += 1
        return super().__call__(images)


def test_equal_images_and_perturbation_are_run_once():
    classifier, flip = Classifier(small_cnn()), CountedFlip()
    first = classifier.predict(images := made_images(4), flip)
    assert classifier.predict(images, flip) is first
    assert np.array_equal(classifier.predict(made_images(4), CountedFlip()).logits, first.logits)
    assert flip.calls.count == 1


OTHERS = {
    "pixels": lambda images: made_images(4, seed=1),
    "number": lambda images: images.take(torch.arange(3)),
    "order": lambda images: images.take(torch.arange(3, -1, -1)),
    "shape": lambda images: replace(images, pixels=images.pixels.transpose(2, 3)),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_other_images_are_run_anew(change):
    classifier, images = Classifier(small_cnn()), made_images(4)
    classifier.predict(images)
    expected = plain_logits(small_cnn(), change(images))
    np.testing.assert_allclose(classifier.predict(change(images)).logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"indices": torch.tensor([9, 8, 7, 6])},
        {"classes": ("x", "y", "z")},
        {"name": "other"},
        {"split": "train"},
    ],
    ids=["positions", "classes", "name", "split"],
)
def test_remembered_predictions_still_name_the_images_asked_about(changes):
    classifier, images = Classifier(small_cnn()), made_images(4)
    classifier.predict(images)
    other = replace(images, **changes)
    assert classifier.predict(other).images is other


def dimming(share: float):
    """Return a perturbation of a class of its own, which looks like others."""

    @dataclass(frozen=True)
    class Dimmed:
        def __call__(self, images):
            return images * (1 - share)

        def __repr__(self):
            return "Dimmed()"

    return Dimmed()


@dataclass(frozen=True)
class Covered:
    """Hides what a mask covers; the `repr` of a large mask leaves out its middle."""

    mask: np.ndarray

    def __call__(self, images):
        return images * torch.from_numpy(~self.mask)


def covering(rows: slice) -> Covered:
    mask = np.zeros((40, 40), dtype=bool)
    mask[rows, 10:30] = True
    return Covered(mask)


@pytest.mark.parametrize(
    "ones",
    [(dimming(0.1), dimming(0.9)), (covering(slice(10, 15)), covering(slice(10, 30)))],
    ids=["classes", "arrays"],
)
def test_perturbations_of_ones_own_that_look_alike_are_told_apart(ones):
    assert repr(ones[0]) == repr(ones[1])
    generator = torch.Generator().manual_seed(0)
    images = replace(
        made_images(4), pixels=torch.randint(0, 256, (4, 1, 40, 40), generator=generator).byte()
    )
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier(model)
    for perturbation in ones:
        expected = plain_logits(model, images, perturbation)
        np.testing.assert_allclose(
            classifier.predict(images, perturbation).logits, expected, atol=1e-5
        )
        found = attend(classifier, images, perturbation, layer="0")
        np.testing.assert_allclose(found.predictions.logits, expected, atol=1e-5)


def test_perturbation_or_shape_that_was_changed_meanwhile_is_run_anew():
    @dataclass(eq=False)
    class Dimmed:
        share: float

        def __call__(self, images):
            return images * (1 - self.share)

    classifier, images, dimmed = Classifier(small_cnn()), made_images(4), Dimmed(0.1)
    classifier.predict(images, dimmed)
    dimmed.share = 0.9
    expected = plain_logits(small_cnn(), images, Dimmed(0.9))
    np.testing.assert_allclose(classifier.predict(images, dimmed).logits, expected, atol=1e-5)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    wide = made_images(4)
    wide = replace(wide, pixels=wide.pixels.reshape(4, 1, 4, 16))
    classifier = Classifier(model)
    classifier.predict(made_images(4))
    np.testing.assert_allclose(
        classifier.predict(wide).logits, plain_logits(model, wide), atol=1e-5
    )


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_model_is_left_as_it_was(training):
    model = small_cnn().train(training)
    before = copy.deepcopy(model.state_dict())
    strides = [parameter.stride() for parameter in model.parameters()]
    Classifier(model).predict(made_images(4))

    assert all(module.training is training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_later_training_changes_no_classifier_and_no_model_changes_images():
    model, images = small_cnn(), made_images(4)
    expected = plain_logits(model, images)
    classifier = Classifier(model)
    with torch.no_grad():
        model.fc1.weight.zero_()
    np.testing.assert_allclose(classifier.predict(images).logits, expected, atol=1e-5)

    class InPlace(nn.Module):
        def forward(self, pixels):
            return pixels.mul_(2).flatten(1)[:, :3]

    images = made_images(4)
    Classifier(InPlace()).predict(images)
    assert torch.equal(images.pixels, made_images(4).pixels)


def test_global_state_is_left_as_found(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    try:
        torch.set_num_threads(3)
        before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].tolist()
        Classifier(small_cnn()).predict(made_images(130), Pose(5))

        assert torch.get_num_threads() == 3
        assert torch.equal(torch.get_rng_state(), before)
        assert np.random.get_state()[1].tolist() == before_numpy
        assert torch.backends.cudnn.allow_tf32 is True
        assert torch.is_grad_enabled()
        with pytest.raises(ModelError):
            Classifier(nn.Linear(5, 3)).predict(made_images(4))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


class Returns(nn.Module):
    """Returns what `make` makes of the pixels."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, pixels):
        return self.make(pixels)


def spoil(value):
    """Logits whose first image is `value`, recognized by its first pixel."""
    return lambda pixels: torch.where(pixels[:, 0, 0, :1] > 0.9, value, pixels[:, 0, 0, :3])


UNJUDGED = {
    "tuple": (lambda pixels: (pixels, pixels), r"returned tuple, expected a tensor of logits"),
    "none": (lambda pixels: None, r"returned NoneType, expected a tensor"),
    "dict": (lambda pixels: {"logits": pixels}, r"returned dict, expected a tensor"),
    "classes": (
        lambda pixels: pixels[:, 0, 0, :5],
        r"logits of shape \(32, 5\) .*3 classes.*expected \(32, 3\)",
    ),
    "images": (
        lambda pixels: pixels[:7, 0, 0, :3],
        r"logits of shape \(7, 3\) .*expected \(32, 3\)",
    ),
    "dimensions": (
        lambda pixels: pixels[:, 0, :3, :3],
        r"logits of shape \(32, 3, 3\) .*expected \(32, 3\)",
    ),
    "scalar": (lambda pixels: pixels.sum(), r"logits of shape \(\) .*expected \(32, 3\)"),
}


@pytest.mark.parametrize(("make", "message"), UNJUDGED.values(), ids=UNJUDGED)
def test_model_that_returns_no_logits_is_a_model_error_with_both_shapes(make, message):
    with pytest.raises(ModelError, match=message):
        Classifier(Returns(make)).predict(made_images(4))


NOT_FINITE = {
    **{
        str(value): (spoil(value), "infinity for 2 images")
        for value in (math.nan, math.inf, -math.inf)
    },
    "no-padding-counts": (lambda pixels: pixels[:, 0, 0, :3] / 0 * 0, "infinity for 4 images"),
    "beyond-float32": (
        lambda pixels: (pixels[:, 0, 0, :3] + 1).double() * 1e300,
        "infinity for 4 images",
    ),
}


@pytest.mark.parametrize(("make", "message"), NOT_FINITE.values(), ids=NOT_FINITE)
def test_a_model_error_counts_the_images_whose_logits_are_not_finite(make, message):
    images = made_images(4)
    images.pixels[:, 0, 0, 0] = torch.tensor([255, 0, 255, 0], dtype=torch.uint8)
    with pytest.raises(ModelError, match=f"NaN or {message}"):
        Classifier(Returns(make)).predict(images)


def test_model_that_raises_is_a_model_error_with_its_reason():
    with pytest.raises(ModelError) as error:
        Classifier(nn.Sequential(nn.Flatten(), nn.Linear(7, 3))).predict(made_images(4), Pose(5))
    assert re.search(
        r"model failed on .*\(4, 1, 8, 8\).* under Pose\(degrees=5, .*: .*64.*7", str(error.value)
    )
    assert isinstance(error.value.__cause__, RuntimeError)

    def explode(images):
        raise ZeroDivisionError("boom")

    with pytest.raises(ModelError, match="boom"):
        Classifier(small_cnn()).predict(made_images(4), explode)
    broken = Classifier(Returns(lambda pixels: None))
    images = made_images(4)
    with pytest.raises(ModelError):
        broken.predict(images)
    with pytest.raises(ModelError, match="NoneType"):
        broken.predict(images)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
    ids=["cuda", "mps", "cpu"],
)
def test_auto_is_the_first_device_there_is(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device() == expected
    assert pick_device("cpu") == "cpu"


@pytest.mark.parametrize("wanted", ["gpu", "", "cpu:x", "cuda:99", "meta", "fpga", "vulkan"])
def test_device_that_cannot_be_used_is_an_input_error(wanted):
    with pytest.raises(
        InputError,
        match=rf"device '{wanted}' cannot be used \(.+\); expected auto, cpu, cuda or mps",
    ):
        pick_device(wanted)
