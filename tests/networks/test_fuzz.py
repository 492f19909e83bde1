"""Damaged checkpoints.

Each loads to the same weights, or is refused with a code, in a bounded time; nothing else.

Run by the hundred by `pytest tests -m faults`; `FUZZ_EXAMPLES=100000` looks longer, and elsewhere
each time.
"""

import argparse
import json
import os
import pickletools
import resource
import signal
import struct
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weights import RECORD, equal_bits, native_file, pickle_of, rezipped, small, torch_file

from harness.networks.checkpoints import CheckpointRefused, hash_tensors, load_checkpoint

MANY = int(os.environ.get("FUZZ_EXAMPLES", "0"))
by_the_hundred = pytest.mark.parametrize(
    "examples", [40, pytest.param(MANY or 400, marks=pytest.mark.faults, id="many")]
)


def loaded(path, content):
    """The model, None for a file that is refused with a code; anything else fails the test."""

    def give_up(*_):
        raise TimeoutError("still busy after 10 s")

    path.write_bytes(content)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        return load_checkpoint(path, builder=small).model
    except CheckpointRefused:
        return None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzzed(examples, *drawn):
    """Return what runs a check with so many examples."""
    checks = {"suppress_health_check": list(HealthCheck), "deadline": None, "database": None}
    return lambda check: settings(max_examples=examples, derandomize=not MANY, **checks)(
        given(*drawn)(check)
    )()


MODEL = small()
EXPECTED = hash_tensors({**MODEL.state_dict(), **dict(MODEL.named_buffers())})
NATIVE, PTH = native_file(MODEL, RECORD), torch_file(MODEL.state_dict())
OTHERS = (
    native_file(small(1), RECORD),
    torch_file(small(1).state_dict()),
    torch_file([torch.zeros(3)]),
)
FILES = {
    "native": NATIVE,
    "torch": PTH,
    "zipped-anew": rezipped(PTH),
    "protocol-4": torch_file(MODEL.state_dict(), pickle_protocol=4),
}
PICKLES = [pickle_of(FILES[name]) for name in ("torch", "protocol-4")]
TRAINING = {
    "epoch": 3,
    "state_dict": {f"model.{name}": tensor for name, tensor in MODEL.state_dict().items()},
    "args": argparse.Namespace(lr=0.1, sizes=(1, 2), root=None, names={"a", "b"}),
    "optimizer": {
        "state": {0: {"step": torch.tensor(1.0)}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}],
    },
}
TRAINING_FILES = [torch_file(TRAINING, pickle_protocol=protocol) for protocol in (2, 4)]
TRAINING_PICKLES = [*map(pickle_of, TRAINING_FILES)]
NUMBERS = [
    0,
    1,
    2,
    3,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63,
    2**64 - 1,
]


def positions(content):
    """Anywhere, and more often about where a zip file says what it holds."""
    anywhere = st.integers(0, len(content))
    signatures = [start for start in range(len(content)) if content[start : start + 2] == b"PK"]
    if not signatures:
        return anywhere
    near = st.tuples(st.sampled_from(signatures), st.integers(0, 60)).map(
        lambda pair: min(sum(pair), len(content))
    )
    return anywhere | near


@st.composite
def damaged(draw, files, donors=OTHERS):
    """One of the files with up to four kinds of damage.

    Bits, bytes, numbers, cuts, insertions, pieces of others.
    """
    content = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(positions(content))
        kind = draw(
            st.sampled_from(["bit", "byte", "number", "cut", "end", "insert", "splice", "repeat"])
        )
        if kind == "bit" and place < len(content):
            bit = bytes([content[place] ^ 1 << draw(st.integers(0, 7))])
            content = content[:place] + bit + content[place + 1 :]
        elif kind == "byte":
            content = content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]
        elif kind == "number":
            form = draw(st.sampled_from(["<H", "<I", "<Q"]))
            number = struct.pack(
                form, draw(st.sampled_from(NUMBERS)) % 256 ** struct.calcsize(form)
            )
            content = content[:place] + number + content[place + len(number) :]
        elif kind == "cut":
            content = content[:place] + content[place + draw(st.integers(1, 200)) :]
        elif kind == "end":
            content = content[:place]
        elif kind == "insert":
            content = content[:place] + draw(st.binary(max_size=32)) + content[place:]
        else:
            donor = content if kind == "repeat" else draw(st.sampled_from(donors))
            start = draw(st.integers(0, len(donor)))
            piece = donor[start : start + draw(st.integers(1, 400))]
            overwritten = draw(st.booleans()) * len(piece)
            content = content[:place] + piece + content[place + overwritten :]
    return content


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "damaged"


def computes_the_same(model):
    """True if the normalization, too, is unchanged."""
    return hash_tensors({**model.state_dict(), **dict(model.named_buffers())}) == EXPECTED


def sound(model):
    """True for no model, and for one of numbers."""
    return model is None or all(tensor.isfinite().all() for tensor in model.state_dict().values())


@by_the_hundred
@pytest.mark.parametrize("name", FILES)
def test_damaged_file_loads_to_the_same_weights_or_is_refused(path, name, examples):
    @fuzzed(examples, damaged([FILES[name]]))
    def _(content):
        model = loaded(path, content)
        assert model is None or computes_the_same(model)


@by_the_hundred
@pytest.mark.parametrize("of", [PICKLES, TRAINING_PICKLES], ids=["weights", "training"])
def test_damaged_pickle_with_right_checksums_loads_numbers_or_is_refused(path, of, examples):
    @fuzzed(examples, damaged(of, donors=of))
    def _(pickled):
        assert sound(loaded(path, rezipped(PTH, pickle=pickled)))


(SIZE,) = struct.unpack("<Q", NATIVE[:8])
HEADER, DATA = NATIVE[8 : 8 + SIZE], NATIVE[8 + SIZE :]


@by_the_hundred
def test_damaged_header_of_the_right_length_changes_no_weights(path, examples):
    @fuzzed(examples, damaged([HEADER]))
    def _(header):
        model = loaded(path, struct.pack("<Q", len(header)) + header + DATA)
        assert model is None or computes_the_same(model)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(NUMBERS),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=6,
)


@by_the_hundred
def test_header_of_any_json_is_refused_or_loads_numbers(path, examples):
    @fuzzed(examples, st.data())
    def _(data):
        header = json.loads(HEADER)
        record = json.loads(header["__metadata__"]["harness"])
        target = data.draw(st.sampled_from([header, record, record["arguments"], *header.values()]))
        target[data.draw(st.sampled_from(sorted(target)) | st.text(max_size=9))] = data.draw(JSON)
        if isinstance(header.get("__metadata__"), dict) and target is not header["__metadata__"]:
            header["__metadata__"]["harness"] = json.dumps(record)
        encoded = json.dumps(header).encode()
        assert sound(loaded(path, struct.pack("<Q", len(encoded)) + encoded + DATA))


OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
NAMES = [
    b"ccollections\nOrderedDict\n",
    b"cargparse\nNamespace\n",
    b"cos\nsystem\n",
    b"ctorch\nFloatStorage\n",
]
PIECES = st.sampled_from(
    [*OPCODES, *NAMES, b"K\x01", b"q\x01", b"h\x01", b"X\x01\0\0\0a", b"}", b"(", b")", b"]"]
)


@by_the_hundred
def test_any_program_is_refused(path, examples):
    assert all(equal_bits(loaded(path, content), MODEL) for content in TRAINING_FILES)

    @fuzzed(2 * examples, st.lists(PIECES, max_size=30))
    def _(pieces):
        assert (
            loaded(path, rezipped(TRAINING_FILES[0], pickle=b"\x80\x02" + b"".join(pieces) + b"."))
            is None
        )


def colliding_keys():
    """Whole numbers of one hash, as many as fit."""
    prime = (1 << 61) - 1
    numbers = (number * prime for number in range(1, 40_000))
    return (
        b"}("
        + b"".join(b"\x8a\x0a" + number.to_bytes(10, "little") + b"N" for number in numbers)
        + b"u"
    )


def dicts_of_dicts():
    """Each dict holds the one before it twice: 2^60 paths to the first."""
    step = b"}q\1X\x01\0\0\0ah\0sX\x01\0\0\0bh\0sh\1q\0"
    return b"}q\0" + 60 * step


def deep(opening, closing):
    return 150_000 * opening + 150_000 * closing


BOMBS = {
    "colliding-keys": colliding_keys,
    "dicts-of-dicts": dicts_of_dicts,
    "deep-dicts": lambda: deep(b"}K\x01", b"}s")[:1_000_000],
    "deep-tuples": lambda: b")" + 200_000 * b"\x85",
    "many-names": lambda: 100_000 * b"cargparse\nN\n",
    "many-calls": lambda: b"cargparse\nNamespace\nq\1" + 80_000 * b"h\1)\x81",
    "many-dicts-of-one-long-key": lambda: (
        b"X" + struct.pack("<I", 100_000) + 100_000 * b"." + b"q\1" + 80_000 * b"}h\1Ns"
    ),
    "many-instructions": lambda: 1_250_000 * b"N",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_in_time_and_memory(path, bomb):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert loaded(path, rezipped(TRAINING_FILES[0], pickle=b"\x80\x02" + bomb() + b".")) is None
    assert time.process_time() - start < 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000, "in kilobytes"
