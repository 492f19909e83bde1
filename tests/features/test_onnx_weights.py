"""ONNX files with weights in a file beside them, read with the same care.

PyTorch's exporter writes them so.
"""

import hashlib
import os

import numpy as np
import pytest
from test_onnx import EXPECTED, IMAGES, WEIGHTS, model_of

from harness.features.onnx import weights
from harness.inference import Classifier
from harness.networks.checkpoints import CheckpointRefused
from harness.networks.declared import load_model

onnx = pytest.importorskip("onnx")

DATA = WEIGHTS.tobytes()


def with_data(folder, *, location="model.onnx.data", data=DATA, where="initializer", **entries):
    """Write the linear network of `model_of`, its weights outside; an entry of None is left out."""
    model = model_of()
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {
        "location": location,
        "offset": "0",
        "length": str(len(DATA)),
        **entries,
    }.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    if where == "branch":
        graph = onnx.helper.make_graph([], "branch", [], [], [tensor])
        del model.graph.initializer[:]
        model.graph.node.append(onnx.helper.make_node("If", ["flat"], ["x"], then_branch=graph))
    if where == "constant":
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["weights"], value=tensor))
        del model.graph.initializer[:]
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    if data is not None:
        (folder / "model.onnx.data").write_bytes(data)
    return path


def logits(checkpoint):
    return Classifier(checkpoint.model, workers=1, screen=False).predict(IMAGES).logits


def test_weights_in_a_file_beside_it_are_read_and_decide_what_is_judged(tmp_path):
    path = with_data(tmp_path, where="constant")
    before = load_model(path)
    np.testing.assert_allclose(logits(before), EXPECTED, atol=1e-5)
    assert before.note == "its weights are read from model.onnx.data, beside it"
    (tmp_path / "model.onnx.data").write_bytes((2 * WEIGHTS).tobytes())
    after = load_model(path)
    assert before.sha256 != after.sha256
    assert before.model_sha256 != after.model_sha256
    path.write_bytes(model_of().SerializeToString())
    inside = load_model(path)
    assert (inside.sha256, inside.note) == (hashlib.sha256(path.read_bytes()).hexdigest(), "")


@pytest.mark.parametrize(
    "how", [{"data": bytes(64) + DATA, "offset": "64"}, {"offset": None, "length": None}], ids=str
)
def test_a_part_of_the_file_is_read_and_offset_and_length_may_be_left_out(tmp_path, how):
    np.testing.assert_allclose(logits(load_model(with_data(tmp_path, **how))), EXPECTED, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # The exporter's own.
def test_todays_exporter_writes_such_files(tmp_path):
    pytest.importorskip("onnxscript")
    import torch
    from torch import nn

    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    shapes = ({0: torch.export.Dim("n")},)
    torch.onnx.export(
        network,
        (torch.rand(2, 1, 4, 4),),
        tmp_path / "m.onnx",
        dynamo=True,
        dynamic_shapes=shapes,
        verbose=False,
    )
    expected = network(IMAGES.pixels.float() / 255).detach().numpy()
    np.testing.assert_allclose(logits(load_model(tmp_path / "m.onnx")), expected, atol=1e-5)


REFUSED = {
    "another-folder": ("ARCHITECTURE", {"location": "../model.onnx.data"}),
    "a-folder-below": ("ARCHITECTURE", {"location": "x/model.onnx.data"}),
    "absolute": ("ARCHITECTURE", {"location": "/etc/passwd"}),
    "backslash": ("ARCHITECTURE", {"location": "..\\model.onnx.data"}),
    "drive": ("ARCHITECTURE", {"location": "C:model.onnx.data"}),
    "parent": ("ARCHITECTURE", {"location": ".."}),
    "constant": ("ARCHITECTURE", {"location": "/etc/passwd", "where": "constant"}),
    "branch": ("ARCHITECTURE", {"location": "/etc/passwd", "where": "branch"}),
    "no-name": ("ARCHITECTURE", {"location": ""}),
    "name-with-nul": ("ARCHITECTURE", {"location": "a\0b"}),
    "no-location": ("ARCHITECTURE", {"location": None}),
    "a-long-name": ("ARCHITECTURE", {"location": "a" * 5_000}),
    "missing": ("NOT_REGULAR", {"data": None}),
    "beyond-its-end": ("FORMAT", {"offset": "8"}),
    "far-beyond-its-end": ("FORMAT", {"offset": "9" * 18}),
    "an-offset-below-zero": ("FORMAT", {"offset": "-8"}),
    "an-offset-of-a-thousand-digits": ("FORMAT", {"offset": "9" * 1_000}),
    "an-offset-in-words": ("FORMAT", {"offset": "eight"}),
    "another-length": ("FORMAT", {"length": "8"}),
    "a-length-of-exabytes": ("FORMAT", {"length": "9" * 18}),
    "cut": ("FORMAT", {"data": DATA[:-4] + b"", "offset": None}),
    "empty": ("RESOURCE", {"data": b""}),
}


@pytest.mark.parametrize(("code", "how"), REFUSED.values(), ids=REFUSED)
def test_weights_that_are_not_a_part_of_a_file_beside_it_are_refused(tmp_path, code, how):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "model.onnx.data").write_bytes(DATA)
    with pytest.raises(CheckpointRefused) as caught:
        load_model(with_data(folder, **how))
    said = str(caught.value)
    assert caught.value.code in {code, "RESOURCE"}
    assert "external_data=False" in said
    assert said.isprintable()
    assert len(said) < 1_000


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "dangling-link"])
def test_what_is_no_file_beside_it_is_refused_unopened(tmp_path, kind):
    path, data = with_data(tmp_path, data=None), tmp_path / "model.onnx.data"
    (tmp_path / "elsewhere").write_bytes(DATA)
    if kind == "fifo":
        os.mkfifo(data)  # Opening it would wait for ever.
    elif kind == "folder":
        data.mkdir()
    else:
        data.symlink_to("elsewhere" if kind == "link" else "nowhere")
    with pytest.raises(
        CheckpointRefused, match=r"in 'model\.onnx\.data' beside it, which cannot be opened"
    ) as caught:
        load_model(path)
    assert caught.value.code == "NOT_REGULAR"


def test_more_than_the_files_or_the_limit_have_is_refused(tmp_path, monkeypatch):
    path = with_data(tmp_path)
    model = onnx.load_model_from_string(path.read_bytes())
    for number in range(1_000):
        again = model.graph.initializer.add()
        again.CopyFrom(model.graph.initializer[0])
        again.name = f"weights-{number}"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointRefused, match="claim more bytes than their files have") as caught:
        load_model(path)
    assert caught.value.code == "RESOURCE"
    monkeypatch.setattr(weights, "MAX_TOTAL", 300)
    with pytest.raises(CheckpointRefused, match="more than the limit of 300") as caught:
        load_model(with_data(tmp_path))
    assert caught.value.code == "TOO_LARGE"
