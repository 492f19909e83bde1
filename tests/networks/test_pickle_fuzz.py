"""Whatever the pickle of a training file says: it loads numbers or is refused with a code, in a bounded time."""

import argparse
import pickletools
import resource
import struct
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_checkpoints import loaded
from weights import equal_bits, pickle_of, rezipped, small, torch_file

TRAINING = {
    "epoch": 3,
    "state_dict": {f"model.{name}": tensor for name, tensor in small().state_dict().items()},
    "args": argparse.Namespace(lr=0.1, sizes=(1, 2), root=None, names={"a", "b"}),
    "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
}
FILES = [torch_file(TRAINING, pickle_protocol=protocol) for protocol in (2, 4)]
OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
NAMES = [b"ccollections\nOrderedDict\n", b"cargparse\nNamespace\n", b"cos\nsystem\n", b"ctorch\nFloatStorage\n"]
PIECES = st.sampled_from([*OPCODES, *NAMES, b"K\x01", b"q\x01", b"h\x01", b"X\x01\0\0\0a", b"}", b"(", b")", b"]"])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "last.ckpt"


def test_the_file_itself_loads(path):
    assert all(equal_bits(loaded(path, content), small()) for content in FILES)


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(st.integers(0, 1), st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), min_size=1, max_size=4))
def test_any_changed_bytes_of_its_pickle_load_numbers_or_are_refused(path, which, changes):
    pickle = bytearray(pickle_of(FILES[which]))
    for share, piece in changes:
        at = int(share * (len(pickle) - 1))
        pickle[at : at + len(piece)] = piece
    model = loaded(path, rezipped(FILES[which], pickle=bytes(pickle)))
    assert model is None or all(tensor.isfinite().all() for tensor in model.state_dict().values())


@settings(deadline=None, max_examples=150, derandomize=True, database=None)
@given(st.lists(PIECES, max_size=30))
def test_any_program_is_refused(path, pieces):
    assert loaded(path, rezipped(FILES[0], pickle=b"\x80\x02" + b"".join(pieces) + b".")) is None


def colliding_keys():
    """Whole numbers of one hash, as many as fit."""
    prime = (1 << 61) - 1
    numbers = (number * prime for number in range(1, 90_000))
    return b"}(" + b"".join(b"\x8a\x0a" + number.to_bytes(10, "little") + b"N" for number in numbers) + b"u"


def dicts_of_dicts():
    """Each dict holds the one before it twice: 2^60 paths to the first."""
    step = b"}q\1X\x01\0\0\0ah\0sX\x01\0\0\0bh\0sh\1q\0"
    return b"}q\0" + 60 * step


def deep(opening, closing):
    return 300_000 * opening + 300_000 * closing


BOMBS = {
    "colliding-keys": colliding_keys,
    "dicts-of-dicts": dicts_of_dicts,
    "deep-dicts": lambda: deep(b"}K\x01", b"}s")[:1_000_000],
    "deep-tuples": lambda: b")" + 400_000 * b"\x85",
    "many-names": lambda: 300_000 * b"cargparse\nN\n",
    "many-calls": lambda: b"cargparse\nNamespace\nq\1" + 200_000 * b"h\1)\x81",
    "many-dicts-of-one-long-key": lambda: (
        b"X" + struct.pack("<I", 100_000) + 100_000 * b"." + b"q\1" + 200_000 * b"}h\1Ns"
    ),
    "many-instructions": lambda: 2_000_000 * b"N",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_in_time_and_memory(path, bomb):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert loaded(path, rezipped(FILES[0], pickle=b"\x80\x02" + bomb() + b".")) is None
    assert time.process_time() - start < 8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000, "in kilobytes"
