"""Checkpoints: what loads, with which bits, and what is refused, with which words."""

import hashlib
import re
import signal
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn
from weights import (
    ARGUMENTS,
    RECORD,
    change_tensors,
    equal_bits,
    flipped,
    native_file,
    pickle_of,
    rezipped,
    small,
    torch_file,
    with_header,
    with_raw_record,
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

HUGE = 10**12


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


def loaded(path, content):
    """The model, None for a file that is refused with a code; anything else fails the test."""
    path.write_bytes(content)
    try:
        with at_most(10):
            return load_checkpoint(path, builder=small).model
    except CheckpointRefused:
        return None


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


# Files that load.


def test_native_round_trip_keeps_every_bit_and_the_record(model, tmp_path):
    path = tmp_path / "new" / "folder" / "model.safetensors"
    save_checkpoint(path, model, RECORD)
    loaded = load_checkpoint(path)

    assert equal_bits(loaded.model, model)
    assert loaded.record == RECORD
    assert (loaded.architecture, loaded.path) == ("fashion-cnn", path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(path.parent.iterdir()) == [path]


def test_loaded_network_gives_the_same_logits_under_its_own_normalization(model, native, tmp_path):
    (tmp_path / "x").write_bytes(native)
    pixels = torch.rand(3, 1, 4, 4)
    assert torch.equal(load_checkpoint(tmp_path / "x").model(pixels), small().eval()(pixels))


def test_loaded_network_is_in_evaluation_mode(native, tmp_path):
    (tmp_path / "x").write_bytes(native)
    assert not any(module.training for module in load_checkpoint(tmp_path / "x").model.modules())


def test_record_needs_only_architecture_arguments_and_classes(model, tmp_path):
    record = Record("fashion-cnn", ARGUMENTS, ("left", "right"))
    save_checkpoint(tmp_path / "x", model, record)
    assert load_checkpoint(tmp_path / "x").record == record


def test_saving_replaces_the_file_that_was_there(model, tmp_path):
    save_checkpoint(tmp_path / "x", small(), RECORD)
    save_checkpoint(tmp_path / "x", model, RECORD)
    assert equal_bits(load_checkpoint(tmp_path / "x").model, model)


def test_saving_leaves_the_model_in_its_mode(tmp_path):
    model = small().train()
    save_checkpoint(tmp_path / "x", model, RECORD)
    assert model.training


def test_channels_last_model_is_saved_with_the_same_values(model, tmp_path):
    strided = small().to(memory_format=torch.channels_last)
    strided.conv1.weight = nn.Parameter(strided.conv1.weight.data.transpose(2, 3).contiguous().transpose(2, 3))
    assert not strided.conv1.weight.is_contiguous()
    save_checkpoint(tmp_path / "x", strided, RECORD)
    assert equal_bits(load_checkpoint(tmp_path / "x").model, model)


def test_file_of_the_notebook_loads_without_further_ado(tmp_path):
    notebook = FashionCNN()
    torch.save(notebook.state_dict(), tmp_path / "fashion.pth")
    loaded = load_checkpoint(tmp_path / "fashion.pth")

    assert equal_bits(loaded.model, notebook)
    assert (loaded.architecture, loaded.record) == ("fashion-cnn", None)


def test_safetensors_file_without_a_record_is_the_notebooks_network(tmp_path):
    notebook = FashionCNN()
    (tmp_path / "x").write_bytes(save(notebook.state_dict()))
    loaded = load_checkpoint(tmp_path / "x")
    assert equal_bits(loaded.model, notebook)
    assert loaded.record is None


def test_channels_last_state_dict_loads(tmp_path):
    strided = FashionCNN().to(memory_format=torch.channels_last)
    assert not strided.conv2.weight.is_contiguous()
    torch.save(strided.state_dict(), tmp_path / "x.pth")
    assert equal_bits(load_checkpoint(tmp_path / "x.pth").model, strided)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_precision_loads_as_float32(tmp_path, dtype):
    converted = small().to(dtype)
    save_checkpoint(tmp_path / "x", converted, RECORD)
    loaded = load_checkpoint(tmp_path / "x").model
    assert loaded.fc1.weight.dtype == torch.float32
    assert torch.equal(loaded.fc1.weight, converted.fc1.weight.float())


def test_builder_of_the_user_builds_the_network(tmp_path):
    linear = nn.Linear(3, 2)
    torch.save(linear.state_dict(), tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth", builder=lambda: nn.Linear(3, 2))
    assert torch.equal(loaded.model.weight, linear.weight)
    assert loaded.architecture == "user"


def test_parameters_in_a_state_dict_are_tensors_too(model, tmp_path):
    torch.save(dict(model.named_parameters()) | dict(model.named_buffers()), tmp_path / "x.pth")
    state = {name: value for name, value in torch.load(tmp_path / "x.pth").items() if name in model.state_dict()}
    torch.save(state, tmp_path / "x.pth")
    assert equal_bits(load_checkpoint(tmp_path / "x.pth", builder=small).model, model)


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


def test_hash_of_tensors_depends_on_neither_order_nor_layout():
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(1)}
    same = {"b": torch.ones(1), "a": torch.arange(6.0).view(2, 3).t().contiguous().t()}
    assert hash_tensors(tensors) == hash_tensors(same)


# Paths that are no regular file of a sensible size.


def test_missing_file_is_refused(tmp_path):
    error = refusal(tmp_path / "nowhere.safetensors")
    assert error.code == "NOT_REGULAR"
    assert "No such file" in str(error)


def test_file_beyond_the_limit_is_refused_with_both_sizes(refuse, native, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", len(native) - 1)
    error = refuse(native)
    assert error.code == "TOO_LARGE"
    assert f"{len(native)} bytes are more than the limit of {len(native) - 1}" in str(error)


def test_file_at_the_limit_loads(native, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", len(native))
    (tmp_path / "x").write_bytes(native)
    assert load_checkpoint(tmp_path / "x").record == RECORD


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "it starts with nothing"),
        (b"PK", "it starts with 504b"),
        (b"hello, world", "it starts with 68656c6c6f2c2077"),
        (b"\0" * 64, "it starts with 0000000000000000"),
        (b"\x80\x02}q\0.", "neither a safetensors file nor a zip file"),
        (
            torch_file({"a": torch.zeros(1)}, _use_new_zipfile_serialization=False),
            "(PyTorch 1.6 or later); it starts with 80028a0a",
        ),
    ],
    ids=["empty", "two-bytes", "text", "zeros", "bare-pickle", "legacy-torch"],
)
def test_file_of_another_format_is_refused(refuse, content, fact):
    error = refuse(content)
    assert error.code == "FORMAT"
    assert fact in str(error)
    assert "torch.save(model.state_dict(), path)" in str(error)


# Damaged native files.


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("from_end", [1, 2, 100], ids="{}-from-end".format)
def test_flipped_bit_in_the_weights_is_a_hash_mismatch(refuse, native, from_end, bit):
    error = refuse(flipped(native, len(native) - from_end, bit), builder=None)
    assert error.code == "HASH_MISMATCH"
    assert hash_tensors(small().state_dict()) in str(error)
    assert "Copy the file again" in str(error)


def test_flipped_bit_in_the_normalization_is_a_hash_mismatch(refuse, native):
    error = refuse(flipped(native, native.index(b'mean\\": 0.5') + len(b'mean\\": 0.')), builder=None)
    assert error.code == "HASH_MISMATCH"
    assert "SHA-256 of its record is" in str(error)


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "not-json": (b"{" + b" " * 7, b""),
    "offsets-beyond-the-file": ({"a": {**ONE, "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}, b"\0" * 4),
    "metadata-of-numbers": ({"__metadata__": {"harness": 1}, "a": ONE}, b"\0" * 4),
}


@pytest.mark.parametrize(("header", "data"), HEADERS.values(), ids=HEADERS)
def test_malformed_header_is_refused(refuse, header, data):
    error = refuse(with_header(header, data))
    assert error.code == "FORMAT"
    assert "not an intact safetensors file" in str(error)


def test_null_metadata_is_refused_or_no_metadata(refuse):
    assert refuse(with_header({"__metadata__": None, "a": ONE}, b"\0" * 4)).code in {"FORMAT", "ARCHITECTURE"}


RECORDS = {
    "not-json": "{",
    "a-list": "[]",
    "a-number": "1",
    "null": "null",
    "empty": "{}",
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_unreadable_record_is_refused(refuse, model, record):
    error = refuse(with_raw_record(model, record), builder=None)
    assert error.code == "SCHEMA"
    assert "the record in its header is malformed" in str(error)


MALFORMED = {
    "other-schema": {"schema": 2},
    "no-schema": {"schema": None},
    "no-hash": {"tensors_sha256": None},
    "no-architecture": {"architecture": None},
    "no-arguments": {"arguments": None},
    "no-classes": {"classes": None},
    "unknown-entry": {"builder": "os.system"},
    "architecture-number": {"architecture": 1},
    "architecture-list": {"architecture": ["fashion-cnn"]},
    "arguments-list": {"arguments": [1]},
    "classes-number": {"classes": 2},
    "classes-text": {"classes": "ab"},
    "classes-of-numbers": {"classes": [1, 2]},
    "history-of-numbers": {"history": [1]},
    "history-text": {"history": "ab"},
    "training-number": {"training": 1},
    "data-number": {"data_sha256": 1},
    "validation-list": {"validation": [1]},
    "versions-number": {"versions": 1},
}


@pytest.mark.parametrize("changes", MALFORMED.values(), ids=MALFORMED)
def test_malformed_record_is_refused(refuse, model, changes):
    error = refuse(with_record(model, **changes), builder=None)
    assert error.code == "SCHEMA"
    assert "the record in its header is malformed" in str(error)


def test_record_with_another_schema_names_both(refuse, model):
    assert "schema 2, this version reads 1" in str(refuse(with_record(model, schema=2)))


def test_changes_of_the_record_alone_are_made_to_an_intact_file(model, tmp_path):
    (tmp_path / "x").write_bytes(with_record(model))
    assert equal_bits(load_checkpoint(tmp_path / "x").model, model)


# Architectures: names in a table, never code.


@pytest.mark.parametrize(
    "name", ["resnet18", "os.system", "harness.networks.architectures:FashionCNN", "", "__import__"]
)
def test_unknown_architecture_is_refused(refuse, model, name):
    error = refuse(with_record(model, architecture=name), builder=None)
    assert error.code == "ARCHITECTURE"
    assert f"unknown architecture id {name!r}, known are ['fashion-cnn']" in str(error)
    assert "name the callable that builds it as model" in str(error)


BAD_ARGUMENTS = {
    "unknown": {"widths": [1]},
    "text": {"fc_sizes": "many"},
    "null": {"conv_channels": None},
    "no-block": {"conv_channels": []},
    "table": {"conv_channels": {}},
    "negative": {"classes": -1},
    "beyond-int64": {"fc_sizes": [2**70]},
    "fraction": {"image_size": [4.5, 4.5]},
    "one-size": {"image_size": [4]},
    "too-small-image": {"image_size": [1, 1]},
    "dropout": {"dropout": 2},
    "mean-text": {"mean": "dark"},
}


@pytest.mark.parametrize("changes", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_arguments_that_the_architecture_rejects_are_refused(refuse, model, changes):
    error = refuse(with_record(model, arguments={**ARGUMENTS, **changes}), builder=None)
    assert error.code == "ARCHITECTURE"
    assert "architecture 'fashion-cnn' rejects its arguments" in str(error)


@pytest.mark.parametrize(
    "changes",
    [{"mean": float("nan")}, {"mean": float("inf")}, {"std": 0}, {"std": float("nan")}],
    ids=["mean-nan", "mean-infinite", "std-zero", "std-nan"],
)
def test_normalization_that_gives_no_numbers_is_refused(refuse, model, changes):
    error = refuse(with_record(model, arguments={**ARGUMENTS, **changes}), builder=None)
    assert error.code in {"NONFINITE", "ARCHITECTURE", "SCHEMA"}


OTHER_TENSORS = {
    "wrong-shape": (
        {"fc1.weight": torch.zeros(8, 3)},
        "1 of 11 do not fit (fc1.weight has shape (8, 3), the network's (3, 8))",
    ),
    "scalar": ({"fc1.bias": torch.tensor(0.0)}, "fc1.bias has shape (), the network's (3,)"),
    "missing": ({"bn1.running_var": None}, "1 of 11 are missing (bn1.running_var (2,))"),
    "extra": ({"fc9.weight": torch.zeros(1)}, "1 of 12 of the file are unknown to it (fc9.weight (1,))"),
    "integers": ({"fc1.bias": torch.zeros(3, dtype=torch.int64)}, "fc1.bias has dtype torch.int64"),
    "booleans": ({"fc1.bias": torch.zeros(3, dtype=torch.bool)}, "fc1.bias has dtype torch.bool"),
    "complex": ({"fc1.bias": torch.zeros(3, dtype=torch.complex64)}, "fc1.bias has dtype torch.complex64"),
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


def test_network_of_the_user_that_does_not_fit_is_refused(refuse, pth):
    error = refuse(pth, builder=lambda: nn.Linear(3, 2))
    assert error.code == "ARCHITECTURE"
    assert "names begin with 'fc2.'" in str(error)


NOT_FINITE = {
    "nan": torch.tensor([0.0, float("nan"), 0.0]),
    "infinity": torch.tensor([0.0, float("-inf"), 0.0]),
    "half-nan": torch.tensor([0.0, float("nan"), 0.0], dtype=torch.float16),
    "beyond-float32": torch.tensor([0.0, 1e300, 0.0], dtype=torch.float64),
}


@pytest.mark.parametrize("write", [save, torch_file], ids=["safetensors", "pth"])
@pytest.mark.parametrize("bias", NOT_FINITE.values(), ids=NOT_FINITE)
def test_weights_that_are_no_finite_numbers_are_refused(refuse, model, bias, write):
    error = refuse(write(change_tensors(model, **{"fc1.bias": bias})))
    assert error.code == "NONFINITE"
    assert "tensor fc1.bias holds NaN or infinity" in str(error)


# Files of torch.save: restricted, and then some.


def test_pickle_of_a_whole_model_is_refused_with_the_way_out(refuse, model):
    error = refuse(torch_file(model))
    assert error.code == "PICKLE_GLOBAL"
    assert "harness.networks.architectures.FashionCNN" in str(error)
    assert "torch.save(model.state_dict(), path)" in str(error)


NO_STATE_DICTS = {
    "list": [torch.zeros(1)],
    "tensor": torch.zeros(1),
    "number": 1,
    "nested-numbers": {"state_dict": {"fc1.bias": 1.0}, "epoch": 3},
    "tuple": (3, {"fc1.bias": torch.zeros(3)}),
    "numbers": {"fc1.bias": 1.0},
    "number-names": {1: torch.zeros(1)},
}


@pytest.mark.parametrize("content", NO_STATE_DICTS.values(), ids=NO_STATE_DICTS)
def test_file_without_a_state_dict_is_refused(refuse, content):
    error = refuse(torch_file(content))
    assert error.code == "SCHEMA"
    assert "not a state dict" in str(error)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99, 0.9999], ids=str)
def test_truncated_torch_file_is_refused(refuse, pth, share):
    error = refuse(pth[: int(len(pth) * share)])
    assert error.code == "ZIP_LAYOUT"
    assert "not an intact zip file" in str(error)


def test_flipped_bit_in_the_weights_of_a_torch_file_is_refused(refuse, model, pth):
    weights = model.fc1.weight.detach().numpy().tobytes()
    error = refuse(flipped(pth, pth.index(weights) + 5))
    assert error.code == "ZIP_LAYOUT"
    assert re.search(r"checksum of \S+/data/\d+ does not match", str(error))


def test_rezipping_alone_does_not_make_a_file_refused(model, pth, tmp_path):
    (tmp_path / "x").write_bytes(rezipped(pth))
    assert equal_bits(load_checkpoint(tmp_path / "x", builder=small).model, model)


def central_entry(pth):
    return pth.index(b"PK\x01\x02")


LAYOUTS = {
    "name-no-utf-8": lambda pth: flipped(pth, central_entry(pth) + 46, 7),
    "local-name-no-utf-8": lambda pth: flipped(pth, 30, 7),
    "offset-of-directory": lambda pth: flipped(pth, pth.rindex(b"PK\x06\x06") + 48 + 3, 3),
    "size-of-directory": lambda pth: flipped(pth, pth.rindex(b"PK\x06\x06") + 40 + 3, 3),
}


@pytest.mark.parametrize("damage", LAYOUTS.values(), ids=LAYOUTS)
def test_damaged_directory_of_a_torch_file_is_refused(refuse, pth, damage):
    assert refuse(damage(pth)).code == "ZIP_LAYOUT"


PICKLES = {
    "empty": b"",
    "no-end": b"\x80\x02",
    "end-without-value": b"\x80\x02.",
    "storage-is-a-number": b"\x80\x02K\x01Q.",
    "nothing-to-memoise": b"\x80\x02h\x05.",
    "garbage": b"\xff\xfe\xfd",
    "odd-escape": b"\x80\x02S'\\c'\n.",
}


@pytest.mark.parametrize("pickle", PICKLES.values(), ids=PICKLES)
def test_malformed_pickle_is_refused(refuse, pth, pickle):
    assert refuse(rezipped(pth, pickle=pickle)).code in {"FORMAT", "PICKLE_GLOBAL"}


VIEWS = {
    "extra": (
        {"extra": torch.zeros(1).expand(HUGE)},
        "a tensor of shape (1000000000000,) claims 1000000000000 numbers",
    ),
    "wrong-shape": (
        {"fc1.weight": torch.zeros(1, 1).expand(10**6, 10**6)},
        "a tensor of shape (1000000, 1000000) claims 1000000000000 numbers",
    ),
    "right-shape": ({"fc1.weight": torch.zeros(1, 1).expand(3, 8)}, "a tensor of shape (3, 8) claims 24 numbers"),
}


@pytest.mark.parametrize(("changes", "fact"), VIEWS.values(), ids=VIEWS)
def test_view_that_claims_more_numbers_than_its_storage_has_is_refused(refuse, model, changes, fact):
    error = refuse(torch_file(change_tensors(model, **changes)))
    assert error.code == "RESOURCE"
    assert f"{fact} of 1" in str(error)


def test_views_of_one_storage_load(tmp_path):
    both = torch.arange(6.0)
    torch.save({"weight": both[:4].view(2, 2).t(), "bias": both[3:5]}, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth", builder=lambda: nn.Linear(2, 2)).model
    assert loaded.weight.tolist() == [[0.0, 2.0], [1.0, 3.0]]
    assert loaded.bias.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5], ids="pickle-{}".format)
def test_state_dict_in_another_pickle_protocol_loads(model, tmp_path, protocol):
    (tmp_path / "x").write_bytes(torch_file(model.state_dict(), pickle_protocol=protocol))
    assert equal_bits(load_checkpoint(tmp_path / "x", builder=small).model, model)


EXOTIC = {
    "meta": torch.empty(3, device="meta"),
    "sparse": torch.zeros(3).to_sparse(),
    "float8": torch.zeros(3).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("bias", EXOTIC.values(), ids=EXOTIC)
def test_tensors_that_are_no_plain_numbers_are_refused(refuse, model, bias):
    error = refuse(torch_file(change_tensors(model, **{"fc1.bias": bias})))
    assert error.code == "PICKLE_GLOBAL"
    assert "its pickle wants torch._utils._rebuild" in str(error)


# Any damage at all: refused, or without effect.


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "damaged"


def refused_or_same(path, content, model, **options):
    path.write_bytes(content)
    try:
        loaded = load_checkpoint(path, **options)
    except CheckpointRefused:
        return True
    return equal_bits(loaded.model, model)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.data())
def test_any_flipped_bit_of_a_native_file_is_refused_or_harmless(scratch, model, native, data):
    position, bit = data.draw(st.integers(0, len(native) - 1)), data.draw(st.integers(0, 7))
    assert refused_or_same(scratch, flipped(native, position, bit), model)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.data())
def test_any_flipped_bit_of_a_torch_file_is_refused_or_harmless(scratch, model, pth, data):
    position, bit = data.draw(st.integers(0, len(pth) - 1)), data.draw(st.integers(0, 7))
    assert refused_or_same(scratch, flipped(pth, position, bit), model, builder=small)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.data())
def test_any_changed_byte_of_a_pickle_is_refused_or_loads_numbers(scratch, pth, data):
    pickle = bytearray(pickle_of(pth))
    pickle[data.draw(st.integers(0, len(pickle) - 1))] = data.draw(st.integers(0, 255))
    scratch.write_bytes(rezipped(pth, pickle=bytes(pickle)))
    try:
        loaded = load_checkpoint(scratch, builder=small)
    except CheckpointRefused:
        return
    assert all(value.isfinite().all() for value in loaded.model.state_dict().values())
