"""A user's own network.

Built by a callable, with declarations, and compared with the data before it is measured.
"""

import numpy as np
import pytest
import torch
from torch import nn

from harness.base.errors import InputError
from harness.data import LabelledImages
from harness.data.options import parse_size
from harness.inference import Classifier
from harness.inference.attention import attend
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import Record, save_checkpoint
from harness.networks.declared import DeclaredNetwork, expect_fit, load_model
from harness.networks.options import IMAGENET, NetworkOptions, parse_normalization


def images_of(channels=3, size=(32, 32), classes=4, count=8) -> LabelledImages:
    pixels = torch.randint(0, 256, (count, channels, *size), dtype=torch.uint8)
    names = tuple(f"class-{number}" for number in range(classes))
    return LabelledImages(pixels, torch.arange(count) % classes, names, "made", "test")


class Small(nn.Module):
    """One convolution and a linear layer; with `softmax` it gives probabilities."""

    def __init__(self, channels=3, classes=4, size=8, *, softmax=False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3, padding=1)
        self.fc = nn.Linear(2 * size * size, classes)
        self.softmax = softmax

    def forward(self, x):
        logits = self.fc(torch.relu(self.conv(x)).flatten(1))
        return logits.softmax(1) if self.softmax else logits


@pytest.fixture
def save(tmp_path):
    def saved(model, name="model.pth"):
        torch.save(model.state_dict(), tmp_path / name)
        return tmp_path / name

    return saved


def test_networks_of_torchvision_and_timm_work_as_they_are(save):
    import torchvision

    network = torchvision.models.resnet18(num_classes=4)
    path = save(network)
    options = NetworkOptions(
        model="torchvision.models:resnet18", model_args={"num_classes": 4}, normalization="imagenet"
    )
    model = load_model(path, options).model
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    with torch.inference_mode():
        assert torch.equal(model(pixels), network.eval()((pixels - mean) / std))
    timm = pytest.importorskip("timm")
    arguments = {"model_name": "resnet10t", "num_classes": 4}
    path = save(timm.create_model("resnet10t", num_classes=4))
    model = load_model(path, NetworkOptions(model="timm:create_model", model_args=arguments)).model
    expect_fit(model, images_of(), outputs=None)
    assert Classifier(model).predict(images_of()).logits.shape == (8, 4)


def test_what_was_declared_decides_the_fingerprint(save):
    path, options = save(Small()), NetworkOptions(model=f"{__name__}:Small")
    before = torch.get_rng_state()
    plain, scaled = (
        load_model(path, options.but(normalization=text)) for text in (None, "0.5,0.25")
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert plain.model_sha256 != scaled.model_sha256
    found = {Classifier(each.model).fingerprint for each in (plain, scaled)}
    assert len(found - {None}) == 2, (
        "tracing goes through it, so its answers can be cached from run to run"
    )


def test_shipped_architectures_are_left_as_they_are(tmp_path):
    arguments = {"conv_channels": [2], "fc_sizes": []}
    save_checkpoint(
        tmp_path / "m.safetensors", FashionCNN(**arguments), Record("fashion-cnn", arguments, ())
    )
    loaded = load_model(
        tmp_path / "m.safetensors",
        NetworkOptions(model=f"{__name__}:Small", normalization="imagenet"),
    )
    assert isinstance(loaded.model, FashionCNN)


def test_probabilities_stay_what_they_are(save):
    network = Small(softmax=True)
    path = save(network)
    options = NetworkOptions(
        model=f"{__name__}:Small", model_args={"softmax": True}, model_outputs="probabilities"
    )
    predictions = Classifier(load_model(path, options).model).predict(images_of(size=(8, 8)))
    expected = network.eval()(predictions.images.pixels.float() / 255).detach().numpy()
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-6)
    certain = DeclaredNetwork(nn.Identity(), normalization=None, probabilities=True)
    assert certain(torch.tensor([[0.0, 1.0]])).isfinite().all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.286,0.353", ((0.286,), (0.353,))),
        ("0.5, 0.25", ((0.5,), (0.25,))),
        ("[0.1,0.2,0.3],[1,2,3]", ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))),
        ("imagenet", IMAGENET),
        ("none", None),
    ],
)
def test_normalization_is_mean_and_std(text, expected):
    assert parse_normalization(text) == expected


@pytest.mark.parametrize(
    "text", ["0.5", "", "0.5,0", "0.5,-1", "a,b", "[1,2],[3]", "1,2,3", "[],[]", "1,inf", "0.5,nan"]
)
def test_other_normalization_is_refused_with_what_is_expected(text):
    with pytest.raises(
        InputError, match=r"normalization .*: expected imagenet, or mean and standard deviation"
    ):
        parse_normalization(text)


@pytest.mark.parametrize("text", ["", "0", "-3", "64x", "axb", "1x2x3", "64.5", "99999"])
def test_a_size_is_a_number_or_height_and_width(text):
    assert (parse_size("64"), parse_size("64x96")) == ((64, 64), (64, 96))
    with pytest.raises(InputError, match=r"^size .*: expected a number of pixels, or HEIGHTxWIDTH"):
        parse_size(text)


def declared(network, normalization=None, *, probabilities=False):
    return DeclaredNetwork(network, normalization=normalization, probabilities=probabilities)


SHIPPED = FashionCNN(conv_channels=[2], fc_sizes=[], image_size=(20, 24))
MISFITS = {
    "channels": (
        declared(Small()),
        (1, (8, 8)),
        "3 channels, the data have 1; load them with channels 3",
    ),
    "classes": (
        declared(Small(classes=7)),
        (3, (8, 8)),
        r"has 7 classes, the data have 4 .*class-0, .*num_classes=4",
    ),
    "size": (
        declared(Small(size=32)),
        (3, (28, 28)),
        "of 32x32 pixels .* the data have 28x28. Set size 32x32",
    ),
    "means": (
        declared(Small(), ((0.1, 0.2), (1.0, 1.0))),
        (3, (8, 8)),
        "has 2 means, the data have 3 channels",
    ),
    "size-of-the-shipped": (
        SHIPPED,
        (1, (28, 28)),
        "takes images of 20x24 pixels .* the data have 28x28",
    ),
}


@pytest.mark.parametrize(("model", "images", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named_with_both_numbers(model, images, message):
    with pytest.raises(InputError, match=message):
        expect_fit(model, images_of(*images), outputs=None)


def test_the_kind_of_outputs_must_be_the_declared_one():
    images, sure = images_of(size=(8, 8)), Small(softmax=True)
    with pytest.raises(
        InputError, match=r"look like probabilities.* Set model_outputs probabilities"
    ):
        expect_fit(declared(sure), images, outputs=None)
    expect_fit(declared(sure, probabilities=True), images, outputs="probabilities")
    expect_fit(declared(sure), images, outputs="logits")
    expect_fit(declared(Small()), images, outputs=None)
    with pytest.raises(InputError, match=r"outputs are -\d.* expected 0 to 1 and a sum of 1"):
        expect_fit(declared(Small(), probabilities=True), images, outputs="probabilities")
    model = Classifier(declared(Small(size=8), ((0.5,), (0.5,))))
    looked = attend(model, images_of(size=(8, 8)), layer="conv")
    assert looked.layer == "network.conv"
    assert looked.maps.shape == (8, 8, 8)
    with pytest.raises(
        InputError, match=r"layer 'fc': the model has no such layer .* it has network\.conv \(8x8\)"
    ):
        attend(model, images_of(size=(8, 8)), layer="fc")
