"""The command `equal --layers` on a network with branches: parallel, added, and of little weight."""

import re
import warnings

import pytest
import torch
from zoo import Zoo

from harness.cli import main

MODULE = """
import torch
from torch import nn


class Branching(nn.Module):
    in_channels = 1

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.left, self.right = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 3, padding=1)
        self.first, self.norm = nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8)
        self.down = nn.Sequential(nn.Conv2d(8, 8, 1, stride=2), nn.BatchNorm2d(8))
        self.faint = nn.Conv2d(8, 8, 1)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(8 * 64, 4)

    def forward(self, pixels):
        given = self.stem(pixels)
        joined = torch.cat([self.left(given), self.right(given)], dim=1)
        found = self.norm(self.first(joined))
        found += self.down(joined)
        found = found + 1e-3 * self.faint(found)
        return self.last(self.relu(found).flatten(1))
"""
MERGED = {"stem.0": r"stem\.[01]", "first": "first|norm", "norm": "first|norm", "down.0": r"down\.[01]"}
"""Layers that an export merges: a convolution and its batch norm."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the module `branching`, and the zoo's data."""
    root = tmp_path_factory.mktemp("branches")
    (root / "branching.py").write_text(MODULE)
    return Zoo(root)


def built(changed=None):
    """Return the network with batch-norm statistics, and other weights in one layer."""
    found = {}
    exec(MODULE, found)  # The module that the command imports, which tests of other folders must not find.
    torch.manual_seed(0)
    model = found["Branching"]().eval()
    for layer in (each for each in model.modules() if isinstance(each, torch.nn.BatchNorm2d)):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    if changed:
        with torch.no_grad():
            weight = model.get_submodule(changed).weight
            weight.add_(torch.randn(weight.shape) / 20)
    return model


def layers_of(folder, monkeypatch, capsys, model, suffix):
    """Run the command on a network in this format; returns the line on layers."""
    monkeypatch.chdir(folder.root)
    torch.save(built().state_dict(), "original.pth")
    if suffix == "pth":
        torch.save(model.state_dict(), "a.pth")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The exporter's own.
            torch.onnx.export(
                model, (torch.rand(2, 1, 16, 16),), "a.onnx", dynamo=False,
                input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            )  # fmt: skip
    line = ["equal", f"a.{suffix}", "--original", "original.pth", "--model", "branching:Branching"]
    main([*line, "--data", folder.data, "--layers"])
    (found,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("Layers: ")]
    return found


@pytest.mark.parametrize("suffix", ["pth", "onnx"])
@pytest.mark.parametrize("layer", ["stem.0", "left", "right", "first", "norm", "down.0", "faint", "last"])
def test_the_first_different_layer_is_named(folder, monkeypatch, capsys, layer, suffix):
    said = layers_of(folder, monkeypatch, capsys, built(layer), suffix)
    names = MERGED.get(layer, re.escape(layer)) if suffix == "onnx" else re.escape(layer)
    assert re.match(rf"Layers: the difference begins at network\.({names}) by ", said), said


@pytest.mark.parametrize("suffix", ["pth", "onnx"])
def test_all_layers_of_a_lossless_copy_are_equal(folder, monkeypatch, capsys, suffix):
    said = layers_of(folder, monkeypatch, capsys, built(), suffix)
    assert re.fullmatch(r"Layers: all \d+ are equal, up to float noise\.", said), said
