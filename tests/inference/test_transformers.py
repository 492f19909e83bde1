"""Grad-CAM of vision transformers: their tokens are feature maps on the grid of the patches."""

import numpy as np
import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from torch import nn

from harness.data import LabelledImages
from harness.inference import Classifier
from harness.inference.attention import attend, grad_cam
from harness.inference.layers import default_layer, spatial_layers


class Tiny(nn.Module):
    """Four patches of one pixel, two channels each; a class token takes the mean of all tokens, and is read.

    `norm` stands for what comes before the attention, `end` for what comes behind it, where patches decide nothing.
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
    """Each of five tokens is a fifth of the mean: weights are 5/5 and 10/5, the map (2 * 1 - 1 * 2) times the image.

    With the second channel's weight of the head halved, it is (2 * 1 - 1 * 1) times the image.
    """
    model, pixels = Tiny(), torch.tensor([[[[1.0, 0.5], [0.0, 0.25]]]])
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
def pictures():
    pixels = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return LabelledImages(pixels, torch.zeros(6, dtype=torch.int64), tuple("abcdefghij"), "noise", "test")


def transformer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10
        )
        nn.init.normal_(model.heads.head.weight)
    return model.eval()


class OnAGrid(nn.Module):
    """A layer of tokens whose patches pass through a layer of their own as feature maps, for captum to look at."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.grid = layer, nn.Identity()

    def forward(self, tokens):
        tokens = self.layer(tokens)
        maps = self.grid(tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, 4, 4))
        return torch.cat([tokens[:, :1], maps.flatten(2).transpose(1, 2)], dim=1)


def test_a_transformers_map_before_its_last_attention_equals_captum(pictures):
    found = attend(Classifier(transformer(), workers=1), pictures)
    assert found.layer == "encoder.layers.encoder_layer_2.ln_1"
    assert found.maps.shape == (6, 4, 4)
    model, pixels = transformer(), pictures.pixels.float() / 255
    block = model.encoder.layers.encoder_layer_2
    block.ln_1 = OnAGrid(block.ln_1)
    target = model(pixels).argmax(1)
    expected = LayerGradCam(model, block.ln_1.grid).attribute(pixels, target=target, relu_attributions=True)[:, 0]
    assert np.abs(found.maps - expected.detach().numpy()).max() < 1e-5
    assert found.maps.max() > 1e-4


def test_a_transformer_that_averages_patches_has_its_map_behind_a_norm(pictures):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.models.vision_transformer.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=10,
            global_pool="avg", class_token=False, fc_norm=False,
        )  # fmt: skip
    assert default_layer(model.eval(), pictures.pixels.float() / 255) in {"norm", "fc_norm"}


def test_only_what_follows_the_layer_is_differentiated(pictures):
    """One pass forward through the whole, and one back through the last of three blocks."""
    model = transformer()
    differentiated = []
    for name, layer in model.encoder.layers.named_children():
        layer.ln_2.register_full_backward_hook(lambda *_, name=name: differentiated.append(name))
    grad_cam(model, pictures.pixels.float() / 255, layer="encoder.layers.encoder_layer_2.ln_1", size=(4, 4))
    assert differentiated == ["encoder_layer_2"]


def test_maps_with_channels_last_equal_those_with_channels_first(pictures):
    """Torchvision's Swin hands its last norm on with channels first, by a layer of its own."""
    torch.manual_seed(0)
    model = torchvision.models.swin_transformer.SwinTransformer(
        patch_size=[4, 4], embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=[2, 2], num_classes=10
    ).eval()
    pixels = pictures.pixels.float() / 255
    layers = spatial_layers(model, pixels)
    assert (layers["features.0.0"], layers["features.1"], layers["norm"], layers["permute"]) == (
        (8, 8),
        (8, 8),
        (4, 4),
        (4, 4),
    )
    assert default_layer(model, pixels) == "norm"
    attention = attend(Classifier(model, workers=1), pictures)
    _, expected = grad_cam(model, pixels, layer="permute")
    assert attention.layer == "norm"
    assert np.allclose(attention.maps, expected.numpy(), atol=1e-6)
    assert attention.maps.any()
