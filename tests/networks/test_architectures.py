"""The shipped network: the notebook's tensors, its one formula, and its arguments."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.networks.architectures import ARCHITECTURES, FashionCNN, build

NOTEBOOK = {}
for number, (before, after) in enumerate(((1, 32), (32, 64), (64, 128)), start=1):
    NOTEBOOK |= {f"conv{number}.weight": (after, before, 3, 3), f"conv{number}.bias": (after,)}
    NOTEBOOK |= {
        f"bn{number}.{name}": (after,) for name in ("weight", "bias", "running_mean", "running_var")
    }
    NOTEBOOK[f"bn{number}.num_batches_tracked"] = ()
for number, (before, after) in enumerate(((1152, 256), (256, 128), (128, 10)), start=1):
    NOTEBOOK |= {f"fc{number}.weight": (after, before), f"fc{number}.bias": (after,)}
SMALL = {
    "conv_channels": [3, 5],
    "fc_sizes": [7],
    "image_size": [9, 13],
    "in_channels": 2,
    "classes": 4,
}


def geometry(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def randomise_batch_norms(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            layer.weight.data.normal_(generator=generator)
            layer.bias.data.normal_(generator=generator)
    return model


@pytest.fixture
def small():
    return randomise_batch_norms(build("fashion-cnn", SMALL)).eval()


def test_default_network_is_the_notebooks_and_what_is_unknown_is_an_error():
    assert geometry(FashionCNN(mean=0.5, std=0.25)) == NOTEBOOK, (
        "normalization is no part of the state dict"
    )
    assert sum(parameter.numel() for parameter in FashionCNN().parameters()) == 422_474
    assert FashionCNN().eval()(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert ARCHITECTURES["fashion-cnn"] is FashionCNN
    assert FashionCNN(image_size=(8, 8)).eval()(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(KeyError, match=r"os\.system"):
        build("os.system", {})
    with pytest.raises(TypeError, match="widths"):
        build("fashion-cnn", {"widths": [1]})


def test_forward_is_the_notebooks_formula_with_dropout_in_training_only(small):
    pixels = torch.rand(2, 2, 9, 13, generator=torch.Generator().manual_seed(0))

    x = (pixels - 0.2860) / 0.3530
    x = functional.max_pool2d(functional.relu(small.bn1(small.conv1(x))), 2)
    x = functional.max_pool2d(functional.relu(small.bn2(small.conv2(x))), 2)
    x = functional.relu(small.fc1(x.flatten(1)))
    expected = small.fc2(x)

    torch.testing.assert_close(small(pixels), expected)
    model = build("fashion-cnn", {**SMALL, "dropout": 1.0})
    pixels = torch.rand(2, 2, 9, 13)
    torch.testing.assert_close(model.train()(pixels), model.fc2.bias.expand(2, 4))
    assert not torch.allclose(model.eval()(pixels), model.fc2.bias.expand(2, 4))


@pytest.mark.parametrize(
    ("mean", "std"), [(0.1, 0.5), ([0.1, 0.7], [0.5, 2.0])], ids=["one-number", "per-channel"]
)
def test_normalization_is_the_first_step(small, mean, std):
    normalising = build("fashion-cnn", {**SMALL, "mean": mean, "std": std}).eval()
    plain = build("fashion-cnn", {**SMALL, "mean": 0, "std": 1}).eval()
    normalising.load_state_dict(small.state_dict())
    plain.load_state_dict(small.state_dict())
    pixels = torch.rand(2, 2, 9, 13, generator=torch.Generator().manual_seed(0))
    by_hand = (pixels - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)

    torch.testing.assert_close(normalising(pixels), plain(by_hand))


ARGUMENTS = {
    "blocks": (
        {"conv_channels": [4]},
        {"conv1.weight": (4, 1, 3, 3), "fc1.weight": (256, 4 * 14 * 14)},
    ),
    "channels": ({"in_channels": 3}, {"conv1.weight": (32, 3, 3, 3)}),
    "hidden-layers": (
        {"fc_sizes": [9, 8, 7]},
        {"fc1.weight": (9, 1152), "fc3.weight": (7, 8), "fc4.weight": (10, 7)},
    ),
    "no-hidden-layer": ({"fc_sizes": []}, {"fc1.weight": (10, 1152)}),
    "image-size": ({"image_size": [32, 41]}, {"fc1.weight": (256, 128 * 4 * 5)}),
    "classes": ({"classes": 3}, {"fc3.weight": (3, 128), "fc3.bias": (3,)}),
}


@pytest.mark.parametrize(("arguments", "expected"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_set_the_shapes_and_the_network_runs(arguments, expected):
    network = build("fashion-cnn", arguments).eval()
    shapes = geometry(network)
    assert {name: shapes[name] for name in expected} == expected
    pixels = torch.rand(2, arguments.get("in_channels", 1), *arguments.get("image_size", (28, 28)))
    assert network(pixels).shape == (2, arguments.get("classes", 10))


@pytest.mark.parametrize(
    "size", [(7, 28), (28, 7), (0, 0)], ids=["too-low", "too-narrow", "nothing"]
)
def test_image_too_small_for_the_blocks_names_the_numbers(size):
    with pytest.raises(
        ValueError, match=rf"3 conv blocks .* \({size[0]}, {size[1]}\) .* at least 8 pixels"
    ):
        FashionCNN(image_size=size)
