"""A repository by `init`, with options for its networks, gates every kind of candidate.

So it does after `accept`.
"""

import json
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from inference_servers import inference_server
from PIL import Image
from recorded_answers import order
from torch import nn
from zoo import asked_to_record, hypothesis_as_it_starts, run_here

from harness.cli import main

onnx = pytest.importorskip("onnx")
openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
pytest.importorskip("httpx")

MEAN, STD = (
    np.array(values, np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)
BUILDER = """
from torch import nn


def halves(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))
"""
CALLABLES = """
import numpy as np

weights, bias = (np.load("weights.npz")[name] for name in ("weights", "bias"))


def scores(pixels):
    normalised = (pixels / np.float32(255) - MEAN) / STD
    return normalised.transpose(0, 3, 1, 2).reshape(len(pixels), -1) @ weights.T + bias


def labels(pixels):
    return scores(pixels).argmax(axis=1)


def bad(pixels):
    return labels(pixels) ^ (pixels[:, 0, 0, 0] % 2)


""".replace("MEAN", f"np.float32({MEAN.tolist()})").replace("STD", f"np.float32({STD.tolist()})")


def weights_of(seed):
    """Return weights (2, 192) and bias (2,) that compare an image's upper half with the lower."""
    noise = np.random.default_rng(seed).normal(0, 0.02, 192)
    row = np.tile(np.repeat([-1.0, 1.0], 32), 3) / 8 + noise
    return np.stack([row, -row]).astype(np.float32), np.zeros(2, np.float32)


@pytest.fixture
def shop(pytester, monkeypatch):
    """A repository with pictures of two classes, a network, and a model of every kind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    rng = np.random.default_rng(0)
    for name, bright in (("floor", slice(4, 8)), ("sky", slice(0, 4))):
        Path(f"photos/{name}").mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
            pixels[bright] += 50
            Image.fromarray(pixels).save(f"photos/{name}/{number}.png")
    Path("bright.py").write_text(BUILDER)
    Path("own.py").write_text(CALLABLES)
    weights, bias = weights_of(1)
    np.savez("weights.npz", weights=weights, bias=bias)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    network.load_state_dict(
        {"1.weight": torch.from_numpy(weights), "1.bias": torch.from_numpy(bias)}
    )
    Path("runs").mkdir()
    torch.save(network.state_dict(), "runs/new.pth")
    torch.save(
        {name: 0.9 * values for name, values in network.state_dict().items()}, "runs/old.pth"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {
            "input_names": ["x"],
            "output_names": ["y"],
            "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}},
        }
        torch.onnx.export(
            network, (torch.zeros(1, 3, 8, 8),), "runs/new.onnx", dynamo=False, **names
        )
        openvino.save_model(
            openvino.convert_model("runs/new.onnx"), "runs/new.xml", compress_to_fp16=False
        )
    started = subprocess.run
    # That other processes answer alike is a self-check, with tests of its own; each takes seconds
    # to start.
    monkeypatch.setattr("harness.run.steadiness.asked_elsewhere", lambda *_: ())
    run_here(monkeypatch, pytester, [])
    here = subprocess.run
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **how: (here if "stress_tests" in command else started)(command, **how),
    )
    with hypothesis_as_it_starts():
        yield pytester


def served(pixels):
    weights, bias = weights_of(1)
    normalised = (pixels - MEAN.reshape(3, 1, 1)) / STD.reshape(3, 1, 1)
    return (normalised.reshape(len(pixels), -1) @ weights.T + bias).astype(np.float32)


def recorded(shop, folder):
    """Predict the images of a new export, and return the SPEC of the file."""
    with asked_to_record(None, **order(Path(folder))):
        assert shop.runpytest_inprocess("stress_tests", "--stress-plan").ret == 0
    shards = [np.load(path) for path in sorted(Path(folder).glob("shard-*.npz"))]
    names, pixels = (
        np.concatenate([shard[name] for shard in shards]) for name in ("image", "pixels")
    )
    export = json.loads(Path(folder, "manifest.json").read_text())["export"]
    np.savez(f"{folder}.npz", export=export, image=names, logits=served(pixels))
    return f"predictions:{folder}.npz"


def test_a_new_repository_gates_every_kind_beside_its_incumbent(shop):
    def gate(candidate):
        quick = ("-p", "no:html", "--stress-set=no_overview=true", "--stress-no-cache")
        status = shop.runpytest_inprocess("stress_tests", *quick, "--candidate", candidate).ret
        report = json.loads(Path("reports/stress.json").read_text())
        assert report["errors"] == [], candidate
        assert str(Path.cwd()) not in Path("reports/stress.md").read_text()
        return status, {
            check["status"] for check in report["checks"] if check["family"] == "regression"
        }

    given = (
        "--data",
        "folder:photos",
        "--size",
        "8",
        "--model",
        "bright:halves",
        "--set",
        "model_args.classes=2",
    )
    families = (
        "--families",
        "clean,class,rotation,confidence,regression",
        "--min-accuracy",
        "0.9",
        "--budget",
        "none",
    )
    declared = ("--set", "normalization=imagenet", "--set", "model_outputs=logits")
    assert main(["init", *given, *declared, *families]) == 0
    with inference_server(served, shape=(-1, 3, 8, 8), classes=2) as server:
        assert gate(server.url) == (0, {"not_applicable"})
        assert main(["accept", "runs/old.pth", "--", "stress_tests"]) == 0
        kinds = [
            "runs/new.pth",
            "runs/new.onnx",
            "openvino:runs/new.xml",
            "python:own:labels",
            server.url,
        ]
        found = {kind: gate(kind) for kind in [*kinds, recorded(shop, "inputs")]}
        assert {each: found for each, found in found.items() if found != (0, {"pass"})} == {}
        assert gate("python:own:bad") == (1, {"fail"})
