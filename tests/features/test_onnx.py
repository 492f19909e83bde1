"""Networks in ONNX files: predictions, and nothing else; refused when they are out of order."""

import pickle

import numpy as np
import pytest
import torch
from linear import EXPECTED, IMAGES, WEIGHTS

from harness.base.errors import InputError, NotApplicableError
from harness.inference import Classifier, open_model
from harness.networks.checkpoints import CheckpointRefused
from harness.networks.declared import expect_fit, load_model
from harness.networks.options import NetworkOptions
from harness.perturb import IDENTITY, Pose

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def model_of(
    *, shape=("n", 1, 4, 4), kind=onnx.TensorProto.FLOAT, softmax=False, inputs=1, operator="Gemm"
):
    """Return a linear network of 16 pixels and 3 classes."""
    named = [
        onnx.helper.make_tensor_value_info(f"images{number or ''}", kind, shape)
        for number in range(inputs)
    ]
    nodes = [
        onnx.helper.make_node("Flatten", ["images"], ["flat"]),
        onnx.helper.make_node(operator, ["flat", "weights"], ["scores"]),
        onnx.helper.make_node("Softmax" if softmax else "Identity", ["scores"], ["answers"]),
    ]
    half = kind == onnx.TensorProto.FLOAT16
    output = onnx.helper.make_tensor_value_info(
        "answers", kind if half else onnx.TensorProto.FLOAT, (shape[0], 3)
    )
    weights = onnx.numpy_helper.from_array(
        WEIGHTS.astype(np.float16) if half else WEIGHTS, "weights"
    )
    graph = onnx.helper.make_graph(nodes, "linear", named, [output], [weights])
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
    )


def cast_from(kind, *, shape=("n", 1, 4, 4)):
    """Return the network with an input of integers from 0 to 255, which it scales to [0, 1]."""
    model = model_of(kind=kind, shape=shape)
    model.graph.node.insert(
        0, onnx.helper.make_node("Cast", ["images"], ["cast"], to=onnx.TensorProto.FLOAT)
    )
    model.graph.node.insert(1, onnx.helper.make_node("Div", ["cast", "levels"], ["scaled"]))
    model.graph.node[2].input[0] = "scaled"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(255), "levels"))
    return model


def of_bytes(shape=("n", 1, 4, 4)):
    return cast_from(onnx.TensorProto.UINT8, shape=shape)


@pytest.fixture
def save(tmp_path):
    def saved(model, name="model.onnx"):
        path = tmp_path / name
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return path

    return saved


@pytest.mark.parametrize(
    ("made", "near"),
    [
        (model_of, 1e-5),
        (lambda: model_of(shape=(1, 4, 4, 1)), 1e-5),
        (lambda: model_of(shape=(7, 1, 4, 4)), 1e-5),
        (lambda: model_of(shape=("n", 1, 4, 4), kind=onnx.TensorProto.FLOAT16), 0.03),
        (lambda: model_of(shape=(7, 1, 4, 4), kind=onnx.TensorProto.FLOAT16), 0.03),
        (of_bytes, 1e-5),
        (lambda: of_bytes((7, 4, 4, 1)), 1e-5),
    ],
    ids=[
        "floats",
        "one-channels-last",
        "sevens",
        "half",
        "sevens-half",
        "bytes",
        "sevens-channels-last-bytes",
    ],
)
def test_it_predicts_like_the_network_that_was_exported(save, made, near):
    checkpoint = load_model(save(made()))
    expect_fit(checkpoint.model, IMAGES, outputs=None)
    assert (checkpoint.architecture, checkpoint.record) == ("onnx", None)
    predictions = [
        Classifier(checkpoint.model, workers=workers, screen=False).predict(IMAGES, pose).logits
        for pose in (IDENTITY, Pose(degrees=10))
        for workers in (1, 2)
    ]
    assert predictions[0].dtype == np.float32
    np.testing.assert_allclose(
        predictions[0], EXPECTED, rtol=0.01 if near > 0.01 else 1e-7, atol=near
    )
    for one, two in (predictions[:2], predictions[2:]):
        np.testing.assert_array_equal(one, two)


def test_pixels_between_bytes_are_rounded_and_not_normalized(save):
    network = load_model(save(of_bytes())).model
    levels = (
        torch.tensor([-3.0, 0.4, 0.6, 7.4999, 254.6, 258.0]).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    )
    nearest = torch.tensor([0.0, 0.0, 1.0, 7.0, 255.0, 255.0]).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    expected = (nearest.flatten(1) / 255).numpy() @ WEIGHTS
    np.testing.assert_allclose(
        pickle.loads(pickle.dumps(network))(levels / 255).numpy(), expected, atol=1e-5
    )
    model = load_model(save(of_bytes()), NetworkOptions(normalization="0.3,0.4")).model
    np.testing.assert_allclose(
        Classifier(model, screen=False).predict(IMAGES).logits, EXPECTED, atol=1e-5
    )
    assert model.declared == {"outputs": "logits", "normalization": "none"}


@pytest.mark.parametrize(
    "image", [(5, 7, 3), ("height", "width", 3), (3, 5, 7), (3, "height", "width")]
)
def test_its_input_says_where_channels_stand(save, image):
    """As in a file from Keras, whose images are (N, H, W, C)."""
    last = image[-1] == 3
    given = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ("n", *image))
    answers = onnx.helper.make_tensor_value_info("answers", onnx.TensorProto.FLOAT, ("n", 3))
    mean = onnx.helper.make_node(
        "ReduceMean", ["images"], ["answers"], axes=[1, 2] if last else [2, 3], keepdims=0
    )
    graph = onnx.helper.make_graph([mean], "means", [given], [answers])
    path = save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
        )
    )
    network, pixels = pickle.loads(pickle.dumps(load_model(path).model)), torch.rand(2, 3, 5, 7)
    torch.testing.assert_close(network(pixels), pixels.mean((2, 3)))


def test_declarations_hold_for_it_and_its_content_identifies_it(save):
    path = save(model_of(softmax=True))
    first = load_model(path)
    with pytest.raises(InputError, match="Set model_outputs probabilities"):
        expect_fit(first.model, IMAGES, outputs=None)
    again = load_model(path, NetworkOptions(model_outputs="probabilities"))
    expect_fit(again.model, IMAGES, outputs="probabilities")
    softmax = torch.from_numpy(EXPECTED).softmax(dim=1).numpy()
    np.testing.assert_allclose(
        Classifier(again.model).predict(IMAGES).probabilities, softmax, atol=1e-5
    )
    assert load_model(save(model_of(softmax=True), "copy.onnx")).model_sha256 == first.model_sha256
    assert load_model(save(model_of(), "other.onnx")).model_sha256 != first.model_sha256


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (("n", 4, 2, 2), "takes images of 4 channels, the data have 1; build the model for 1"),
        (("n", 1, 8, 2), r"takes images of 8x2 pixels .* the data have 4x4. Set size 8x2"),
    ],
    ids=["channels", "size"],
)
def test_other_images_than_it_takes_are_named_with_both_numbers(save, shape, message):
    with pytest.raises(InputError, match=message):
        expect_fit(load_model(save(model_of(shape=shape))).model, IMAGES, outputs=None)


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"not protobuf", "FORMAT", "not an ONNX file"),
        (b"", "FORMAT", "cannot run it"),
        (model_of(operator="NoSuchOperator"), "FORMAT", "ONNX Runtime cannot run it"),
        (model_of(inputs=2), "ARCHITECTURE", "it has 2 inputs and 1 outputs"),
        (
            model_of(shape=("n", 16)),
            "ARCHITECTURE",
            r"its input is tensor\(float\) of shape \['n', 16\]",
        ),
        (cast_from(onnx.TensorProto.INT8), "ARCHITECTURE", r"its input is tensor\(int8\)"),
    ],
    ids=["text", "empty", "operator", "inputs", "rank", "int8"],
)
def test_what_is_out_of_order_is_refused(save, content, code, message):
    with pytest.raises(CheckpointRefused, match=message) as refusal:
        load_model(save(content))
    assert refusal.value.code == code


def test_without_the_file_or_the_packages_it_says_so(save, monkeypatch, tmp_path):
    role = open_model(save(model_of()), IMAGES, role="candidate")
    with pytest.raises(NotApplicableError, match="a model of the kind onnx gives predictions only"):
        role.attend(IMAGES)
    with pytest.raises(CheckpointRefused, match="NOT_REGULAR"):
        load_model(tmp_path / "none.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(
        InputError, match=r"ONNX files need onnxruntime; pip install 'stress-harness\[onnx\]'"
    ):
        load_model(save(model_of()))
