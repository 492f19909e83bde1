"""The shipped network: the notebook's tensors, its one formula, and its arguments."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.networks.architectures import ARCHITECTURES, FashionCNN, build

NOTEBOOK = {
    "conv1.weight": (32, 1, 3, 3),
    "conv1.bias": (32,),
    "bn1.weight": (32,),
    "bn1.bias": (32,),
    "bn1.running_mean": (32,),
    "bn1.running_var": (32,),
    "bn1.num_batches_tracked": (),
    "conv2.weight": (64, 32, 3, 3),
    "conv2.bias": (64,),
    "bn2.weight": (64,),
    "bn2.bias": (64,),
    "bn2.running_mean": (64,),
    "bn2.running_var": (64,),
    "bn2.num_batches_tracked": (),
    "conv3.weight": (128, 64, 3, 3),
    "conv3.bias": (128,),
    "bn3.weight": (128,),
    "bn3.bias": (128,),
    "bn3.running_mean": (128,),
    "bn3.running_var": (128,),
    "bn3.num_batches_tracked": (),
    "fc1.weight": (256, 1152),
    "fc1.bias": (256,),
    "fc2.weight": (128, 256),
    "fc2.bias": (128,),
    "fc3.weight": (10, 128),
    "fc3.bias": (10,),
}
SMALL = {"conv_channels": [3, 5], "fc_sizes": [7], "image_size": [9, 13], "in_channels": 2, "classes": 4}


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


def test_default_network_has_the_notebooks_tensors():
    assert geometry(FashionCNN()) == NOTEBOOK


def test_default_network_has_422474_parameters():
    assert sum(parameter.numel() for parameter in FashionCNN().parameters()) == 422_474


def test_normalization_is_no_part_of_the_state_dict():
    assert geometry(FashionCNN(mean=0.5, std=0.25)).keys() == NOTEBOOK.keys()


def test_default_network_maps_pixels_to_ten_logits():
    assert FashionCNN().eval()(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_forward_is_the_notebooks_formula(small):
    pixels = torch.rand(2, 2, 9, 13, generator=torch.Generator().manual_seed(0))

    x = (pixels - 0.2860) / 0.3530
    x = functional.max_pool2d(functional.relu(small.bn1(small.conv1(x))), 2)
    x = functional.max_pool2d(functional.relu(small.bn2(small.conv2(x))), 2)
    x = functional.relu(small.fc1(x.flatten(1)))
    expected = small.fc2(x)

    torch.testing.assert_close(small(pixels), expected)


@pytest.mark.parametrize(("mean", "std"), [(0.1, 0.5), ([0.1, 0.7], [0.5, 2.0])], ids=["one-number", "per-channel"])
def test_normalization_is_the_first_step(small, mean, std):
    normalising = build("fashion-cnn", {**SMALL, "mean": mean, "std": std}).eval()
    plain = build("fashion-cnn", {**SMALL, "mean": 0, "std": 1}).eval()
    normalising.load_state_dict(small.state_dict())
    plain.load_state_dict(small.state_dict())
    pixels = torch.rand(2, 2, 9, 13, generator=torch.Generator().manual_seed(0))
    by_hand = (pixels - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)

    torch.testing.assert_close(normalising(pixels), plain(by_hand))


def test_dropout_follows_each_hidden_layer_in_training_only():
    model = build("fashion-cnn", {**SMALL, "dropout": 1.0})
    pixels = torch.rand(2, 2, 9, 13)
    torch.testing.assert_close(model.train()(pixels), model.fc2.bias.expand(2, 4))
    assert not torch.allclose(model.eval()(pixels), model.fc2.bias.expand(2, 4))


ARGUMENTS = {
    "blocks": ({"conv_channels": [4]}, {"conv1.weight": (4, 1, 3, 3), "fc1.weight": (256, 4 * 14 * 14)}),
    "channels": ({"in_channels": 3}, {"conv1.weight": (32, 3, 3, 3)}),
    "hidden-layers": ({"fc_sizes": [9, 8, 7]}, {"fc1.weight": (9, 1152), "fc3.weight": (7, 8), "fc4.weight": (10, 7)}),
    "no-hidden-layer": ({"fc_sizes": []}, {"fc1.weight": (10, 1152)}),
    "image-size": ({"image_size": [32, 41]}, {"fc1.weight": (256, 128 * 4 * 5)}),
    "classes": ({"classes": 3}, {"fc3.weight": (3, 128), "fc3.bias": (3,)}),
}


@pytest.mark.parametrize(("arguments", "expected"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_set_the_shapes(arguments, expected):
    shapes = geometry(build("fashion-cnn", arguments))
    assert {name: shapes[name] for name in expected} == expected


@pytest.mark.parametrize("name", ["blocks", "no-hidden-layer", "image-size"])
def test_network_of_other_shape_runs(name):
    arguments = ARGUMENTS[name][0]
    pixels = torch.rand(2, 1, *arguments.get("image_size", (28, 28)))
    assert build("fashion-cnn", arguments).eval()(pixels).shape == (2, 10)


@pytest.mark.parametrize("size", [(7, 28), (28, 7), (0, 0)], ids=["too-low", "too-narrow", "nothing"])
def test_image_too_small_for_the_blocks_names_the_numbers(size):
    with pytest.raises(
        ValueError, match=rf"FashionCNN: 3 conv blocks .* \({size[0]}, {size[1]}\) .* at least 8 pixels"
    ):
        FashionCNN(image_size=size)


def test_smallest_image_that_the_blocks_leave_a_pixel_of_works():
    assert FashionCNN(image_size=(8, 8)).eval()(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_unknown_id_is_a_key_error():
    with pytest.raises(KeyError, match=r"os\.system"):
        build("os.system", {})


def test_unknown_argument_is_a_type_error():
    with pytest.raises(TypeError, match="widths"):
        build("fashion-cnn", {"widths": [1]})


def test_table_knows_the_shipped_network():
    assert ARCHITECTURES["fashion-cnn"] is FashionCNN
