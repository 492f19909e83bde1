"""Checkpoints: what loads, with which bits, and what is refused, with which words."""

import hashlib
import re
import signal
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save
from torch import nn
from weights import (
    ARGUMENTS,
    RECORD,
    change_tensors,
    equal_bits,
    flipped,
    native_file,
    rezipped,
    small,
    torch_file,
    with_record,
)

from harness.base.errors import InputError
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import (
    CheckpointRefused,
    Record,
    files,
    hash_tensors,
    load_checkpoint,
    save_checkpoint,
)


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def native(model):
    return native_file(model)


@pytest.fixture(scope="module")
def pth(model):
    return torch_file(model.state_dict())


@contextmanager
def at_most(seconds):
    def give_up(*_):
        raise TimeoutError(f"still busy after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refusal(path, *, builder=None):
    """The refusal of this file, which must follow the one format."""
    with at_most(20), pytest.raises(CheckpointRefused) as caught:
        load_checkpoint(path, builder=builder)
    error = caught.value
    assert isinstance(error, InputError)
    assert re.fullmatch(
        rf"REFUSED\[{error.code}\] {re.escape(str(path))}: .+\. Nothing was executed\. [A-Z].+[.)]",
        str(error),
        re.DOTALL,
    ), str(error)
    return error


@pytest.fixture
def refuse(tmp_path):
    """Write this content to a file and return the refusal to load it."""

    def write_and_refuse(content, *, builder=small):
        path = tmp_path / "bad.bin"
        path.write_bytes(content)
        return refusal(path, builder=builder)

    return write_and_refuse


def test_native_round_trip_keeps_every_bit_and_the_record(model, tmp_path, native):
    path = tmp_path / "new" / "folder" / "model.safetensors"
    save_checkpoint(path, model, RECORD)
    loaded = load_checkpoint(path)

    assert equal_bits(loaded.model, model)
    assert loaded.record == RECORD
    assert (loaded.architecture, loaded.path) == ("fashion-cnn", path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "x").write_bytes(native)
    pixels, model = torch.rand(3, 1, 4, 4), load_checkpoint(tmp_path / "x").model
    assert torch.equal(model(pixels), small().eval()(pixels))
    assert not any(module.training for module in model.modules())
    save_checkpoint(tmp_path / "x", training := small(1).train(), RECORD)
    assert training.training
    save_checkpoint(
        tmp_path / "x", model, record := Record("fashion-cnn", ARGUMENTS, ("left", "right"))
    )
    assert equal_bits(load_checkpoint(tmp_path / "x").model, model)
    assert load_checkpoint(tmp_path / "x").record == record, (
        "it needs no more than architecture and classes"
    )
    strided = small().to(memory_format=torch.channels_last)
    strided.conv1.weight = nn.Parameter(
        strided.conv1.weight.data.transpose(2, 3).contiguous().transpose(2, 3)
    )
    assert not strided.conv1.weight.is_contiguous()
    save_checkpoint(tmp_path / "x", strided, RECORD)
    assert equal_bits(load_checkpoint(tmp_path / "x").model, model)
    (tmp_path / "x").write_bytes(with_record(model))
    assert equal_bits(load_checkpoint(tmp_path / "x").model, model)


@pytest.mark.parametrize("write", [torch_file, save], ids=["pth", "safetensors"])
def test_file_of_the_notebook_loads_without_further_ado(tmp_path, write):
    notebook = FashionCNN()
    (tmp_path / "fashion").write_bytes(write(notebook.state_dict()))
    loaded = load_checkpoint(tmp_path / "fashion")
    assert equal_bits(loaded.model, notebook)
    assert (loaded.architecture, loaded.record) == ("fashion-cnn", None)
    if write is torch_file:
        strided = FashionCNN().to(memory_format=torch.channels_last)
        assert not strided.conv2.weight.is_contiguous()
        (tmp_path / "fashion").write_bytes(write(strided.state_dict()))
        assert equal_bits(load_checkpoint(tmp_path / "fashion").model, strided)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_precision_loads_as_float32(tmp_path, dtype):
    converted = small().to(dtype)
    save_checkpoint(tmp_path / "x", converted, RECORD)
    loaded = load_checkpoint(tmp_path / "x").model
    assert loaded.fc1.weight.dtype == torch.float32
    assert torch.equal(loaded.fc1.weight, converted.fc1.weight.float())


def test_state_dicts_of_networks_of_the_user_load(tmp_path, model, pth, refuse):
    linear = nn.Linear(3, 2)
    torch.save(linear.state_dict(), tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth", builder=lambda: nn.Linear(3, 2))
    assert torch.equal(loaded.model.weight, linear.weight)
    assert loaded.architecture == "user"
    torch.save(dict(model.named_parameters()) | dict(model.named_buffers()), tmp_path / "x.pth")
    state = {
        name: value
        for name, value in torch.load(tmp_path / "x.pth").items()
        if name in model.state_dict()
    }
    torch.save(state, tmp_path / "x.pth")
    assert equal_bits(load_checkpoint(tmp_path / "x.pth", builder=small).model, model)
    (tmp_path / "x").write_bytes(rezipped(pth))
    assert equal_bits(load_checkpoint(tmp_path / "x", builder=small).model, model)
    both = torch.arange(6.0)
    torch.save({"weight": both[:4].view(2, 2).t(), "bias": both[3:5]}, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth", builder=lambda: nn.Linear(2, 2)).model
    assert loaded.weight.tolist() == [[0.0, 2.0], [1.0, 3.0]]
    assert loaded.bias.tolist() == [3.0, 4.0]
    error = refuse(pth, builder=lambda: nn.Linear(3, 2))
    assert error.code == "ARCHITECTURE"
    assert "names begin with 'fc2.'" in str(error)


def test_hash_of_tensors_depends_on_names_shapes_types_and_values():
    variants = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0.0, 0, 0, 1])},
        {"a": torch.tensor([0.0, 0, 0, -0.0])},
    ]
    assert len({hash_tensors(tensors) for tensors in variants}) == len(variants)
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(1)}
    same = {"b": torch.ones(1), "a": torch.arange(6.0).view(2, 3).t().contiguous().t()}
    assert hash_tensors(tensors) == hash_tensors(same), "neither order nor layout count"


def test_file_at_the_limit_loads_and_one_beyond_it_is_refused(
    refuse, native, tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "MAX_BYTES", len(native))
    (tmp_path / "x").write_bytes(native)
    assert load_checkpoint(tmp_path / "x").record == RECORD
    monkeypatch.setattr(files, "MAX_BYTES", len(native) - 1)
    error = refuse(native)
    assert error.code == "TOO_LARGE"
    assert f"{len(native)} bytes are more than the limit of {len(native) - 1}" in str(error)


SAID = {
    "weights": (
        flipped(native_file(small()), len(native_file(small())) - 2),
        "HASH_MISMATCH",
        [hash_tensors(small().state_dict()), "Copy the file again"],
    ),
    "normalization": (
        native_file(small()).replace(b'mean\\": 0.5', b'mean\\": 0.6'),
        "HASH_MISMATCH",
        ["SHA-256 of its record is"],
    ),
    "architecture": (
        with_record(small(), architecture="os.system"),
        "ARCHITECTURE",
        [
            "unknown architecture id 'os.system', known are ['fashion-cnn']",
            "name the callable that builds it as model",
        ],
    ),
    "whole-model": (
        torch_file(small()),
        "PICKLE_GLOBAL",
        ["harness.networks.architectures.FashionCNN", "torch.save(model.state_dict(), path)"],
    ),
    "checksum": (
        flipped(
            PTH := torch_file(small().state_dict()),
            PTH.index(small().fc1.weight.detach().numpy().tobytes()) + 5,
        ),
        "ZIP_LAYOUT",
        ["not an intact zip file", "checksum of archive/data/", " does not match"],
    ),
    "view": (
        torch_file(change_tensors(small(), **{"fc1.weight": torch.zeros(1, 1).expand(3, 8)})),
        "RESOURCE",
        ["a tensor of shape (3, 8) claims 24 numbers of 1"],
    ),
}


@pytest.mark.parametrize(("content", "code", "facts"), SAID.values(), ids=SAID)
def test_refusals_say_what_was_found_and_what_to_do(refuse, content, code, facts):
    error = refuse(
        content, builder=small if code in {"NONFINITE", "SCHEMA"} or content[:2] == b"PK" else None
    )
    assert error.code == code
    for fact in facts:
        assert fact in str(error)


OTHER_TENSORS = {
    "wrong-shape": (
        {"fc1.weight": torch.zeros(8, 3)},
        "1 of 11 do not fit (fc1.weight has shape (8, 3), the network's (3, 8))",
    ),
    "scalar": ({"fc1.bias": torch.tensor(0.0)}, "fc1.bias has shape (), the network's (3,)"),
    "missing": ({"bn1.running_var": None}, "1 of 11 are missing (bn1.running_var (2,))"),
    "extra": (
        {"fc9.weight": torch.zeros(1)},
        "1 of 12 of the file are unknown to it (fc9.weight (1,))",
    ),
    "fractional-count": (
        {"bn1.num_batches_tracked": torch.tensor(1.5)},
        "bn1.num_batches_tracked has dtype torch.float32",
    ),
}


@pytest.mark.parametrize("write", [save, torch_file], ids=["safetensors", "pth"])
@pytest.mark.parametrize(("changes", "fact"), OTHER_TENSORS.values(), ids=OTHER_TENSORS)
def test_tensors_of_another_network_are_refused(refuse, model, changes, fact, write):
    error = refuse(write(change_tensors(model, **changes)))
    assert error.code == "ARCHITECTURE"
    assert fact in str(error)
    assert "model" in str(error)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5], ids="pickle-{}".format)
def test_state_dict_in_another_pickle_protocol_loads(model, tmp_path, protocol):
    (tmp_path / "x").write_bytes(torch_file(model.state_dict(), pickle_protocol=protocol))
    assert equal_bits(load_checkpoint(tmp_path / "x", builder=small).model, model)
