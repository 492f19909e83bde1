"""Networks in OpenVINO's format: they agree with ONNX Runtime, and refusals say what is wrong."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from linear import EXPECTED, IMAGES, WEIGHTS

from harness.base.errors import InputError, NotApplicableError
from harness.data import load_fashion_mnist
from harness.inference import open_model
from harness.inference.predictors.kinds import model_spec
from harness.networks import NetworkOptions
from harness.networks.declared import load_model
from harness.perturb import Pose
from harness.run.steadiness import unsteady

TESTS = Path(__file__).parents[1]
ov = pytest.importorskip("openvino")
opset = pytest.importorskip("openvino.opset13")


def linear(shape=(-1, 1, 4, 4), kind=np.float32, *, end="logits", outputs=1):
    """Return a linear network of 16 pixels and 3 classes."""
    pixels = opset.parameter(shape, kind, name="pixels")
    scaled = opset.divide(opset.convert(pixels, "f32"), np.float32(255 if kind is np.uint8 else 1))
    flat = opset.reshape(scaled, np.array([0, -1]), special_zero=True)
    found = opset.matmul(flat, WEIGHTS, transpose_a=False, transpose_b=False)
    if end == "probabilities":
        found = opset.softmax(found, axis=1)
    if end == "labels":
        best = opset.topk(found, np.int64(1), 1, "max", "value", index_element_type="i64")
        found = opset.squeeze(best.output(1), np.array([1]))
    return ov.Model([opset.result(found) for _ in range(outputs)], [pixels])


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def open_it(model, *, images=IMAGES, **options):
        ov.save_model(model, "model.xml", compress_to_fp16=False)
        return open_model(
            model_spec("openvino:model.xml"),
            images,
            role="candidate",
            network=NetworkOptions(**options),
        )

    return open_it


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        *(((-1, 1, 4, 4), kind) for kind in (np.float32, np.uint8)),
        *(((7, 1, 4, 4), np.uint8), ((-1, -1, -1, -1), np.float32), ((1, 4, 4, 1), np.uint8)),
    ],
)
def test_it_predicts_like_the_network_that_was_converted(opened, shape, kind):
    model = opened(linear(shape, kind))
    np.testing.assert_allclose(model.predict(IMAGES).logits, EXPECTED, rtol=1e-4, atol=1e-5)
    assert model.as_json()["outputs"] == "logits"
    with pytest.raises(
        NotApplicableError, match="a model of the kind openvino gives predictions only"
    ):
        model.attend(IMAGES)


def quantized(shape=(-1, 1, 4, 4)):
    """Return a linear network that rounds pixels to 16 levels between the extremes of its batch."""
    pixels = opset.parameter(shape, np.float32, name="pixels")
    axes = np.array([0, 1, 2, 3])
    low, high = opset.reduce_min(pixels, axes), opset.reduce_max(pixels, axes)
    step = opset.add(opset.divide(opset.subtract(high, low), np.float32(15)), np.float32(1e-6))
    levels = opset.round(opset.divide(opset.subtract(pixels, low), step), "half_to_even")
    rounded = opset.add(opset.multiply(levels, step), low)
    flat = opset.reshape(rounded, np.array([0, -1]), special_zero=True)
    scores = opset.matmul(flat, WEIGHTS, transpose_a=False, transpose_b=False)
    return ov.Model([opset.result(scores)], [pixels])


BRIGHTNESS = torch.linspace(0.2, 1, len(IMAGES))[:, None, None, None]
DIMMED = replace(IMAGES, pixels=(IMAGES.pixels * BRIGHTNESS).to(torch.uint8))


def quantized_alone():
    pixels = DIMMED.pixels.flatten(1).numpy().astype(np.float32) / 255
    low, high = pixels.min(axis=1, keepdims=True), pixels.max(axis=1, keepdims=True)
    step = (high - low) / 15 + 1e-6
    return (np.round((pixels - low) / step) * step + low) @ WEIGHTS


def test_a_network_with_dynamic_ranges_is_judged_in_batches_of_1(opened):
    model = opened(quantized(), images=DIMMED)
    np.testing.assert_allclose(
        model.predict(DIMMED).logits, quantized_alone(), rtol=1e-3, atol=1e-3
    )
    assert model.as_json()["batches"] == "dynamic ranges: holds for batches of 1"
    assert not unsteady([model], DIMMED)


@pytest.mark.parametrize(("shape", "batch"), [((-1, 1, 4, 4), 32), ((8, 1, 4, 4), None)])
def test_larger_batches_of_dynamic_ranges_are_not_steady(opened, shape, batch):
    said = unsteady([opened(quantized(shape), images=DIMMED, predictor_batch=batch)], DIMMED)
    assert "asked beside other images" in said
    assert "With dynamic quantization, images that share a batch share its ranges" in said


def test_cached_answers_are_those_of_their_batch_size(opened):
    found = {opened(quantized(), predictor_batch=batch).classifier.fingerprint for batch in (1, 32)}
    assert len(found) == 2
    assert "batches" not in opened(linear()).as_json()


TWO = """
import gc, signal, sys
from harness.inference import open_model
from harness.inference.predictors.kinds import model_spec
from harness.networks import NetworkOptions
from linear import IMAGES

models = [
    open_model(model_spec("openvino:model.xml"), IMAGES, role=role, network=NetworkOptions())
    for role in ("candidate", "baseline")
]
models[0].predict(IMAGES)
for _ in range(2):
    del models[0]
    gc.collect()
signal.signal(signal.SIGINT, lambda *_: sys.exit("interrupted"))
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_after_two_networks_are_gone_is_handled(tmp_path):
    """OpenVINO leaves the thread that compiles with a signal stack that it frees."""
    ov.save_model(linear(), tmp_path / "model.xml", compress_to_fp16=False)
    where = os.pathsep.join([str(TESTS), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", TWO],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": where},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "interrupted\n")


def test_probabilities_labels_and_normalization_are_seen(opened):
    shares = np.exp(EXPECTED) / np.exp(EXPECTED).sum(axis=1, keepdims=True)
    for outputs, noted in ((None, True), ("probabilities", False)):
        model = opened(linear(end="probabilities"), model_outputs=outputs)
        np.testing.assert_allclose(model.predict(IMAGES).probabilities, shares, rtol=1e-4)
        assert ("so they are probabilities" in model.note) == noted
    labels = opened(linear(end="labels"))
    assert labels.provides.known == 0
    assert (labels.predict(IMAGES).predicted == EXPECTED.argmax(axis=1)).all()
    found = opened(linear(), normalization="0.5,0.25").predict(IMAGES).logits
    pixels = (IMAGES.pixels.flatten(1).numpy().astype(np.float32) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(found, pixels @ WEIGHTS, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: linear(outputs=2),
            r"REFUSED\[ARCHITECTURE\] model.xml: it has 1 inputs and 2 outputs",
        ),
        (
            lambda: linear(kind=np.int32),
            r"REFUSED\[ARCHITECTURE\] model.xml: its input is i32 of shape",
        ),
        (
            lambda: linear((-1, 1, 2, 8)),
            r"takes images of shape \(1, 2, 8\), the data have 1 channels of 4x4 pixels",
        ),
    ],
    ids=["two outputs", "integers", "another size"],
)
def test_a_network_that_does_not_fit_is_refused(opened, model, message):
    with pytest.raises(InputError, match=message):
        opened(model())


def test_files_out_of_order_are_refused(opened, tmp_path):
    opened(linear())
    whole = (tmp_path / "model.xml").read_text()
    for change, message in (
        (
            lambda: (tmp_path / "model.xml").write_text("<net"),
            r"REFUSED\[FORMAT\] model.xml: OpenVINO cannot read it",
        ),
        (
            lambda: (tmp_path / "model.xml").write_text(whole[: len(whole) // 2]),
            r"REFUSED\[(FORMAT|RESOURCE)\]",
        ),
        (lambda: (tmp_path / "model.bin").write_bytes(b""), r"REFUSED\[(FORMAT|RESOURCE)\]"),
        ((tmp_path / "model.bin").unlink, r"REFUSED\[NOT_REGULAR\] model.bin"),
    ):
        change()
        with pytest.raises(InputError, match=message):
            open_model(model_spec("openvino:model.xml"), IMAGES, role="candidate")
        (tmp_path / "model.xml").write_text(whole)
    with pytest.raises(InputError, match=r"expected openvino:model\.xml"):
        open_model(model_spec("openvino:model.pth"), IMAGES, role="candidate")


def test_its_hash_is_of_both_files(opened, tmp_path):
    first = opened(linear()).sha256
    content = bytearray((tmp_path / "model.bin").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.bin").write_bytes(content)
    assert open_model(model_spec("openvino:model.xml"), IMAGES, role="candidate").sha256 != first


def test_the_shipped_model_converted_agrees_with_onnx_runtime(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    images = load_fashion_mnist("test").take(torch.arange(100))
    shipped = load_model(Path(__file__).parents[2] / "models/augmented.safetensors").model
    with warnings.catch_warnings(action="ignore"):
        example, sizes = torch.zeros(2, 1, 28, 28), {"input": {0: "n"}}
        torch.onnx.export(
            shipped,
            (example,),
            "model.onnx",
            input_names=["input"],
            dynamic_axes=sizes,
            dynamo=False,
        )
    ov.save_model(ov.convert_model("model.onnx"), "model.xml", compress_to_fp16=False)
    models = [open_model(model_spec(spec), images) for spec in ("openvino:model.xml", "model.onnx")]
    found, expected = (model.predict(images, Pose(10, 2, 2)) for model in models)
    assert int((found.predicted != expected.predicted).sum()) == 0
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)
