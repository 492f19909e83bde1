"""A first gates file for data of one's own: it is read, it fits the data, it names what a model confuses."""

import numpy as np
import pytest
import torch

from harness.cli import main
from harness.data import LabelledImages, load_images
from harness.gates import read_gates
from harness.gates.starter import starter
from harness.inference import Predictions
from harness.measures.mistakes import confused_pairs
from harness.perturb import IDENTITY, Pose

CLASSES = ("T-shirt/top", "Trouser", "靴")


def images_of(labels=(0, 1, 2, 0), size=(28, 56)) -> LabelledImages:
    pixels = torch.zeros(len(labels), 1, *size, dtype=torch.uint8)
    return LabelledImages(pixels, torch.tensor(labels), CLASSES, "shop", "test")


def test_it_is_a_gates_file_for_these_images(tmp_path):
    images = images_of()
    (tmp_path / "gates.toml").write_text(starter(images, [("Trouser", "靴")]))
    gates = read_gates(tmp_path / "gates.toml")
    assert (gates.data.sha256, gates.data.n, gates.data.classes) == (images.sha256, 4, CLASSES)
    by_id = {gate.id: gate for gate in gates.gates}
    assert [name for name in by_id if name.startswith("clean")] == [
        "clean", "clean-t-shirt-top", "clean-trouser", "clean-class-2",
    ]  # fmt: skip
    assert {name: gate.pose for name, gate in by_id.items() if gate.pose != IDENTITY} == {
        "rotate-cw-010": Pose(degrees=-10),
        "rotate-cw-005": Pose(degrees=-5),
        "rotate-ccw-005": Pose(degrees=5),
        "rotate-ccw-010": Pose(degrees=10),
        "shift-right-4": Pose(dx=4),
        "shift-left-4": Pose(dx=-4),
        "shift-down-2": Pose(dy=2),
        "shift-up-2": Pose(dy=-2),
    }
    assert (by_id["confident-errors"].direction, by_id["confident-errors"].keys) == ("at_most", {"confidence": 0.9})
    assert by_id["pair-trouser-class-2"].keys == {"pair": ["Trouser", "靴"]}
    assert all(gate.threshold is None for gate in gates.gates)


def test_classes_of_one_spelling_have_rows_of_their_own(tmp_path):
    images = LabelledImages(images_of((0, 1)).pixels, torch.tensor([0, 1]), ("a b", "A-B"), "shop", "test")
    (tmp_path / "gates.toml").write_text(starter(images))
    assert [gate.id for gate in read_gates(tmp_path / "gates.toml").family("class")] == ["clean-a-b-0", "clean-a-b-1"]


def test_pairs_are_those_confused_most_often_either_way():
    labels, predicted = [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 1, 2, 1, 2]
    predictions = Predictions(np.eye(3, dtype=np.float32)[predicted], images_of(labels), IDENTITY)
    assert confused_pairs(predictions) == [("T-shirt/top", "Trouser"), ("T-shirt/top", "靴"), ("Trouser", "靴")]
    assert confused_pairs(predictions, most=1) == [("T-shirt/top", "Trouser")]


def test_a_model_without_confusions_names_no_pair():
    assert confused_pairs(Predictions(np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], images_of(), IDENTITY)) == []


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("shop.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 1, 0, 1]), classes=["a", "b"])
    torch.save(torch.nn.Linear(1, 1).state_dict(), "model.pth")
    return tmp_path


def test_the_command_writes_it_and_overwrites_nothing(shop, capsys):
    arguments = ["new-gates", "stress_tests/gates.toml", "--data", "npz:shop.npz", "--stress-size", "16"]
    assert main(arguments) == 0
    assert "written for 4 images of 2 classes" in capsys.readouterr().out
    gates = read_gates(shop / "stress_tests/gates.toml")
    assert gates.data.sha256 == load_images("npz:shop.npz", size=(16, 16)).sha256
    assert main(arguments) == 2
    assert "is there already" in capsys.readouterr().err


class Constant(torch.nn.Module):
    """Takes the weights of a linear layer and says "a" of everything."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, 1))
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, pixels):
        return torch.tensor([1.0, 0.0]).expand(len(pixels), 2) + self.bias


def test_a_checkpoint_adds_the_pairs_that_it_confuses(shop):
    network = ["--checkpoint", "model.pth", "--stress-model", f"{__name__}:Constant"]
    assert main(["new-gates", "gates.toml", "--data", "npz:shop.npz", *network]) == 0
    (pair,) = read_gates(shop / "gates.toml").family("pairs")
    assert (pair.id, pair.keys, pair.metric, pair.direction) == (
        "pair-a-b",
        {"pair": ["a", "b"]},
        "pair_failures",
        "at_most",
    )
