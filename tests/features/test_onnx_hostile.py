"""Small ONNX files that unfold to any size, or never end, are refused in time.

A child process tries them.
"""

import os
import resource
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.features.onnx import network_file
from harness.features.onnx.network_file import load_onnx
from harness.networks.checkpoints import CheckpointRefused

IMAGES = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 28, 28])
PLAIN = helper.make_opsetid("", 17)
LOGITS = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])


def saved(path, nodes, initializers=(), functions=(), opsets=(), *, images=IMAGES):
    graph = helper.make_graph(nodes, "hostile", [images], [LOGITS], list(initializers))
    model = helper.make_model(
        graph, opset_imports=[PLAIN, *opsets], functions=list(functions), ir_version=8
    )
    path.write_bytes(model.SerializeToString())
    return path


def array(name, values):
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def functions_that_double(path):
    """Each function calls the one before it twice: 2 ** 26 calls once all are written out."""
    one = helper.make_opsetid("f", 1)
    functions = [
        helper.make_function(
            "f", "f0", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], [PLAIN]
        )
    ]
    for depth in range(1, 27):
        nodes = [
            helper.make_node(f"f{depth - 1}", ["x"], ["z"], domain="f"),
            helper.make_node(f"f{depth - 1}", ["z"], ["y"], domain="f"),
        ]
        functions.append(helper.make_function("f", f"f{depth}", ["x"], ["y"], nodes, [PLAIN, one]))
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("f26", ["mean"], ["deep"], domain="f"),
        helper.make_node("Tile", ["deep", "repeats"], ["logits"]),
    ]
    return saved(path, nodes, [array("repeats", np.array([1, 10]))], functions, [one])


def a_loop_without_end(path, *, of):
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["goes_on"]),
            helper.make_node("Neg", ["held"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Loop", ["turns", "true", "mean"], ["end"], body=body),
        helper.make_node("Tile", ["end", "repeats"], ["logits"]),
    ]
    constants = [
        array("turns", np.int64(2**62)),
        array("true", np.array(1, bool)),
        array("repeats", np.array([1, 10])),
    ]
    return saved(
        path, nodes, constants, images=helper.make_tensor_value_info("images", of, ["n", 1, 28, 28])
    )


def a_constant_of_six_gigabytes(path):
    nodes = [
        helper.make_node(
            "ConstantOfShape",
            ["shape"],
            ["huge"],
            value=array("value", np.array([1.0], np.float32)),
        ),
        helper.make_node("ReduceMax", ["huge"], ["largest"], keepdims=0),
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "largest"], ["scaled"]),
        helper.make_node("Tile", ["scaled", "repeats"], ["logits"]),
    ]
    return saved(
        path,
        nodes,
        [array("shape", np.array([1_500_000_000])), array("repeats", np.array([1, 10]))],
    )


def moderate(path):
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Tile", ["mean", "repeats"], ["logits"]),
    ]
    return saved(path, nodes, [array("repeats", np.array([1, 10]))])


def busy_seconds():
    """The processor's, for this process and its children."""
    return sum(os.times()[:4])


@pytest.mark.parametrize(
    "made",
    [
        functions_that_double,
        a_constant_of_six_gigabytes,
        partial(a_loop_without_end, of=TensorProto.UINT8),
    ],
    ids=["functions", "constant", "loop-uint8"],
)
def test_a_small_file_that_asks_for_too_much_is_refused(tmp_path, monkeypatch, made):
    one_second = replace(network_file.ONNX_RUNTIME, seconds=1)
    monkeypatch.setattr(network_file, "ONNX_RUNTIME", one_second)
    path = made(tmp_path / "small.onnx")
    assert path.stat().st_size < 100_000
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, busy_seconds()
    with pytest.raises(CheckpointRefused, match=r"REFUSED\[RESOURCE\].*took more than") as refusal:
        load_onnx(path)
    assert refusal.value.code == "RESOURCE"
    assert busy_seconds() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "in kilobytes"


def test_a_file_that_asks_for_little_is_not(tmp_path):
    assert load_onnx(moderate(tmp_path / "plain.onnx")).architecture == "onnx"
