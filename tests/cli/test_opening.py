"""Every command that runs a model opens it in one way.

Compared with the data, on the device asked for.
"""

import json

import numpy as np
import pytest
import torch
from zoo import ARGUMENTS, CLASSES, Zoo

from harness.checks.edits import with_settings
from harness.cli import main
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import Record, save_checkpoint

COMMANDS = {
    "evaluate": lambda path, data: ["evaluate", path, "--data", data],
    "break": lambda path, data: ["break", path, "--data", data, "--image", "0"],
    "survival": lambda path, data: ["break", path, "--data", data, "--samples", "8"],
    "compare": lambda path, data: [
        "compare",
        path,
        "models/augmented.safetensors",
        "--data",
        data,
        "--samples",
        "40",
    ],
    "init": lambda path, data: [
        "init",
        "new",
        "--data",
        data,
        "--no-calibrate",
        "--budget",
        "none",
        "--checkpoint",
        f"../{path}",
    ],
}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Zoo(tmp_path)
    (tmp_path / "new").mkdir()
    place.save("other.safetensors", jitter=0.1)
    return place


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_opens_a_model_on_the_data_and_device_asked_for(
    zoo, command, capsys, monkeypatch
):
    arguments = {**ARGUMENTS, "classes": 3}
    save_checkpoint(
        zoo.root / "misfit.safetensors",
        FashionCNN(**arguments),
        Record("fashion-cnn", arguments, CLASSES),
    )
    assert main(command("misfit.safetensors", zoo.data)) == 2
    said = capsys.readouterr().err
    assert "misfit.safetensors: the model has 3 classes, the data have 4 classes" in said
    assert main([*command("other.safetensors", zoo.data), "--device", "abacus"]) == 2
    assert "device 'abacus' cannot be used" in capsys.readouterr().err
    measured = []
    monkeypatch.setattr(
        "harness.inference.Classifier.measure_precision_on",
        lambda _, images: measured.append(images.name),
    )
    assert main([*command("other.safetensors", zoo.data), "--device", "cpu"]) == 0
    assert set(measured) == {"zoo"}, "the precision of predictions is measured on the data"


def test_an_onnx_file_is_not_screened(zoo, monkeypatch):
    """ONNX Runtime computes in float32 whatever autocast says.

    Screening would add half the work again.
    """
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from harness.networks.native_code import NativeNetwork

    make = onnx.helper
    weights = np.random.default_rng(0).normal(size=(256, 4)).astype(np.float32)
    graph = make.make_graph(
        [
            make.make_node("Flatten", ["images"], ["flat"]),
            make.make_node("Gemm", ["flat", "weights"], ["scores"]),
        ],
        "linear",
        [make.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ("n", 1, 16, 16))],
        [make.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ("n", 4))],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    (zoo.root / "model.onnx").write_bytes(model.SerializeToString())
    monkeypatch.setattr("harness.inference.screening.has_bfloat16", lambda _: True)
    screened, forward = [], NativeNetwork.forward

    def watched(self, pixels):
        screened.append(torch.is_autocast_enabled("cpu"))
        return forward(self, pixels)

    monkeypatch.setattr(NativeNetwork, "forward", watched)
    assert (
        main([*COMMANDS["evaluate"]("model.onnx", zoo.data), "--set", "model_outputs=logits"]) == 0
    )
    assert screened
    assert not any(screened)


# Training and calibration.


@pytest.mark.parametrize(
    "arguments",
    [["train", "new.safetensors"], ["calibrate", "--reference-models", "8"]],
    ids=["train", "calibrate"],
)
def test_nothing_is_trained_on_a_device_that_there_is_not(zoo, capsys, arguments):
    zoo.checks.write_text(with_settings(zoo.checks.read_text(), {"data": zoo.data}))
    assert main([*arguments, "--device", "abacus"]) == 2
    assert "device 'abacus' cannot be used" in capsys.readouterr().err
    assert not (zoo.root / "new.safetensors").exists()


def test_train_trains_on_the_device_asked_for(zoo, monkeypatch):
    devices = []

    def train(config, images, destination, *, device, on_epoch, on_step):
        devices.append(device)
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.data.load_fashion_mnist", lambda split, data_dir=None: zoo.images)
    monkeypatch.setattr("harness.networks.training.train", train)
    assert main(["train", "new.safetensors", "--device", "cpu:0"]) == 130
    assert main(["train", "new.safetensors", "--device", "cpu"]) == 130
    assert devices == ["cpu:0", "cpu"]


def test_calibrate_trains_and_measures_on_the_device_asked_for(zoo, monkeypatch):
    trained, recorded = [], []

    def train(checks, folder, *, reference_models, jobs, device):
        trained.append((device, jobs))
        return [
            zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=0.05)
            for seed in range(reference_models)
        ]

    def record(checkpoint, recording, run, **_):
        recorded.append(recording.options)
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.calibration.calibrate.train_reference_models", train)
    monkeypatch.setattr("harness.calibration.measure.report_of_run", record)
    given = ["--", "--stress-set", f"data={zoo.data}"]
    zoo.checks.write_text(zoo.checks.read_text().replace('name = "zoo"', 'name = "fashion-mnist"'))
    assert (
        main(["calibrate", "--reference-models", "8", "--jobs", "3", "--device", "cpu", *given])
        == 130
    )
    assert trained == [("cpu", 3)]
    assert set(recorded) == {("--stress-device=cpu", "--stress-set", f"data={zoo.data}")}


def test_networks_of_the_shipped_recipe_are_not_trained_for_other_data(zoo, monkeypatch, capsys):
    monkeypatch.setattr(
        "harness.calibration.retrain.Child", lambda *_, **__: pytest.fail("trained")
    )
    assert main(["calibrate", "--", "--stress-set", f"data={zoo.data}"]) == 2
    assert "--checkpoints FILE FILE FILE" in capsys.readouterr().err
    assert not list(zoo.root.glob("models/panel*"))


def test_what_one_command_predicted_another_finds(zoo, monkeypatch, capsys):
    assert main(["evaluate", "other.safetensors", "--data", zoo.data, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(
        "harness.inference.engine.Engine.over_batches",
        lambda *_, **__: pytest.fail("predicted anew"),
    )
    assert main(["evaluate", "other.safetensors", "--data", zoo.data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
