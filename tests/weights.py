"""Files of weights in the making.

Intact ones of a little network, and what is needed to damage them.
"""

import io
import json
import struct
import warnings
import zipfile

import torch
from safetensors.torch import save

from harness.networks.architectures import build
from harness.networks.checkpoints import Record, hash_tensors
from harness.networks.checkpoints.files import record_text

ARGUMENTS = {
    "conv_channels": [2],
    "fc_sizes": [3],
    "image_size": [4, 4],
    "classes": 2,
    "mean": 0.5,
    "std": 0.25,
}
RECORD = Record(
    architecture="fashion-cnn",
    arguments=ARGUMENTS,
    classes=("left", "right"),
    training={"epochs": 2, "seed": 7, "augmentation": {"degrees": 10.0}},
    data_sha256="ab" * 32,
    validation={"accuracy": 0.75},
    history=({"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}),
    versions={"torch": "2.13"},
)


def small(seed=0):
    """The little network, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build("fashion-cnn", ARGUMENTS)
        model.bn1.running_mean.normal_()
    return model


def equal_bits(one, other):
    return hash_tensors(one.state_dict()) == hash_tensors(other.state_dict())


def change_tensors(model, **changes):
    """The model's tensors, some replaced; None drops one."""
    return {
        name: value
        for name, value in {**model.state_dict(), **changes}.items()
        if value is not None
    }


def native_file(model, record=RECORD):
    """The bytes of an intact native file."""
    tensors = model.state_dict()
    return save(tensors, metadata={"harness": record_text(record, hash_tensors(tensors))})


def with_header(header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def with_record(model, **changes):
    """A native file whose tensors are intact and whose record is changed; None drops an entry."""
    tensors = model.state_dict()
    record = {
        "schema": 1,
        "architecture": "fashion-cnn",
        "arguments": ARGUMENTS,
        "classes": ["a", "b"],
        "history": [],
    }
    record |= {"tensors_sha256": hash_tensors(tensors), **changes}
    return with_raw_record(
        model, json.dumps({name: value for name, value in record.items() if value is not None})
    )


def with_raw_record(model, record):
    return save(model.state_dict(), metadata={"harness": record})


def torch_file(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def rezipped(pth, *, compression=zipfile.ZIP_STORED, pickle=None, twice=None, more=None):
    """The same members in a new zip file, with `data.pkl` replaced.

    The member ending in `twice` is repeated, and more.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pth)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(
                name,
                pickle if pickle is not None and name.endswith("/data.pkl") else old.read(name),
            )
        if twice:
            (name,) = (name for name in old.namelist() if name.endswith(twice))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new.writestr(name, old.read(name))
        for name, content in (more or {}).items():
            new.writestr(name, content)
    return buffer.getvalue()


def pickle_of(pth):
    with zipfile.ZipFile(io.BytesIO(pth)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def flipped(content, position, bit=0):
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)
