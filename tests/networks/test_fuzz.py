"""Damaged checkpoints by the thousand: each loads to the same weights, or is refused with a code; nothing else.

Run by `pytest tests -m faults`; `FUZZ_EXAMPLES=100000` looks longer, and elsewhere each time.
"""

import json
import os
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_checkpoints import loaded
from weights import RECORD, native_file, pickle_of, rezipped, small, torch_file

from harness.networks.checkpoints import hash_tensors

pytestmark = pytest.mark.faults

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LONG = settings(
    max_examples=EXAMPLES or 1_500,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

MODEL = small()
EXPECTED = hash_tensors({**MODEL.state_dict(), **dict(MODEL.named_buffers())})
NATIVE, PTH = native_file(MODEL, RECORD), torch_file(MODEL.state_dict())
OTHERS = (native_file(small(1), RECORD), torch_file(small(1).state_dict()), torch_file([torch.zeros(3)]))
FILES = {
    "native": NATIVE,
    "torch": PTH,
    "zipped-anew": rezipped(PTH),
    "protocol-4": torch_file(MODEL.state_dict(), pickle_protocol=4),
}
PICKLES = [pickle_of(FILES[name]) for name in ("torch", "protocol-4")]
NUMBERS = [0, 1, 2, 3, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]


def positions(content):
    """Anywhere, and more often about where a zip file says what it holds."""
    anywhere = st.integers(0, len(content))
    signatures = [start for start in range(len(content)) if content[start : start + 2] == b"PK"]
    if not signatures:
        return anywhere
    near = st.tuples(st.sampled_from(signatures), st.integers(0, 60)).map(lambda pair: min(sum(pair), len(content)))
    return anywhere | near


@st.composite
def damaged(draw, files, donors=OTHERS):
    """One of the files with up to four kinds of damage: bits, bytes, numbers, cuts, insertions, pieces of others."""
    content = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(positions(content))
        kind = draw(st.sampled_from(["bit", "byte", "number", "cut", "end", "insert", "splice", "repeat"]))
        if kind == "bit" and place < len(content):
            bit = bytes([content[place] ^ 1 << draw(st.integers(0, 7))])
            content = content[:place] + bit + content[place + 1 :]
        elif kind == "byte":
            content = content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]
        elif kind == "number":
            form = draw(st.sampled_from(["<H", "<I", "<Q"]))
            number = struct.pack(form, draw(st.sampled_from(NUMBERS)) % 256 ** struct.calcsize(form))
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


@pytest.mark.parametrize("name", FILES)
def test_damaged_file_loads_to_the_same_weights_or_is_refused(path, name):
    @LONG
    @given(damaged([FILES[name]]))
    def check(content):
        model = loaded(path, content)
        assert model is None or computes_the_same(model)

    check()


@LONG
@given(damaged(PICKLES, donors=PICKLES))
def test_damaged_pickle_with_right_checksums_loads_numbers_or_is_refused(path, pickled):
    model = loaded(path, rezipped(PTH, pickle=pickled))
    assert model is None or all(tensor.isfinite().all() for tensor in model.state_dict().values())


(SIZE,) = struct.unpack("<Q", NATIVE[:8])
HEADER, DATA = NATIVE[8 : 8 + SIZE], NATIVE[8 + SIZE :]


@LONG
@given(damaged([HEADER]))
def test_damaged_header_of_the_right_length_changes_no_weights(path, header):
    model = loaded(path, struct.pack("<Q", len(header)) + header + DATA)
    assert model is None or computes_the_same(model)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(NUMBERS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=6,
)


@LONG
@given(st.data())
def test_header_of_any_json_is_refused_or_loads_numbers(path, data):
    header = json.loads(HEADER)
    record = json.loads(header["__metadata__"]["harness"])
    target = data.draw(st.sampled_from([header, record, record["arguments"], *header.values()]))
    target[data.draw(st.sampled_from(sorted(target)) | st.text(max_size=9))] = data.draw(JSON)
    if isinstance(header.get("__metadata__"), dict) and target is not header["__metadata__"]:
        header["__metadata__"]["harness"] = json.dumps(record)
    encoded = json.dumps(header).encode()
    model = loaded(path, struct.pack("<Q", len(encoded)) + encoded + DATA)
    assert model is None or all(tensor.isfinite().all() for tensor in model.state_dict().values())
