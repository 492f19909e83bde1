"""Grad-CAM: against captum and values by hand, on models left as they were found.

Tokens are feature maps, too.
"""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional

from harness.base.cache import Store
from harness.base.errors import InputError, NotApplicableError
from harness.data import LabelledImages, load_images, stratified_sample
from harness.inference import Classifier, ModelError, RoleModel
from harness.inference.attention import _AttentionTap, attend
from harness.inference.layers import chosen_layer, default_layer, relu_follows, spatial_layers
from harness.networks.checkpoints import load_checkpoint
from harness.networks.process import evaluating
from harness.perturb import HorizontalFlip, Pose

MODELS = Path(__file__).parents[2] / "models"
CLASSES = ("a", "b")


@pytest.fixture(scope="module")
def images():
    return stratified_sample(load_images("fashion-mnist"), 80)


@pytest.fixture(scope="module")
def shipped():
    return load_checkpoint(MODELS / "augmented.safetensors").model.eval()


def grad_cam(model, pixels, *, layer, size=None):
    """Return the logits of one batch, and the maps of the predicted classes."""
    tap = _AttentionTap(layer, size)
    with evaluating(model, tap.hooks):
        return tap.grad_cam(model, pixels)


def captums(model, layer, pixels):
    target = model(pixels).argmax(1)
    return (
        LayerGradCam(model, layer)
        .attribute(pixels, target=target, relu_attributions=True)[:, 0]
        .detach()
        .numpy()
    )


def unit(images):
    return images.pixels.float() / 255


@pytest.mark.parametrize("layer", ["conv1", "bn3"])
def test_any_layer_of_the_shipped_network_equals_captum(shipped, images, layer):
    expected = captums(shipped, shipped.get_submodule(layer), unit(images))
    found = attend(Classifier(shipped, workers=1), images, layer=layer)
    assert found.layer == layer
    assert found.maps.shape == expected.shape
    assert np.abs(found.maps - expected).max() < 1e-5
    _, maps = grad_cam(shipped, unit(images), layer=layer)
    assert np.abs(maps.numpy() - expected).max() < 1e-5


class WithNamedReLU(nn.Module):
    """The shipped network, its last ReLU before the pooling and with a name."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.relu3 = network, nn.ReLU()

    def forward(self, pixels):
        net = self.network
        x = (pixels - net.mean) / net.std
        for number in (1, 2):
            x = getattr(net, f"bn{number}")(getattr(net, f"conv{number}")(x))
            x = functional.relu(functional.max_pool2d(x, 2))
        x = functional.max_pool2d(self.relu3(net.bn3(net.conv3(x))), 2).flatten(1)
        return net.fc3(functional.relu(net.fc2(functional.relu(net.fc1(x)))))


def test_by_default_the_shipped_network_is_looked_at_behind_its_last_relu(shipped, images):
    named = WithNamedReLU(shipped).eval()
    found = attend(Classifier(shipped, workers=1), images)
    assert (found.layer, found.maps.shape) == ("bn3+relu", (80, 7, 7))
    assert np.abs(found.maps - captums(named, named.relu3, unit(images))).max() < 1e-5
    assert attend(Classifier(named, workers=1), images).layer == "relu3"
    large = found.upsampled()
    assert large.shape == (80, 28, 28)
    assert large.dtype == np.float32
    # A cell of 7 x 7 lies over 4 x 4 pixels. In between two neighbors mix, and beyond the border
    # the last one goes on.
    assert np.allclose(large[:, 0, 0], found.maps[:, 0, 0])
    assert np.allclose(large[:, 2, 0], 0.875 * found.maps[:, 0, 0] + 0.125 * found.maps[:, 1, 0])
    sizes = spatial_layers(shipped, unit(images))
    assert list(sizes.items()) == [
        *(("conv1", (28, 28)), ("bn1", (28, 28)), ("conv2", (14, 14)), ("bn2", (14, 14))),
        *(("conv3", (7, 7)), ("bn3", (7, 7))),
    ]


@pytest.fixture(scope="module")
def resnet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.resnet18(weights=None, num_classes=10).eval()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.1, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
    return model


def noisy(count, size):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return LabelledImages(
        pixels, torch.zeros(count, dtype=torch.int64), tuple("abcdefghij"), "noise", "test"
    )


@pytest.fixture(scope="module")
def pictures():
    return noisy(5, 64)


@pytest.mark.parametrize("layer", [None, "layer4.1.conv2", "bn1", "layer3.1.relu"])
def test_a_resnet_equals_captum(resnet, pictures, layer, monkeypatch):
    monkeypatch.setattr("harness.inference.attention.BATCH", 8)
    expected = captums(resnet, resnet.get_submodule(layer or "layer4"), unit(pictures))
    found = attend(Classifier(resnet, workers=1), pictures, layer=layer)
    assert np.abs(found.maps - expected).max() < 1e-5
    assert found.maps.max() > 1e-4
    logits = resnet(unit(pictures)).detach().numpy()
    assert np.abs(found.predictions.logits - logits).max() < 1e-4


def test_shared_relus_are_looked_at_in_their_last_call(resnet, pictures):
    """The layer `layer3.1.relu` is called twice, and captum takes its last call, too."""
    _, maps = grad_cam(resnet, unit(pictures), layer="layer3.1.relu")
    _, block = grad_cam(resnet, unit(pictures), layer="layer3.1")
    assert torch.equal(maps, block)


class Tiny(nn.Module):
    """Two channels, each the image times a number, then a weighted sum of all places."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(2, eps=0) if norm else nn.Identity()
        self.fc = nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
            # Class a: 3 of the first place of channel 0, 1 of the last place of channel 1; class b
            # nothing.
            self.fc.weight.copy_(torch.tensor([[3.0, 0, 0, 0, 0, 0, 0, 1.0], [0.0] * 8]))

    def forward(self, pixels):
        return self.fc(self.norm(self.conv(pixels)).flatten(1))


def test_a_map_by_hand():
    """Mean gradients are 3/4 and 1/4, so the map is (2 * 3/4 - 1/4) times the image."""
    pixels = torch.tensor([[[[1.0, 0.5], [0.0, 0.25]]]])
    logits, maps = grad_cam(Tiny(), pixels, layer="conv")
    assert logits.tolist() == [[6 - 0.25, 0.0]]
    assert maps.tolist() == [[[1.25, 0.625], [0.0, 0.3125]]]
    model = Tiny()
    with torch.no_grad():
        model.fc.weight.mul_(-1)
    logits, maps = grad_cam(model, pixels, layer="conv")
    # Class b leads with 0, and nothing speaks for it.
    assert logits.argmax(1).tolist() == [1]
    assert maps.tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    pixels = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
    white = LabelledImages(pixels, torch.zeros(3, dtype=torch.int64), CLASSES, "white", "test")
    assert attend(Classifier(model, workers=1), white, layer="conv").dead.tolist() == [True] * 3
    assert not attend(Classifier(Tiny(), workers=1), white, layer="conv").dead.any()


def state_of(model):
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        {name: layer.training for name, layer in model.named_modules()},
        {name: (weights.requires_grad, weights.grad) for name, weights in model.named_parameters()},
        {
            name: (len(layer._forward_hooks), len(layer._forward_pre_hooks))
            for name, layer in model.named_modules()
        },
    )


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trainable"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluating"])
def test_a_model_is_left_as_it_was_found(images, frozen, training):
    images = images.take(torch.arange(10))
    model = (
        load_checkpoint(MODELS / "augmented.safetensors")
        .model.train(training)
        .requires_grad_(not frozen)
    )
    model.bn2.eval()
    if not frozen:
        model.fc1.weight.grad = torch.ones_like(model.fc1.weight)
    reference = copy.deepcopy(model).eval()
    before = state_of(model)
    logits, maps = grad_cam(model, unit(images), layer="bn3")
    assert default_layer(model, unit(images)) == "bn3+relu"
    found = attend(Classifier(model, workers=1), images, layer="bn3")
    after = state_of(model)
    assert [
        name for name, value in before[0].items() if not torch.equal(value, after[0][name])
    ] == []
    assert before[1:] == after[1:]
    assert torch.equal(logits, reference(unit(images)).detach())
    assert np.abs(maps.numpy() - found.maps).max() < 1e-5
    assert not logits.requires_grad
    assert not maps.requires_grad


def test_hooks_are_removed_and_modes_restored_when_a_model_raises():
    class Raises(Tiny):
        def forward(self, pixels):
            self.conv(pixels)
            raise RuntimeError("no")

    model = Raises().train()
    with pytest.raises(RuntimeError, match="no"):
        grad_cam(model, torch.rand(1, 1, 2, 2), layer="conv")
    with pytest.raises(RuntimeError, match="no"):
        spatial_layers(model, torch.rand(1, 1, 2, 2))
    assert model.training
    assert model.conv.training
    assert not model.conv._forward_hooks


def test_workers_change_no_bit_and_predictions_are_those_of_float32(shipped, images):
    one, two = (
        attend(Classifier(shipped, workers=workers), images, Pose(10, 2, 2)) for workers in (1, 2)
    )
    assert one.maps.tobytes() == two.maps.tobytes()
    assert one.predictions.logits.tobytes() == two.predictions.logits.tobytes()
    few = attend(Classifier(shipped, workers=1), images.take(torch.arange(40)), Pose(10, 2, 2))
    assert few.maps.tobytes() == one.maps[:40].tobytes()
    classifier = Classifier(shipped, workers=1)
    for pose in (Pose(), Pose(-30, 3, -3)):
        found, exact = (
            attend(classifier, images, pose).predictions,
            classifier.predict(images, pose),
        )
        assert np.abs(found.logits - exact.logits).max() < 1e-5
        assert (found.predicted == exact.predicted).all()
        assert found.perturbation == pose
    mirrored = replace(images, pixels=images.pixels.flip(-1))
    assert np.array_equal(
        attend(classifier, images, HorizontalFlip()).maps, attend(classifier, mirrored).maps
    )


def test_attention_is_remembered_and_kept(shipped, images, tmp_path, monkeypatch):
    role = RoleModel(
        "candidate", MODELS, "c", "m", "user", None, Classifier(shipped, cache=Store(tmp_path))
    )
    found = role.attend(images)
    assert role.attend(images) is found
    other_names = replace(images, name="others", indices=images.positions + 7)
    renamed = role.attend(other_names)

    def computed_anew(*_, **__):
        raise ValueError("computed anew")

    assert renamed.maps is found.maps
    assert renamed.predictions.images is other_names
    monkeypatch.setattr("harness.inference.attention.in_batches", computed_anew)
    again = attend(Classifier(shipped, cache=Store(tmp_path)), images)
    assert np.array_equal(again.maps, found.maps)
    assert np.array_equal(again.predictions.logits, found.predictions.logits)
    with pytest.raises(ModelError, match="computed anew"):
        attend(Classifier(shipped, cache=Store(tmp_path)), images, layer="bn2")


@pytest.mark.parametrize(
    ("name", "layer"), [("squeezenet1_1", "classifier.2"), ("shufflenet_v2_x0_5", "conv5")]
)
def test_the_default_layer_ends_the_last_convolution_block(name, layer):
    model = getattr(torchvision.models, name)(weights=None)
    assert default_layer(model, torch.rand(2, 3, 96, 96)) == layer


def test_the_default_layer_lies_before_the_pooling_and_behind_its_relu():
    layers = [
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
    ]
    pixels = torch.rand(2, 1, 8, 8)
    assert default_layer(nn.Sequential(*layers, nn.Linear(18, 2)), pixels) == "2"
    later = [*layers[:2], layers[3], layers[2], layers[4]]
    assert default_layer(nn.Sequential(*later, nn.Linear(18, 2)), pixels) == "1+relu"
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 6), nn.Flatten())
    assert default_layer(model, torch.rand(2, 1, 8, 8)) == "0"
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    with torch.no_grad():
        model[2].weight.zero_()
    assert not relu_follows(model, torch.rand(4, 1, 8, 8) - 0.5, layer="0")


@pytest.mark.parametrize(("slope", "follows"), [(0.0, True), (0.1, False)])
def test_a_relu_that_follows_is_told_from_others(slope, follows):
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.LeakyReLU(slope), nn.Flatten(), nn.Linear(18, 2)
    )
    assert relu_follows(model, torch.rand(4, 1, 8, 8) - 0.5, layer="0") is follows


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            "conv9",
            r"(?m)layer 'conv9': the model has no such layer .* conv1 \(28x28\), .*, bn3 \(7x7\)$",
        ),
        (
            "fc1",
            r"layer 'fc1': the model has no such layer with feature maps of more than one pixel",
        ),
        (
            "conv3+relu",
            r"layer 'conv3\+relu': no ReLU follows directly; name 'conv3' for the layer's own "
            r"output",
        ),
    ],
)
def test_a_wrong_layer_is_an_error_that_lists_those_there_are(shipped, images, wanted, message):
    with pytest.raises(InputError, match=message):
        chosen_layer(Classifier(shipped), images, wanted)


def two(size=4):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 1, size, size), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.tensor([0, 1]), CLASSES, "two", "test")


def test_a_model_without_a_convolution_or_of_nan_has_no_attention():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(NotApplicableError, match="the model has no convolution layer"):
        attend(Classifier(model), two())
    model = Tiny()
    with torch.no_grad():
        model.fc.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        attend(Classifier(model), two(2), layer="conv")


class Detached(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.how = nn.Conv2d(1, 2, 1), how

    def forward(self, pixels):
        maps = self.conv(pixels).flatten(1)
        if self.how == "cut":
            maps = maps.detach()
        return (
            maps[:, :2]
            if self.how == "cut"
            else pixels.flatten(1)[:, :2] * torch.ones(2, requires_grad=True)
        )


@pytest.mark.parametrize(
    ("how", "message"),
    [("cut", "cannot be differentiated"), ("beside", "do not depend on the layer")],
)
def test_logits_that_do_not_come_from_the_layer_have_no_attention(how, message):
    with pytest.raises(NotApplicableError, match=message):
        attend(Classifier(Detached(how)), two(), layer="conv")


class Tokens(nn.Module):
    """Four patches of one pixel, two channels each.

    A class token takes the mean of all tokens, and is read.

    `norm` stands for what comes before the attention, `end` for what comes behind it, where patches
    decide nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 2, 1, bias=False)
        self.norm, self.end = nn.Identity(), nn.Identity()
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.embed.weight.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
            self.head.weight.copy_(torch.tensor([[5.0, 10.0], [0.0, 0.0]]))

    def forward(self, pixels):
        tokens = self.embed(pixels).flatten(2).transpose(1, 2)
        tokens = self.norm(torch.cat([torch.ones_like(tokens[:, :1]), tokens], dim=1))
        taken = tokens.mean(dim=1, keepdim=True)
        return self.head(self.end(torch.cat([taken, tokens[:, 1:]], dim=1))[:, 0])


def test_a_map_of_tokens_by_hand():
    """Each of five tokens is a fifth of the mean.

    Weights are 5/5 and 10/5, the map (2 * 1 - 1 * 2) times the image.

    With the second channel's weight of the head halved, it is (2 * 1 - 1 * 1) times the image.
    """
    model, pixels = Tokens(), torch.tensor([[[[1.0, 0.5], [0.0, 0.25]]]])
    assert spatial_layers(model, pixels) == {"embed": (2, 2), "norm": (2, 2), "end": (2, 2)}
    assert default_layer(model, pixels) == "norm"
    _, maps = grad_cam(model, pixels, layer="norm", size=(2, 2))
    assert torch.allclose(maps, torch.zeros(1, 2, 2), atol=1e-6)
    with torch.no_grad():
        model.head.weight[0, 1] = 5.0
    logits, maps = grad_cam(model, pixels, layer="norm", size=(2, 2))
    # The means are (1 + 2 * 1.75) / 5 and (1 - 1.75) / 5, with the class token's own 1.
    assert torch.allclose(logits, torch.tensor([[4.5 - 0.75, 0.0]]))
    assert torch.allclose(maps, pixels[:, 0])


@pytest.fixture(scope="module")
def noise():
    return noisy(6, 32)


def transformer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.VisionTransformer(
            image_size=32,
            patch_size=8,
            num_layers=3,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
            num_classes=10,
        )
        nn.init.normal_(model.heads.head.weight)
    return model.eval()


class OnAGrid(nn.Module):
    """A layer of tokens whose patches pass through a layer as feature maps, for captum."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.grid = layer, nn.Identity()

    def forward(self, tokens):
        tokens = self.layer(tokens)
        maps = self.grid(tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, 4, 4))
        return torch.cat([tokens[:, :1], maps.flatten(2).transpose(1, 2)], dim=1)


def test_a_transformers_map_before_its_last_attention_equals_captum(noise):
    found = attend(Classifier(transformer(), workers=1), noise)
    assert found.layer == "encoder.layers.encoder_layer_2.ln_1"
    assert found.maps.shape == (6, 4, 4)
    model, pixels = transformer(), noise.pixels.float() / 255
    block = model.encoder.layers.encoder_layer_2
    block.ln_1 = OnAGrid(block.ln_1)
    target = model(pixels).argmax(1)
    expected = LayerGradCam(model, block.ln_1.grid).attribute(
        pixels, target=target, relu_attributions=True
    )[:, 0]
    assert np.abs(found.maps - expected.detach().numpy()).max() < 1e-5
    assert found.maps.max() > 1e-4
    model = transformer()
    differentiated = []
    for name, layer in model.encoder.layers.named_children():
        layer.ln_2.register_full_backward_hook(lambda *_, name=name: differentiated.append(name))
    grad_cam(
        model, noise.pixels.float() / 255, layer="encoder.layers.encoder_layer_2.ln_1", size=(4, 4)
    )
    assert differentiated == ["encoder_layer_2"]
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.models.vision_transformer.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=10,
            global_pool="avg", class_token=False, fc_norm=False,
        )  # fmt: skip
    assert default_layer(model.eval(), noise.pixels.float() / 255) in {"norm", "fc_norm"}


def test_maps_with_channels_last_equal_those_with_channels_first(noise):
    """Torchvision's Swin hands its last norm on with channels first, by a layer of its own."""
    torch.manual_seed(0)
    model = torchvision.models.swin_transformer.SwinTransformer(
        patch_size=[4, 4],
        embed_dim=8,
        depths=[1, 1],
        num_heads=[1, 1],
        window_size=[2, 2],
        num_classes=10,
    ).eval()
    pixels = noise.pixels.float() / 255
    sizes = {"features.0.0": (8, 8), "features.1": (8, 8), "norm": (4, 4), "permute": (4, 4)}
    assert sizes.items() <= spatial_layers(model, pixels).items()
    assert default_layer(model, pixels) == "norm"
    attention = attend(Classifier(model, workers=1), noise)
    _, expected = grad_cam(model, pixels, layer="permute")
    assert attention.layer == "norm"
    assert np.allclose(attention.maps, expected.numpy(), atol=1e-6)
    assert attention.maps.any()
