"""A user's file gives a result or an `InputError` that names the file.

No content ends in a traceback. All parsers go through one function, on files damaged by hand and by
Hypothesis.
"""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.base.errors import InputError
from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.data import load_images
from harness.data.pictures import MAX_CLASSES

HEAD = 'schema = 2\nprotocol = 1\n[data]\nname = "toy"\nsplit = "test"\nsha256 = "abc"\nn = 100\n'
ROW = '[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\n'
PANEL = {
    "schema": 2,
    "data_sha256": "abc",
    "protocol": 1,
    "recipe": {},
    "checks": [
        {
            "id": "a",
            "family": "a",
            "metric": "m",
            "unit": "share",
            "direction": "at_least",
            "n": 3,
            "definition": "",
        }
    ],
    "models": [{"path": "x", "sha256": "y", "seed": None, "values": {"a": 0.5}}],
    "sample": None,
}
PARSERS = {
    "checks.toml": read_checks,
    "panel.json": read_panel,
    "images.npz": lambda path: load_images(f"npz:{path}"),
    "images": lambda path: load_images(f"folder:{path}"),
}


def refusal_of(path: Path, content: bytes | None = None) -> str:
    """Read the file, with this content if some is given.

    Return what the refusal says, empty when there was none.
    """
    if content is not None:
        path.write_bytes(content)
    try:
        PARSERS[path.name](path)
    except InputError as error:
        said = str(error)
    else:
        return ""
    assert str(path) in said
    return said


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def zipped(
    content: bytes, *, name: str = "images.npy", method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, content)
        archive.writestr("labels.npy", member(np.zeros(2, np.int64)))
    return file.getvalue()


def member(array: np.ndarray, *, shape: str | None = None, header: str | None = None) -> bytes:
    """Return an array in NumPy's format, its header made to say something else."""
    file = io.BytesIO()
    np.save(file, array)
    content = file.getvalue()
    if header is None and shape is None:
        return content
    start = content.index(b"{")
    length = int.from_bytes(content[8:10], "little")
    text = content[start : start + length].decode() if header is None else header
    if shape is not None:
        text = text.replace(repr(array.shape), shape)
    encoded = text.strip().encode() + b"\n"
    return content[:8] + len(encoded).to_bytes(2, "little") + encoded + array.tobytes()


IMAGES = np.zeros((2, 8, 8), np.uint8)
GOOD = npz(images=IMAGES, labels=np.arange(2))


def encrypted() -> bytes:
    content = bytearray(zipped(member(IMAGES)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    return bytes(content)


def of_method(number: int) -> bytes:
    content = bytearray(zipped(member(IMAGES)))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + offset] = number
    return bytes(content)


DAMAGED = {
    "encrypted": ("images.npz", encrypted()),
    "compression-unknown": ("images.npz", of_method(97)),
    "compression-lzma-of-nothing": ("images.npz", of_method(14)),
    "shape-of-40-terabytes": ("images.npz", zipped(member(IMAGES, shape="(20000, 20000, 100000)"))),
    "shape-beyond-64-bits": (
        "images.npz",
        zipped(member(IMAGES, shape="(99999999999, 99999999999, 99999999999)")),
    ),
    "shape-below-zero": ("images.npz", zipped(member(IMAGES, shape="(-2, -8, 8)"))),
    "header-of-dashes": ("images.npz", zipped(member(IMAGES, header="-" * 9000))),
    "header-nested": ("images.npz", zipped(member(IMAGES, header="(" * 5000))),
    "raw-members": ("images.npz", zipped(b"raw", name="images")),
    "raw-in-npy": ("images.npz", zipped(b"raw")),
    "label-of-ten-trillion": ("images.npz", npz(images=IMAGES, labels=np.array([0, 10**13]))),
    "label-of-30-million": ("images.npz", npz(images=IMAGES, labels=np.array([0, 30_000_000]))),
    "label-beyond-int64": (
        "images.npz",
        npz(images=IMAGES, labels=np.array([0, 2**64 - 1], np.uint64)),
    ),
    "three-gigabytes-of-zeros": (
        "images.npz",
        zipped(member(np.zeros((2, 16_384, 16_384), np.uint8))),
    ),
    "empty": ("images.npz", b""),
    "deeply-nested": ("checks.toml", (HEAD + "x = " + "[" * 100_000).encode()),
    "key-of-20,000-parts": ("checks.toml", (HEAD + "a." * 20_000 + "b = 1\n").encode()),
    "table-of-20,000-parts": ("checks.toml", (HEAD + "[" + "a." * 20_000 + "b]\n").encode()),
    "threshold-of-400-digits": (
        "checks.toml",
        (HEAD + ROW + f"hand = {{ threshold = {'9' * 400} }}\n").encode(),
    ),
    "n-of-5,000-digits": ("checks.toml", HEAD.replace("n = 100", "n = " + "9" * 5_000).encode()),
    "checks-not-text": ("checks.toml", b"\xff\xfe\x00"),
    "panel-nested": ("panel.json", b"[" * 100_000),
    "panel-of-5,000-digits": ("panel.json", json.dumps(PANEL).replace("0.5", "9" * 5_000).encode()),
    "panel-n-a-text": ("panel.json", json.dumps(PANEL).replace('"n": 3', '"n": "x"').encode()),
    "panel-recipe-a-list": ("panel.json", json.dumps(PANEL | {"recipe": []}).encode()),
    "panel-without-a-value": ("panel.json", json.dumps(PANEL).replace('{"a": 0.5}', "{}").encode()),
}


@pytest.mark.parametrize(("name", "content"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_by_name(tmp_path, name, content):
    assert refusal_of(tmp_path / name, content)


@pytest.mark.parametrize("name", ["checks.toml", "panel.json", "images.npz"])
def test_what_is_no_file_is_refused_without_being_opened(tmp_path, name):
    os.mkfifo(tmp_path / name)  # Opening it would wait for ever.
    assert "not a regular file" in refusal_of(tmp_path / name)


def test_a_pipe_among_pictures_is_refused_without_being_opened(tmp_path):
    folder = tmp_path / "images" / "a"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "1.png")
    assert "not a regular file" in refusal_of(tmp_path / "images")


def test_what_is_intact_is_read(tmp_path):
    assert not refusal_of(tmp_path / "checks.toml", (HEAD + ROW).encode())
    assert not refusal_of(tmp_path / "panel.json", json.dumps(PANEL).encode())
    assert not refusal_of(tmp_path / "images.npz", GOOD)
    assert not refusal_of(
        tmp_path / "images.npz", npz(images=IMAGES, labels=np.array([0, MAX_CLASSES - 1]))
    )


INTACT = {
    "checks.toml": (HEAD + ROW + "pose = { degrees = 3 }\n").encode(),
    "panel.json": json.dumps(PANEL).encode(),
    "images.npz": GOOD,
}


@pytest.mark.parametrize("name", INTACT)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_gives_a_result_or_a_refusal(tmp_path, name, data):
    content = bytearray(INTACT[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        cut = data.draw(st.integers(0, 8))
        content[at : at + cut] = data.draw(st.binary(max_size=12))
    refusal_of(tmp_path / name, bytes(content))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_in_a_panel_gives_a_result_or_a_refusal(tmp_path, data):
    content = json.loads(json.dumps(PANEL))
    place = data.draw(
        st.sampled_from(
            [content, content["checks"][0], content["models"][0], content["models"][0]["values"]]
        )
    )
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(PLAIN)
    refusal_of(tmp_path / "panel.json", json.dumps(content).encode())
