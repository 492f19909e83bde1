"""Files that attack their loader, and a guarded process that loads them.

Run `python hostile.py LIST`.
"""

import io
import json
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn
from weights import (
    ARGUMENTS,
    change_tensors,
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

from harness.networks.checkpoints import CheckpointRefused, load_checkpoint, pickled

SECONDS, BYTES = 10, 10**9
"""Limits of time and memory for refusing a file."""

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HUGE = 10**12


class Calls:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class SetsState:
    """Pickled as an object whose `__setstate__` runs its state."""

    def __init__(self, command):
        self.command = command

    def __getstate__(self):
        return self.command

    def __setstate__(self, command):
        os.system(command)


def touch(canary):
    return f"touch {canary}"


def touching_code(canary):
    return f"open({str(canary)!r}, 'w')"


def raw(pickled):
    """A file of `torch.save` with this pickle in place of its own."""
    return rezipped(torch_file(small().state_dict()), pickle=pickled)


def binunicode(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def calling(*arguments):
    return torch_file({"fc1.weight": Calls(*arguments)})


def among_good_weights(canary):
    hidden = OrderedDict(deep=[(1, {"deeper": (Calls(os.system, touch(canary)),)})])
    return torch_file({**small().state_dict(), "extra": hidden})


def graph_module(canary):
    from torch.fx.graph_module import reduce_graph_module

    code = f"{touching_code(canary)}\ndef forward(self): pass"
    return calling(reduce_graph_module, {"_code": code}, "")


def load_within(canary):
    inner = canary.with_name(f"{canary.name}.inner")
    inner.write_bytes(calling(os.system, touch(canary)))
    return torch_file({"w": Calls(torch.load, str(inner), None, None)})


def hooks_of_a_tensor(canary):
    honest = torch_file({"w": torch.zeros(1)})
    hooks = b"ccollections\nOrderedDict\n"
    command = b"cposix\nsystem\n" + binunicode(touch(canary)) + b"\x85R0"
    return rezipped(honest, pickle=pickle_of(honest).replace(hooks, command + hooks))


EXECUTING = {
    "os-system": lambda canary: calling(os.system, touch(canary)),
    "os-popen": lambda canary: calling(os.popen, touch(canary)),
    "subprocess-check-output": lambda canary: calling(
        subprocess.check_output, ["touch", str(canary)]
    ),
    "subprocess-popen": lambda canary: calling(subprocess.Popen, ["touch", str(canary)]),
    "builtins-eval": lambda canary: calling(eval, touching_code(canary)),
    "builtins-exec": lambda canary: calling(exec, touching_code(canary)),
    "builtins-getattr": lambda canary: calling(
        getattr, Calls(eval, f"{touching_code(canary)} and None"), "x", None
    ),
    "builtins-map": lambda canary: calling(list, Calls(map, os.system, [touch(canary)])),
    "protocol-4-stack-global": lambda canary: torch_file(
        {"w": Calls(os.system, touch(canary))}, pickle_protocol=4
    ),
    "protocol-0": lambda canary: raw(pickle.dumps(Calls(os.system, touch(canary)), protocol=0)),
    "reduce-by-hand": lambda canary: raw(
        b"\x80\x02cposix\nsystem\n" + binunicode(touch(canary)) + b"\x85R."
    ),
    "inst": lambda canary: raw(b"(" + binunicode(touch(canary)) + b"iposix\nsystem\n."),
    "obj": lambda canary: raw(b"(cposix\nsystem\n" + binunicode(touch(canary)) + b"o."),
    "setstate": lambda canary: torch_file({"w": SetsState(touch(canary))}),
    "nested-among-good-weights": among_good_weights,
    "as-a-key": lambda canary: torch_file({Calls(os.system, touch(canary)): torch.zeros(1)}),
    "before-good-weights": lambda canary: raw(
        b"\x80\x02cposix\nsystem\n"
        + binunicode(touch(canary))
        + b"\x85R0"
        + pickle_of(torch_file(small().state_dict()))
    ),
    "rebuild-from-type": lambda canary: calling(
        torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (touch(canary),), {}
    ),
    "graph-module": graph_module,
    "torch-load-within": load_within,
    "hooks-of-a-tensor": hooks_of_a_tensor,
}
"""By name, from the canary's path to the file's content; all are refused as PICKLE_GLOBAL."""


def storage_claims(count):
    honest = torch_file({"weight": torch.zeros(6).view(2, 3)})
    return rezipped(
        honest,
        pickle=pickle_of(honest).replace(b"K\x06tq", b"J" + struct.pack("<i", count) + b"tq"),
    )


def tensor_claims(old, new):
    honest = torch_file({"weight": torch.zeros(6).view(2, 3)})
    claim = pickle_of(honest)
    assert claim.count(old) == 1
    return rezipped(honest, pickle=claim.replace(old, new))


def script():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


MODULE = b"(" + binunicode("module") + b"NX\0\0\0\0X\0\0\0\0tQ."
PROGRAMS = {
    "PICKLE_GLOBAL": {
        "ext-registry": b"\x80\x02\x82\x01.",
        "newobj": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "newobj-ex": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
        "dotted-name": b"\x80\x04" + binunicode("torch") + binunicode("os.system") + b"\x93.",
        "allowed-name-of-another-module": b"\x80\x02cevil\nOrderedDict\n)R.",
        "storage-type-called": b"\x80\x02ctorch\nFloatStorage\nJ\xff\xff\xff\x7f\x85R.",
        "dict-of-a-call": b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
        "text-with-an-odd-escape": b"\x80\x02S'\\c'\n.",
    },
    "SCHEMA": {
        "memo-of-4-billion": b"\x80\x02Nr\xff\xff\xff\xff.",
        "dict-within-itself": b"\x80\x02}q\0X\x01\0\0\0ah\0s.",
    },
    "RESOURCE": {"pickle-of-2-megabytes": b"\x80\x02" + b"}" * 2_000_000 + b"."},
    "FORMAT": {
        # BUILD with a pair sets attributes, here those of a function that loaders themselves may
        # use.
        "attributes-of-a-function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}"
        + binunicode("__defaults__")
        + b")s\x86b.",
        # A tuple of tuples of tuples, as a key: small in memory, and hashing it takes 2^60 steps.
        "laughs-as-a-key": b"\x80\x02}K\x01" + b"q\0h\0\x86" * 60 + b"K\x01s.",
        "persistent-name": b"\x80\x02" + binunicode("os.system") + b"Q.",
        "persistent-module": b"\x80\x02" + MODULE,
        "text-of-4-gigabytes": b"\x80\x02X\xff\xff\xff\xffab.",
        "text-of-16-exabytes": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab.",
        "number-of-2-gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
        "number-of-a-million-digits": b"I" + b"9" * 1_000_000 + b"\n.",
        "many-dicts": b"\x80\x02" + b"}" * 300_000 + b".",
        "many-marks": b"\x80\x02" + b"(" * 300_000 + b".",
        "no-stop": b"\x80\x02}",
        "more-behind-the-stop": b"\x80\x02}.cposix\nsystem\n.",
        "stack-underflow": b"\x80\x02\x87.",
        "reach-below-a-mark": b"\x80\x02K\x01(\x85.",
        "empty": b"",
        "no-end": b"\x80\x02",
        "end-without-value": b"\x80\x02.",
        "storage-is-a-number": b"\x80\x02K\x01Q.",
        "nothing-to-memoise": b"\x80\x02h\x05.",
        "garbage": b"\xff\xfe\xfd",
    },
}
"""Pickles by the code of their refusal."""
SAVED = {
    "PICKLE_GLOBAL": {
        "set": lambda: {"w": {1, 2}},
        "whole-module": small,
        "numpy-array": lambda: {"w": torch.zeros(2).numpy()},
        "sparse-tensor": lambda: change_tensors(
            small(), **{"fc1.bias": torch.zeros(3).to_sparse()}
        ),
        "meta-tensor": lambda: change_tensors(
            small(), **{"fc1.bias": torch.empty(3, device="meta")}
        ),
        "float8-tensor": lambda: change_tensors(
            small(), **{"fc1.bias": torch.zeros(3).to(torch.float8_e4m3fn)}
        ),
    },
    "RESOURCE": {
        "stride-0": lambda: {"fc1.weight": torch.zeros(1).expand(HUGE)},
        "stride-0-of-the-right-shape": lambda: change_tensors(
            small(), **{"fc1.weight": torch.zeros(1, 1).expand(3, 8)}
        ),
    },
    "SCHEMA": {
        "list": lambda: [torch.zeros(1)],
        "tensor": lambda: torch.zeros(1),
        "number": lambda: 1,
        "nested-numbers": lambda: {"state_dict": {"fc1.bias": 1.0}, "epoch": 3},
        "tuple": lambda: (3, {"fc1.bias": torch.zeros(3)}),
        "numbers": lambda: {"fc1.bias": 1.0},
        "number-names": lambda: {1: torch.zeros(1)},
    },
}
"""Objects for torch.save, by the code of their refusal."""
PICKLES = {
    **{
        name: (code, partial(raw, each))
        for code, table in PROGRAMS.items()
        for name, each in table.items()
    },
    **{
        f"saved-{name}": (code, lambda each=each: torch_file(each()))
        for code, table in SAVED.items()
        for name, each in table.items()
    },
    "storage-of-4-gigabytes": ("FORMAT", lambda: storage_claims(10**9)),
    "storage-of-less-than-nothing": ("FORMAT", lambda: storage_claims(-6)),
    "view-beyond-its-storage": (
        "FORMAT",
        lambda: tensor_claims(b"K\x03K\x01\x86", b"K\x05K\x01\x86"),
    ),
    "negative-stride": (
        "FORMAT",
        lambda: tensor_claims(b"K\x03K\x01\x86", b"J\xff\xff\xff\xffK\x01\x86"),
    ),
    "offset-beyond-its-storage": (
        "FORMAT",
        lambda: tensor_claims(b"K\0K\x02K\x03\x86", b"K\xffK\x02K\x03\x86"),
    ),
    "legacy-torch-format": (
        "FORMAT",
        lambda: torch_file(small().state_dict(), _use_new_zipfile_serialization=False),
    ),
    "legacy-torch-command": (
        "FORMAT",
        lambda: torch_file(
            {"w": Calls(os.system, "touch canary")}, _use_new_zipfile_serialization=False
        ),
    ),
    "bare-pickle": ("FORMAT", lambda: pickle.dumps(Calls(os.system, "touch canary"))),
    "torchscript": ("FORMAT", script),
}


def archive(members, *, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return buffer.getvalue()


def pth():
    return torch_file(small().state_dict())


def zipped():
    """Like `pth`, but with a directory as plain as can be, which is easy to falsify."""
    return rezipped(pth())


def overlapping():
    """Thirty directory entries for one member of a megabyte, under thirty names of one length."""
    plain = archive({"archive/data/00": bytes(1 << 20)})
    start = plain.index(b"PK\x01\x02")
    entry, end = plain[start : plain.index(b"PK\x05\x06")], plain[plain.index(b"PK\x05\x06") :]
    entries = b"".join(
        entry.replace(b"data/00", f"data/{number:02}".encode()) for number in range(30)
    )
    end = end[:8] + struct.pack("<HHL", 30, 30, len(entries)) + end[16:]
    return plain[:start] + entries + end


def nested_in_each_other():
    """The quoted-overlap bomb: the second member lies within what the first claims for itself."""
    inner = archive({"archive/data/1": bytes(1000)})
    inner_local = inner[: inner.index(b"PK\x01\x02")]
    outer = archive({"archive/data/0": inner_local, "archive/x": b""})
    position = outer.index(inner_local)
    entry = inner[inner.index(b"PK\x01\x02") : inner.index(b"PK\x05\x06")]
    entry = entry[:42] + struct.pack("<L", position) + entry[46:]
    start, end = (
        outer.index(b"PK\x01\x02", position + len(inner_local)),
        outer.rindex(b"PK\x05\x06"),
    )
    entries = outer[start:end] + entry
    return (
        outer[:start]
        + entries
        + outer[end : end + 8]
        + struct.pack("<HHLLH", 3, 3, len(entries), start, 0)
    )


def falsified(offset, value):
    """The first directory entry with other bytes at this offset."""
    whole = zipped()
    start = whole.index(b"PK\x01\x02") + offset
    return whole[:start] + value + whole[start + len(value) :]


ZIPS = {
    "bomb": (
        "ZIP_LAYOUT",
        lambda: archive({"archive/data.pkl": bytes(20 << 20)}, compression=zipfile.ZIP_DEFLATED),
    ),
    "one-deflated-member": (
        "ZIP_LAYOUT",
        lambda: rezipped(pth(), compression=zipfile.ZIP_DEFLATED),
    ),
    "lzma": ("ZIP_LAYOUT", lambda: rezipped(pth(), compression=zipfile.ZIP_LZMA)),
    "thirty-entries-for-one-member": ("ZIP_LAYOUT", overlapping),
    "member-within-a-member": ("ZIP_LAYOUT", nested_in_each_other),
    "duplicate-pickle": ("ZIP_LAYOUT", lambda: rezipped(pth(), twice="/data.pkl")),
    "duplicate-weights": ("ZIP_LAYOUT", lambda: rezipped(pth(), twice="/data/0")),
    "20010-members": (
        "RESOURCE",
        lambda: archive({f"archive/data/{number}": b"" for number in range(20_010)}),
    ),
    "path-traversal": (
        "ZIP_LAYOUT",
        lambda: rezipped(pth(), more={"archive/../../../etc/cron.d/x": b""}),
    ),
    "absolute-name": ("ZIP_LAYOUT", lambda: rezipped(pth(), more={"/etc/passwd": b""})),
    "backslashes": ("ZIP_LAYOUT", lambda: rezipped(pth(), more={"archive\\..\\x": b""})),
    "no-folder": ("ZIP_LAYOUT", lambda: archive({"data.pkl": pickle_of(pth())})),
    "two-folders": ("ZIP_LAYOUT", lambda: rezipped(pth(), more={"other/data.pkl": b"N."})),
    "encrypted": ("ZIP_LAYOUT", lambda: falsified(8, b"\x01")),
    "size-of-4-gigabytes": (
        "ZIP_LAYOUT",
        lambda: falsified(20, b"\xfe\xff\xff\xff\xfe\xff\xff\xff"),
    ),
    "checksum": ("ZIP_LAYOUT", lambda: falsified(16, b"\0\0\0\0")),
    "offset-beyond-the-file": ("ZIP_LAYOUT", lambda: falsified(42, b"\xfe\xff\xff\x7f")),
    "offset-into-another-member": ("ZIP_LAYOUT", lambda: falsified(42, b"\x05\0\0\0")),
    "name-differs-from-its-member": ("ZIP_LAYOUT", lambda: falsified(46, b"brchive")),
    "65535-entries-claimed": (
        "ZIP_LAYOUT",
        lambda: zipped()[:-14] + b"\xfe\xff\xfe\xff\xff\xff\xff\x7f" + zipped()[-6:],
    ),
    "bytes-after-its-end": ("ZIP_LAYOUT", lambda: zipped() + b"\0" * 70_000),
    **{
        f"bit-of-the-{name}": ("ZIP_LAYOUT", lambda at=at, bit=bit: flipped(pth(), at(pth()), bit))
        for name, at, bit in (
            ("name", lambda whole: whole.index(b"PK\x01\x02") + 46, 7),
            ("local-name", lambda whole: 30, 7),
            ("offset-of-the-directory", lambda whole: whole.rindex(b"PK\x06\x06") + 48 + 3, 3),
            ("size-of-the-directory", lambda whole: whole.rindex(b"PK\x06\x06") + 40 + 3, 3),
        )
    },
    "no-pickle": ("FORMAT", lambda: archive({"archive/data/0": bytes(8)})),
    "numpy-archive": ("ZIP_LAYOUT", lambda: archive({"images.npy": bytes(8)})),
    "torch-export": (
        "FORMAT",
        lambda: archive(
            {"m/archive_format": b"pt2", "m/models/model.json": b"{}", "m/data/weights/w": bytes(8)}
        ),
    ),
    "big-endian": (
        "FORMAT",
        lambda: archive({"archive/data.pkl": pickle_of(pth()), "archive/byteorder": b"big"}),
    ),
    "weights-missing": ("FORMAT", lambda: archive({"archive/data.pkl": pickle_of(pth())})),
    "bit-of-the-weights": (
        "ZIP_LAYOUT",
        lambda: flipped(pth(), pth().index(small().fc1.weight.detach().numpy().tobytes()) + 3),
    ),
    **{
        f"cut-to-{share:.0%}": ("ZIP_LAYOUT", lambda share=share: pth()[: int(len(pth()) * share)])
        for share in (0.05, 0.5, 0.95, 0.999)
    },
}


def native():
    return native_file(small())


def cut_in_the(section):
    (size,) = struct.unpack("<Q", native()[:8])
    return {
        "length": native()[:5],
        "header": native()[: 8 + size // 2],
        "end-of-header": native()[: 8 + size],
        "data": native()[: (8 + size + len(native())) // 2],
        "last-byte": native()[:-1],
    }[section]


def weights_with(value):
    weights = small().fc1.weight.detach().clone()
    weights[1, 2] = value
    return native_file_of(change_tensors(small(), **{"fc1.weight": weights}))


def native_file_of(tensors, **changes):
    from harness.networks.checkpoints import hash_tensors

    record = {
        "schema": 1,
        "architecture": "fashion-cnn",
        "arguments": ARGUMENTS,
        "classes": ["a", "b"],
    }
    return save(
        tensors,
        metadata={
            "harness": json.dumps({**record, "tensors_sha256": hash_tensors(tensors), **changes})
        },
    )


def reshaped(**changes):
    return native_file_of(
        change_tensors(
            small(), **{name.replace("_", "."): value for name, value in changes.items()}
        )
    )


RECORDS = {
    "ARCHITECTURE": {
        "names-code": {"architecture": "subprocess:check_output"},
        "names-an-import": {"architecture": "os.system"},
        "code-among-the-arguments": {"arguments": {"__class__": "os.system"}},
        "of-no-arguments": {"arguments": {}},
    },
    "SCHEMA": {
        "of-the-future": {"schema": 99},
        "of-nested-lists": "[" * 100_000,
        "with-a-key-twice": '{"schema": 1, "schema": 1}',
        **{
            f"that-is-{name}": text
            for name, text in {"text": "{", "list": "[]", "number": "1", "empty": "{}"}.items()
        },
        **{
            f"without-{name}": {name: None}
            for name in ("schema", "tensors_sha256", "architecture", "classes")
        },
        "unknown-entry": {"builder": "os.system"},
        "architecture-number": {"architecture": 1},
        "architecture-list": {"architecture": ["fashion-cnn"]},
        "arguments-list": {"arguments": [1]},
        "arguments-none": {"arguments": None},
        "classes-number": {"classes": 2},
        "classes-text": {"classes": "ab"},
        "classes-of-numbers": {"classes": [1, 2]},
        "history-of-numbers": {"history": [1]},
        "history-text": {"history": "ab"},
        "training-number": {"training": 1},
        "data-number": {"data_sha256": 1},
        "validation-list": {"validation": [1]},
        "versions-number": {"versions": 1},
    },
}
"""Records by the code of their refusal: texts, or changes of an intact one."""
ARGUMENTS_REFUSED = {
    "RESOURCE": {"10000-layers": {"fc_sizes": [1] * 10_000}},
    "ARCHITECTURE": {
        "layers-of-a-million": {"fc_sizes": [10**6, 10**6]},
        "classes-beyond-int64": {"classes": 10**30},
        "image-of-4000-digits": {"image_size": [10**3900, 4]},
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
    },
    "NONFINITE": {"std-zero": {"std": 0}},
    None: {
        "mean-nan": {"mean": float("nan")},
        "mean-inf": {"mean": float("inf")},
        "std-nan": {"std": float("nan")},
    },
}
"""Changed arguments of the architecture by the code of their refusal."""
HEADERS = {
    "nested": (b'{"a":' + b"[" * 100_000, 0),
    "in-utf-16": (b"{\0" + "}".encode("utf-16-le"), 0),
    "of-a-million-digits": (b'{"a":' + b"9" * 1_000_000 + b"}", 0),
    "of-many-lists": (b'{"a":[' + b"[]," * 300_000 + b"[]]}", 0),
    "name-twice": (b'{"a":%b,"a":%b}' % ((json.dumps(ONE).encode(),) * 2), 4),
    "metadata-of-numbers": ({"__metadata__": {"harness": 1}, "a": ONE}, 4),
    "overlap": ({"a": ONE, "b": ONE}, 4),
    "gap": ({"a": {**ONE, "data_offsets": [4, 8]}}, 8),
    "offsets-beyond-the-file": ({"a": {**ONE, "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}, 4),
    "negative-offsets": ({"a": {**ONE, "data_offsets": [-4, 0]}}, 4),
    "claims-a-trillion-numbers": ({"a": {**ONE, "shape": [HUGE]}}, 4),
    "shape-that-overflows": ({"a": {**ONE, "shape": [2**33, 2**33]}}, 4),
    "a-million-dimensions": ({"a": {**ONE, "shape": [9] * 1_000_000}}, 4),
    "fractional-shape": ({"a": {**ONE, "shape": [1.0]}}, 4),
    "true-as-a-size": ({"a": {**ONE, "shape": [True]}}, 4),
    "unknown-type": ({"a": {**ONE, "dtype": "PYOBJ"}}, 4),
}
"""Headers that are refused as FORMAT, with the number of bytes that follow."""


def recorded(how):
    return with_raw_record(small(), how) if isinstance(how, str) else with_record(small(), **how)


NATIVE = {
    **{
        f"record-{name}": (code, partial(recorded, how))
        for code, of in RECORDS.items()
        for name, how in of.items()
    },
    **{
        f"arguments-{name}": (code, partial(recorded, {"arguments": {**ARGUMENTS, **changes}}))
        for code, table in ARGUMENTS_REFUSED.items()
        for name, changes in table.items()
    },
    **{
        f"header-{name}": (
            "FORMAT",
            lambda header=header, follow=follow: with_header(header, bytes(follow)),
        )
        for name, (header, follow) in HEADERS.items()
    },
    "header-of-4-exabytes": ("FORMAT", lambda: struct.pack("<Q", 2**62) + b"{}"),
    "header-longer-by-one": ("FORMAT", lambda: struct.pack("<Q", 3) + b"{}"),
    "header-of-8-megabytes": ("RESOURCE", lambda: with_header(b"{" + b" " * (8 << 20) + b"}")),
    "metadata-null": (None, lambda: with_header({"__metadata__": None, "a": ONE}, bytes(4))),
    "nothing-of-a-huge-shape": (
        "ARCHITECTURE",
        lambda: with_header(
            {"fc1.weight": {"dtype": "F32", "shape": [0, HUGE], "data_offsets": [0, 0]}}
        ),
    ),
    "bytes-after-its-end": ("FORMAT", lambda: native() + b"\0"),
    **{
        f"cut-in-the-{section}": ("FORMAT", lambda section=section: cut_in_the(section))
        for section in ("length", "header", "end-of-header", "data", "last-byte")
    },
    **{
        f"bit-{bit}-of-byte-{place}-from-the-end": (
            "HASH_MISMATCH",
            lambda bit=bit, place=place: flipped(native(), len(native()) - place, bit),
        )
        for bit, place in ((0, 1), (7, 2), (6, 50), (3, 200))
    },
    "nan": ("NONFINITE", lambda: weights_with(float("nan"))),
    "infinity": ("NONFINITE", lambda: weights_with(float("inf"))),
    "beyond-float32": (
        "NONFINITE",
        lambda: reshaped(fc1_bias=torch.tensor([0.0, 1e300, 0.0], dtype=torch.float64)),
    ),
    "wrong-shape": ("ARCHITECTURE", lambda: reshaped(fc1_weight=torch.zeros(8, 3))),
    "transposed-to-the-same-size": ("ARCHITECTURE", lambda: reshaped(fc1_weight=torch.zeros(24))),
    "integers": ("ARCHITECTURE", lambda: reshaped(fc1_bias=torch.zeros(3, dtype=torch.int64))),
    "complex": ("ARCHITECTURE", lambda: reshaped(fc1_bias=torch.zeros(3, dtype=torch.complex64))),
    "float8": ("ARCHITECTURE", lambda: reshaped(fc1_bias=torch.zeros(3).to(torch.float8_e4m3fn))),
    "missing-tensor": ("ARCHITECTURE", lambda: reshaped(fc1_bias=None)),
    "tensor-of-a-terminals-commands": (
        "ARCHITECTURE",
        lambda: native_file_of({**small().state_dict(), "\x1b[2J\x1b]0;owned\x07": torch.zeros(1)}),
    ),
}


def field(number, content):
    """A length-delimited field of a protocol buffer."""
    return bytes([number << 3 | 2, len(content)]) + content


def onnx_with_external_data():
    entry = field(1, b"location") + field(2, b"../../../../etc/passwd")
    tensor = b"\x08\x01\x10\x01" + field(8, b"w") + field(13, entry) + b"\x70\x01"
    return b"\x08\x08" + field(7, field(2, b"graph") + field(5, tensor)) + field(8, b"\x10\x11")


OTHERS = {
    "empty": ("FORMAT", lambda: b""),
    "one-byte": ("FORMAT", lambda: b"P"),
    "zeros": ("FORMAT", lambda: bytes(4096)),
    "text": ("FORMAT", lambda: b"import os; os.system('touch canary')\n"),
    "zip-behind-a-script": ("FORMAT", lambda: b"#!/bin/sh\n" + pth()),
    "hdf5": ("FORMAT", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100)),
    "onnx-with-external-data": (None, onnx_with_external_data),
}
"""A code of None stands for any."""

CONTENTS = {
    f"{kind}-{name}": case
    for kind, table in (("pickle", PICKLES), ("zip", ZIPS), ("native", NATIVE), ("other", OTHERS))
    for name, case in table.items()
}


def fifo(path):
    os.mkfifo(path)


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # The name of a socket must be short.
        server.bind(path.name)


def looping(path):
    path.symlink_to(path.name)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(3 << 30)


PLACES = {
    "place-missing": ("NOT_REGULAR", lambda path: None),
    "place-directory": ("NOT_REGULAR", lambda path: path.mkdir()),
    "place-fifo": ("NOT_REGULAR", fifo),
    "place-socket": ("NOT_REGULAR", unix_socket),
    "place-link-to-a-fifo": (
        "NOT_REGULAR",
        lambda path: (fifo(path.with_suffix(".f")), path.symlink_to(path.with_suffix(".f"))),
    ),
    "place-endless-device": ("NOT_REGULAR", lambda path: path.symlink_to("/dev/zero")),
    "place-empty-device": ("NOT_REGULAR", lambda path: path.symlink_to("/dev/null")),
    "place-terminal": ("NOT_REGULAR", lambda path: path.symlink_to("/dev/tty")),
    "place-dangling-link": ("NOT_REGULAR", lambda path: path.symlink_to("nowhere")),
    "place-looping-link": ("NOT_REGULAR", looping),
    "place-memory-of-the-process": ("FORMAT", lambda path: path.symlink_to("/proc/self/mem")),
    "place-file-that-the-kernel-makes-up": (
        "FORMAT",
        lambda path: path.symlink_to("/proc/self/maps"),
    ),
    "place-3-gigabytes": ("TOO_LARGE", sparse),
}

CODES = {
    **{f"runs-{name}": "PICKLE_GLOBAL" for name in EXECUTING},
    **{name: code for name, (code, _) in {**CONTENTS, **PLACES}.items()},
}
"""Every file of the corpus, and the code of its refusal."""


def make(folder):
    """Write the corpus into a folder and return the path of each file.

    Canaries would appear in `folder/canaries`.
    """
    return {name: make_one(name, folder) for name in CODES}


def make_one(name, folder):
    """Write one file of the corpus into a folder and return its path."""
    path, canaries = folder / name, folder / "canaries"
    canaries.mkdir(exist_ok=True)
    if name in PLACES:
        PLACES[name][1](path)
    elif name in CONTENTS:
        path.write_bytes(CONTENTS[name][1]())
    else:
        own = name.removeprefix("runs-")
        path.write_bytes(EXECUTING[own](canaries / own))
    return path


FORBIDDEN = {"exec", "compile", "import", "pickle.find_class", "code.__new__", "object.__setattr__"}
FORBIDDEN_MODULES = {
    "os",
    "subprocess",
    "socket",
    "ctypes",
    "shutil",
    "pty",
    "urllib",
    "tempfile",
    "webbrowser",
}


def megabytes(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def loaded(path, events):
    """Result of loading this file.

    The code and message of the refusal, time, memory, forbidden events.
    """

    def give_up(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(2 * SECONDS)
    Path("/proc/self/clear_refs").write_text("5")  # Start the high-water mark anew.
    before, start = megabytes("VmRSS"), time.monotonic()
    events.clear()
    events.append(str(path))
    try:
        load_checkpoint(path, builder=None if path.name.startswith("native-") else small)
        code, message = "LOADED", ""
    except CheckpointRefused as refusal:
        code, message = refusal.code, str(refusal)
    except BaseException as error:  # Whatever it is, it is the finding.
        code, message = "RAISED", repr(error)
    seconds, seen = time.monotonic() - start, events[1:]
    events.clear()
    signal.alarm(0)
    return {
        "code": code,
        "message": message,
        "seconds": seconds,
        "events": seen,
        "megabytes": megabytes("VmHWM") - before,
    }


def main():
    events = []

    def audit(event, arguments):
        if not events:
            return
        forbidden = event in FORBIDDEN or event.partition(".")[0] in FORBIDDEN_MODULES
        # A warning of a library shows the line of ours that called it, from Python 3.13 on.
        own = (events[0], "3", "4", "5", "6", pickled.__file__)
        if forbidden or (event == "open" and str(arguments[0]) not in own):
            events.append(f"{event} {arguments}"[:200])

    torch.set_num_threads(1)
    listed = json.loads(Path(sys.argv[1]).read_text())
    for path in listed["good"]:
        load_checkpoint(Path(path), builder=small)  # Whatever is imported late is imported now.
    sys.addaudithook(audit)
    limit = int(megabytes("VmSize") * 1024 * 1024) + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name, path in listed["hostile"].items():
        print(json.dumps({"name": name, **loaded(Path(path), events)}), flush=True)


if __name__ == "__main__":
    main()
