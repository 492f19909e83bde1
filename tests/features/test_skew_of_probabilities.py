"""Served probabilities beside the reference's.

Another input is proven by them, and no precision is called a skew.
"""

import copy
import logging
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo import CLASSES, Zoo, images_of, network, role_model

from harness.cli import main
from harness.data import load_images
from harness.data.images import unit_range
from harness.features.skew.command import skew_command
from harness.features.skew.diagnosis import diagnosis
from harness.features.skew.probabilities import PRECISIONS, noise_of, rounding
from harness.features.skew.report import diagnosis_json, diagnosis_lines
from harness.features.skew.trials import AFFINE
from harness.inference.precision import in_precision
from harness.inference.predictions import softmax
from harness.inference.role import open_model
from harness.inference.serving import model_serving, served_predictions

MODEL = "models/augmented.safetensors"
SHIPPED = Path(__file__).parents[2] / MODEL
NUMBER = 1_000
"""Images of the shipped data."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Search on few images and for few steps."""
    monkeypatch.setattr("harness.features.skew.trials._LOOKED_AT", 30)
    monkeypatch.setattr("harness.features.skew.trials._ROUNDS", (12, 32))
    monkeypatch.setattr("harness.features.skew.trials._STEPS", 4)
    monkeypatch.setattr("harness.features.skew.diagnosis._FINALISTS", 4)
    monkeypatch.setattr("harness.inference.levels._EVALUATIONS", 20)


@pytest.fixture
def verdict_only(monkeypatch):
    """Search for no cause."""
    monkeypatch.setattr("harness.features.skew.diagnosis.explained", lambda found, _: found)


@pytest.fixture(scope="module")
def shipped_images():
    return load_images("fashion-mnist").take(torch.arange(NUMBER))


@pytest.fixture(scope="module")
def shipped(shipped_images):
    return open_model(SHIPPED, shipped_images)


@pytest.fixture(scope="module")
def model():
    return role_model()


@pytest.fixture(scope="module")
def serving(model):
    return model_serving(model, images_of(400))


def diagnosed(model, images, probabilities, precision=None):
    return diagnosis(
        model,
        images,
        probabilities.argmax(axis=1),
        probabilities=probabilities,
        precision=precision,
    )


def skewed(model, images, change):
    """Return the probabilities that the model serves for images from a changed pipeline."""
    serving = model_serving(model, images)
    return softmax(served_predictions(model, serving, change(serving)).logits)


def exported(network, images, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The exporter's own.
        torch.onnx.export(
            network, (images[:2],), str(path), input_names=["pixels"], output_names=["logits"],
            dynamic_axes={"pixels": {0: "n"}, "logits": {0: "n"}}, dynamo=False,
        )  # fmt: skip
    return path


def answers_of_onnx(path, pixels):
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
    return softmax(
        np.concatenate(
            [session.run(None, {"pixels": part.numpy()})[0] for part in pixels.split(250)]
        )
    )


class Batches:
    """Calibration images in the form that ONNX Runtime reads."""

    def __init__(self, images):
        self.left = list(images.split(250))

    def get_next(self):
        return {"pixels": self.left.pop().numpy()} if self.left else None


def int8_answers(model, pixels, folder, *, per_channel):
    quantization = pytest.importorskip("onnxruntime.quantization")
    logging.getLogger().setLevel(logging.ERROR)
    float32 = exported(model.classifier.plain, pixels, folder / "float32.onnx")
    quantization.quantize_static(
        float32, folder / "int8.onnx", Batches(pixels), quant_format=quantization.QuantFormat.QDQ,
        per_channel=per_channel,
    )  # fmt: skip
    return answers_of_onnx(folder / "int8.onnx", pixels)


def bfloat16_answers(model, pixels):
    network = copy.deepcopy(model.classifier.plain).bfloat16()
    with torch.inference_mode():
        return softmax(network(pixels.bfloat16()).float().numpy())


# The same pixels are no skew, whatever the precision.


@pytest.mark.parametrize("precision", [None, "float32"])
def test_onnx_runtime_in_float32_is_no_skew(shipped, shipped_images, tmp_path, precision):
    pixels = unit_range(shipped_images.pixels)
    path = exported(shipped.classifier.plain, pixels, tmp_path / "float32.onnx")
    found = diagnosed(shipped, shipped_images, answers_of_onnx(path, pixels), precision)
    assert (found.outcome, found.moves.material, found.best) == ("equal", 0, None)
    assert found.moves.largest < 1e-4


@pytest.mark.usefixtures("verdict_only")
@pytest.mark.parametrize("precision", [None, "int8"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_int8_is_no_skew(shipped, shipped_images, tmp_path, precision, per_channel):
    answers = int8_answers(
        shipped, unit_range(shipped_images.pixels), tmp_path, per_channel=per_channel
    )
    found = diagnosed(shipped, shipped_images, answers, precision)
    assert found.moves.material > NUMBER / 20, "int8 moves probabilities"
    assert (found.is_moved, found.moves.noise.precision) == (False, "int8")


@pytest.mark.usefixtures("verdict_only")
@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_bfloat16_is_no_skew(shipped, shipped_images, precision):
    answers = bfloat16_answers(shipped, unit_range(shipped_images.pixels))
    found = diagnosed(shipped, shipped_images, answers, precision)
    assert found.moves.material > 0
    assert not found.is_moved


@pytest.mark.usefixtures("verdict_only")
def test_bfloat16_is_beyond_the_noise_of_float32(shipped, shipped_images):
    answers = bfloat16_answers(shipped, unit_range(shipped_images.pixels))
    assert diagnosed(shipped, shipped_images, answers, "float32").is_moved


# Another input is a skew.


def test_a_mild_skew_of_the_same_weights_is_proven_and_named(shipped, shipped_images):
    answers = skewed(shipped, shipped_images, lambda serving: serving.skewed("jpeg-95"))
    labels = diagnosis(shipped, shipped_images, answers.argmax(axis=1))
    found = diagnosed(shipped, shipped_images, answers, "float32")
    assert (labels.outcome, found.outcome) == ("inconclusive", "different")
    assert (found.named, found.causes) == (True, (("jpeg",),))
    lines = diagnosis_lines(found)
    assert lines[0].startswith("Skew found: ")
    assert lines[1].startswith("probabilities: skew found: ")
    assert lines[1].endswith("the same weights get another input.")
    record = diagnosis_json(found)["probabilities"]
    assert record["moved"] > NUMBER / 10
    assert (record["precision"], record["precision_given"]) == ("float32", True)


@pytest.mark.usefixtures("verdict_only")
def test_a_strong_skew_is_proven_in_an_unknown_precision(shipped, shipped_images):
    answers = skewed(shipped, shipped_images, lambda serving: serving.skewed("gamma-linear"))
    found = diagnosed(shipped, shipped_images, answers)
    assert found.is_moved
    assert diagnosis_lines(found)[1].endswith("another input, or another model.")
    assert (
        "the precision is unknown, and int8 alone explains moves up to "
        in diagnosis_lines(found)[1]
    )


@pytest.mark.parametrize(("gain", "offset"), [(0.94, 0.02), (1.4, -0.08)])
def test_a_gain_and_an_offset_are_named_with_their_values(model, serving, gain, offset):
    change = serving.reference.but("scale", divisor=255 / gain, offset=offset)
    answers = softmax(served_predictions(model, serving, change).logits)
    found = diagnosed(model, serving.images, answers, "float32")
    assert (found.named, found.causes) == (True, ((AFFINE,),))
    (cause,) = [line for line in diagnosis_lines(found) if line.startswith("cause")]
    assert re.fullmatch(r"cause: scale or normalise: pixels × [\d.]+ [+-] [\d.]+", cause)
    best = diagnosis_json(found)["best"]
    assert (best["gain"], best["offset"]) == (
        pytest.approx(gain, abs=0.02),
        pytest.approx(offset, abs=0.02),
    )


def test_another_order_of_classes_is_no_other_input(model, serving):
    known = model.predict(serving.images).probabilities
    found = diagnosed(model, serving.images, known[:, [0, 3, 1, 2]], "float32")
    assert found.order
    assert (found.outcome, found.is_moved, found.moves.material) == ("different", False, 0)


# The command.


@pytest.fixture
def skew(tmp_path, monkeypatch, capsys):
    """Run the command on probabilities with so many decimals.

    Returns its exit status and what it printed.
    """
    monkeypatch.chdir(tmp_path)
    zoo = Zoo(tmp_path)

    def run(probabilities, *more, decimals=6):
        lines = [",".join(["image", *CLASSES])]
        for number, row in enumerate(probabilities):
            lines.append(",".join([str(number), *(f"{value:.{decimals}f}" for value in row)]))
        (tmp_path / "served.csv").write_text("\n".join(lines) + "\n")
        status = main(
            [
                "skew",
                MODEL,
                "--served",
                "served.csv",
                "--data",
                zoo.data,
                "--tolerance",
                "2%",
                *more,
            ]
        )
        return status, capsys.readouterr().out

    return run


@pytest.mark.parametrize("decimals", [2, 3, 6])
def test_rounded_probabilities_of_the_same_input_are_no_skew(skew, model, serving, decimals):
    known = model.predict(serving.images).probabilities
    status, out = skew(known, "--served-precision", "float32", decimals=decimals)
    assert status in {0, 4}, "few decimals may tie"
    assert "skew found" not in out
    assert "float32 alone explains moves up to 0.01" in out or decimals < 6


def test_the_command_finds_a_skew_that_changes_few_predictions(skew, model, serving):
    change = serving.reference.but("scale", divisor=257.5)
    answers = softmax(served_predictions(model, serving, change).logits)
    few = int((answers.argmax(axis=1) != model.predict(serving.images).predicted).sum())
    assert few <= 2, "the labels do not tell"
    status, out = skew(answers, "--served-precision", "float32")
    assert status == 1
    assert out.splitlines()[1].startswith("Skew found: ")
    assert "the same weights get another input" in out


def test_the_command_knows_each_precision():
    (option,) = [each for each in skew_command.params if each.name == "served_precision"]
    assert tuple(option.type.choices) == PRECISIONS


@pytest.mark.parametrize("precision", ["unknown", "float32"])
def test_the_same_input_has_no_cause(skew, model, serving, precision):
    more = [] if precision == "unknown" else ["--served-precision", precision]
    status, out = skew(model.predict(serving.images).probabilities, *more)
    assert status == 0
    assert "cause" not in out
    assert "move by more than 0.01" in out


def test_labels_are_compared_as_labels(skew, model, serving):
    known = model.predict(serving.images).predicted
    status, out = skew(np.eye(4)[known], "--served-precision", "float32")
    assert (status, "probabilities" in out) == (0, False)


# Noise and rounding.


def test_noise_grows_with_the_steps_of_a_precision(model, serving):
    expected = model.predict(serving.images).probabilities
    largest = [
        np.abs(softmax(in_precision(model, serving.images, precision)) - expected).max()
        for precision in ("float32", "float16", "bfloat16", "int8")
    ]
    assert largest[0] == 0
    assert largest == sorted(largest)
    assert len(set(largest)) == 4
    unknown = noise_of(model, serving.images, None)
    assert (unknown.precision, unknown.declared) == ("int8", False)
    assert unknown.limit >= noise_of(model, serving.images, "bfloat16").limit


def test_a_copy_in_another_precision_leaves_the_model_alone(model, serving):
    before = [values.clone() for values in model.classifier.plain.parameters()]
    in_precision(model, serving.images, "int8")
    assert all(map(torch.equal, before, model.classifier.plain.parameters()))


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([[1, 0], [0, 1]], 1),
        ([[0.5, 0.5], [1, 0]], 0.1),
        ([[0.25, 0.75]], 0.01),
        ([[0.123456, 0.876544]], 0),
    ],
    ids=["labels", "one decimal", "two decimals", "six decimals"],
)
def test_the_unit_of_rounding_is_that_of_the_whole_file(values, unit):
    assert rounding(np.array(values, dtype=np.float32)) == pytest.approx(unit)


def test_a_model_without_layers_has_no_noise_to_measure(model, serving):
    classifier = model.classifier.like(network())
    classifier.provides = replace(classifier.provides, layers=False)
    opaque = replace(model, classifier=classifier)
    known = model.predict(serving.images).probabilities
    notes = {
        precision: "probabilities are not compared"
        in "".join(diagnosis_lines(diagnosed(opaque, serving.images, known, precision)))
        for precision in (None, "float32")
    }
    assert notes == {None: True, "float32": False}
    assert noise_of(opaque, serving.images, None) is None
    assert noise_of(opaque, serving.images, "float32").limit == 0.01
