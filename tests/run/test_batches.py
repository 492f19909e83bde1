"""A network whose prediction for an image depends on the batch ends the run with 4.

Served, it would give others.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from zoo import CLASSES, images_of, network, role_model

from harness.inference import Classifier
from harness.networks.declared import load_model
from harness.run.steadiness import unsteady


class Squeezed(nn.Module):
    """Squeezes all dimensions of one, and so that of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, pixels):
        return self.network(pixels)[:, None].squeeze()


class Branching(Squeezed):
    """Answers for one batch size otherwise than for others."""

    def __init__(self, size: int, *, gives_up: bool = False) -> None:
        super().__init__()
        self.size, self.gives_up = size, gives_up

    def forward(self, pixels):
        logits = self.network(pixels)
        if (len(pixels) == self.size) != self.gives_up:
            return logits.roll(1, dims=1)
        return logits


class Centered(Squeezed):
    """Subtracts the mean over the batch."""

    def forward(self, pixels):
        return self.network(pixels - pixels.mean(dim=0, keepdim=True))


class Normed(Squeezed):
    """Normalizes by the statistics of the batch."""

    def forward(self, pixels):
        return self.network(functional.batch_norm(pixels, None, None, training=True))


class Neighborly(Squeezed):
    """Adds a little of the logits of the image before."""

    def forward(self, pixels):
        logits = self.network(pixels)
        return logits + 0.05 * logits.roll(1, dims=0)


class Lazy(Squeezed):
    """Cannot take an odd number of images."""

    def forward(self, pixels):
        return self.network(pixels.unflatten(0, (-1, 2)).flatten(0, 1))


BATCHED = {
    "squeeze": Squeezed(),
    "one": Branching(1),
    "three": Branching(3),
    "all-but-the-padded-size": Branching(32, gives_up=True),
    "centered": Centered(),
    "normed": Normed(),
    "neighbors": Neighborly(),
    "even": Lazy(),
}


def checked(model, *, count: int = 400):
    return unsteady([role_model("original"), role_model(model=model)], images_of(count))


@pytest.mark.parametrize("model", BATCHED.values(), ids=BATCHED)
def test_a_network_that_looks_at_its_batch_is_found(model):
    assert "a served model would give other predictions than those judged" in checked(model)


@pytest.mark.parametrize("count", [1, 3, 31, 33, 400])
def test_a_network_that_does_not_is_not(count):
    assert not checked(None, count=count)


def test_the_last_bits_may_differ():
    noisy = network()
    noisy.register_forward_hook(lambda _, __, logits: logits + 1e-5 * len(logits))
    assert not checked(noisy)


class Asked:
    """A predictor in this process.

    Answers of images at odd places in a batch are mixed up if it is `careless`.
    """

    def __init__(self, *, careless: bool) -> None:
        self.careless, self.model = careless, network()

    def predict(self, pixels):
        with torch.no_grad():
            logits = self.model(torch.from_numpy(pixels)).numpy()
        return np.concatenate([logits[:1], logits[1:][::-1]]) if self.careless else logits


@pytest.mark.parametrize("careless", [False, True])
def test_a_predictor_is_asked_in_another_order(careless):
    from harness.inference.predictors.network import PredictorModel
    from harness.inference.predictors.protocol import Identity, Provides

    class Named(Asked):
        identity, provides = Identity("test", {}), Provides()

        def close(self):
            """Hold nothing."""

    predictor = PredictorModel(Named(careless=careless), classes=CLASSES)
    classifier = Classifier(predictor)
    found = unsteady([replace(role_model(), classifier=classifier)], images_of(400))
    assert bool(found) == careless, found


def onnx_file(path, batch, *, sums: bool):
    """Write a network that multiplies pixels by weights.

    If it `sums`, it subtracts the mean over its batch.
    """
    onnx = pytest.importorskip("onnx")
    weights = np.random.default_rng(0).normal(size=(256, 4)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Flatten", ["images"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    nodes += (
        [
            onnx.helper.make_node("ReduceMean", ["y"], ["mean"], axes=[0], keepdims=1),
            onnx.helper.make_node("Sub", ["y", "mean"], ["logits"]),
        ]
        if sums
        else [onnx.helper.make_node("Identity", ["y"], ["logits"])]
    )
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [onnx.helper.make_tensor_value_info("images", kind, (batch, 1, 16, 16))],
        [onnx.helper.make_tensor_value_info("logits", kind, (batch, 4))],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
    )
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("batch", "sums"), [("n", False), (1, False), (8, False), ("n", True), (8, True)]
)
def test_onnx_files_of_a_fixed_and_of_any_batch_size_are_asked(tmp_path, batch, sums):
    path = onnx_file(tmp_path / "net.onnx", batch, sums=sums)
    assert bool(checked(load_model(path).model)) == sums
