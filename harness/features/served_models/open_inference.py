"""Messages of the Open Inference Protocol (KServe v2, REST).

Metadata, requests and answers, validated on reading.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import numpy as np
from pydantic import BeforeValidator, ConfigDict, NonNegativeInt

from harness.base.errors import ServerError, some_of
from harness.base.records import read_record
from harness.inference.predictors.answers import checked
from harness.inference.predictors.protocol import PredictorError

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
_Text = Annotated[str, BeforeValidator(str)]

BINARY = "binary_tensor_data"
"""The extension of servers for tensors as bytes."""
HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header with the length of the JSON before tensors as bytes."""
ANY = -1
"""A dimension of any size."""
BYTES, FILES = "BYTES", "files"
"""The datatype of a tensor of files, and its layout."""
_LENGTH = 4
"""Bytes of the length before each file, in a tensor of files sent as bytes."""
_INPUTS = {"FP32": "<f4", "FP64": "<f8", "UINT8": "u1"}
_SCORES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
_BITS = (8, 16, 32, 64)
_LABELS = {f"INT{bits}": f"<i{bits // 8}" for bits in _BITS} | {
    f"UINT{bits}": f"<u{bits // 8}" for bits in _BITS
}
_OUTPUTS = _SCORES | _LABELS
_CHANNELS, _OPEN = (1, 3), (3, 32, 32)
"""Numbers of channels, and the shape of images whose sizes are open."""


@dataclass(frozen=True)
class _Message:
    """A part of a message; a server may add keys."""

    __pydantic_config__: ClassVar = ConfigDict(extra="ignore", strict=True)


@dataclass(frozen=True)
class TensorFacts(_Message):
    """A tensor in a server's metadata: its name, datatype and shape; -1 stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {list(self.shape)}"


@dataclass(frozen=True)
class Metadata(_Message):
    """The metadata of a served model, or of a server, which has the extensions of the protocol."""

    name: _Text = ""
    versions: tuple[_Text, ...] = ()
    platform: _Text = ""
    inputs: tuple[TensorFacts, ...] = ()
    outputs: tuple[TensorFacts, ...] = ()
    extensions: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class _Parameters(_Message):
    binary_data_size: NonNegativeInt | None = None


@dataclass(frozen=True)
class _Output(TensorFacts):
    parameters: _Parameters | None = None
    data: Any = None


@dataclass(frozen=True)
class _Reply(_Message):
    id: _Text = ""
    model_name: _Text = ""
    model_version: _Text = ""
    outputs: tuple[_Output, ...] = ()


@dataclass(frozen=True)
class InputTensor:
    """The tensor of images in a request.

    Its name, datatype and layout, and the batch size if it is fixed.
    """

    name: str
    datatype: str
    layout: str
    """NCHW, NHWC, NHW for images of one channel, or N for their values in a row.

    FILES for encoded pictures.
    """
    batch: int | None = None
    row: tuple[int, ...] = ()
    """The dimensions after the first of a tensor of files: none, or 1."""

    def encoded(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels, (N, C, H, W) float32 in [0, 1], as this tensor.

        UINT8 rounds them to 0 to 255.
        """
        if self.datatype == "UINT8":
            pixels = np.rint(np.clip(pixels, 0, 1) * 255)
        values = pixels.astype(_INPUTS[self.datatype], copy=False)
        match self.layout:
            case "NHWC":
                values = values.transpose(0, 2, 3, 1)
            case "NHW":
                values = values[:, 0]
            case "N":
                values = values.reshape(len(values), -1)
        return np.ascontiguousarray(values)


def read_message(kind: type[T], body: bytes, what: str) -> T:
    """Return the JSON object in a response's body as a message.

    Raises:
        PredictorError: For another body.
    """
    try:
        found = json.loads(body, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise PredictorError(
            f"{what} is no JSON ({len(body)} bytes, {type(error).__name__}); expected an object "
            "of the Open Inference Protocol"
        ) from None
    if not isinstance(found, dict):
        raise PredictorError(f"{what} is a JSON {type(found).__name__}, expected an object")
    known = {key: value for key, value in found.items() if value is not None}
    return read_record(kind, known, where=what, error=PredictorError)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON.

    Raises:
        PredictorError: For a repeated key, which has no one value.
    """
    if twice := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
        raise PredictorError(
            f"the server's JSON repeats keys of an object ({some_of(twice)}), expected each once"
        )
    return dict(pairs)


def input_of(
    metadata: Metadata, shape: tuple[int, ...] | None
) -> tuple[InputTensor, tuple[int, ...]]:
    """Return the tensor for images of a shape (C, H, W), and this shape.

    Without a shape, the metadata give it, with 32 pixels for an open size. Raises `InputError` for
    several inputs, and for one that does not take such images.
    """
    if len(metadata.inputs) != 1:
        found = some_of([str(each) for each in metadata.inputs]) or "none"
        raise ServerError(
            f"the model's metadata name {len(metadata.inputs)} inputs ({found}), expected one "
            "tensor of images; describe it in the server's configuration of the model"
        )
    (tensor,) = metadata.inputs
    batch, *rest = tensor.shape or (0,)
    size = None if batch == ANY else batch
    if tensor.datatype not in {*_INPUTS, BYTES}:
        fault = f"has another datatype than {', '.join((*_INPUTS, BYTES))}"
    elif batch == 0 or batch < ANY:
        fault = "has no dimension of images, expected -1 or a number first"
    elif tensor.datatype == BYTES:
        if rest in ([], [1], [ANY]):
            return InputTensor(tensor.name, BYTES, FILES, size, (1,) * len(rest)), shape or _OPEN
        fault = "takes several files an image, expected [-1] or [-1, 1]"
    else:
        if shape is None:
            shape = _shape_of_images(rest)
        channels, height, width = shape
        layouts: dict[str, tuple[int, ...]] = {"NCHW": shape, "NHWC": (height, width, channels)}
        if channels == 1:
            layouts |= {"NHW": (height, width), "N": (height * width,)}
        fitting = [layout for layout, expected in layouts.items() if _fits(rest, expected)]
        if len(fitting) == 1 or (fitting and channels == 1):
            return InputTensor(tensor.name, tensor.datatype, fitting[0], size), shape
        expected = " or ".join(str([ANY, *each]) for each in dict.fromkeys(layouts.values()))
        fault = f"does not take images {shape}; expected the shape {expected}"
        if fitting:
            fault = (
                f"fits several layouts ({' or '.join(fitting)}); set the number of channels in "
                "the server's configuration of the model"
            )
    raise ServerError(f"the model's input {tensor} {fault}")


def _shape_of_images(dimensions: Sequence[int]) -> tuple[int, ...]:
    """Return a shape (C, H, W) that fits a tensor's dimensions after the first."""
    sizes = []
    for own, default in zip(dimensions, _OPEN[-len(dimensions) :], strict=False):
        sizes.append(default if own == ANY else own)
    if len(sizes) == len(_OPEN) and sizes[-1] in _CHANNELS:
        sizes = [sizes[-1], *sizes[:-1]]
    return (1, 1, *sizes)[-len(_OPEN) :]


def _fits(dimensions: Sequence[int], expected: Sequence[int]) -> bool:
    if len(dimensions) != len(expected):
        return False
    pairs = zip(dimensions, expected, strict=True)
    return all(own in {ANY, size} for own, size in pairs)


def output_of(metadata: Metadata, wanted: str | None, *, classes: int | None) -> TensorFacts | None:
    """Return the output to request.

    None if the metadata name none, and an answer must then have exactly one.

    The `wanted` one comes first, then the only one with a score per class, then the only one with
    labels. Raises `InputError` if no output or several remain.
    """
    if not metadata.outputs:
        return None if wanted is None else TensorFacts(wanted, "", ())
    found = some_of([str(each) for each in metadata.outputs])
    usable = [each for each in metadata.outputs if each.datatype in _OUTPUTS]
    if wanted is not None:
        named = next((each for each in metadata.outputs if each.name == wanted), None)
        if named is None:
            raise ServerError(
                f"is no output of the model, which has {found}", setting=f"http_output {wanted}"
            )
        if named not in usable:
            raise ServerError(
                f"the model's output {named} has another datatype than {', '.join(_OUTPUTS)}"
            )
        return named
    scores = [
        each
        for each in usable
        if each.datatype in _SCORES and _fits(each.shape, (ANY, classes or ANY))
    ]
    for some in (
        usable if len(metadata.outputs) == 1 else [],
        scores,
        [each for each in usable if each not in scores],
    ):
        if len(some) == 1:
            return some[0]
    raise ServerError(f"the model's outputs are {found}; name the one to measure with http_output")


def request_of(
    values: np.ndarray, taken: InputTensor, output: TensorFacts | None, *, number: str, binary: bool
) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a request for images in the model's input tensor.

    With `binary`, the tensor follows the JSON as bytes, and the answer shall have the same form.
    Files then have their length before them; otherwise they are base64 text in JSON.
    """
    files = values.ravel().tolist() if taken.layout == FILES else None
    shape = list(values.shape) if files is None else [len(values), *taken.row]
    tensor: dict[str, Any] = {"name": taken.name, "shape": shape, "datatype": taken.datatype}
    message: dict[str, Any] = {"id": number, "inputs": [tensor]}
    if output is not None:
        message["outputs"] = [
            {"name": output.name} | ({"parameters": {"binary_data": True}} if binary else {})
        ]
    elif binary:
        message["parameters"] = {"binary_data_output": True}
    if binary:
        parts = [len(file).to_bytes(_LENGTH, "little") + file for file in files or ()]
        content = values.tobytes() if files is None else b"".join(parts)
        tensor["parameters"] = {"binary_data_size": len(content)}
        text = json.dumps(message, separators=(",", ":")).encode()
        return text + content, {
            "Content-Type": "application/octet-stream",
            HEADER_LENGTH: str(len(text)),
        }
    if files is not None:
        tensor["parameters"] = {"content_type": "base64"}
    tensor["data"] = (
        values.ravel().tolist()
        if files is None
        else [base64.b64encode(each).decode() for each in files]
    )
    return json.dumps(message, separators=(",", ":")).encode(), {"Content-Type": "application/json"}


def read_answer(
    body: bytes,
    header_length: str | None,
    *,
    number: str,
    name: str,
    output: TensorFacts | None,
    **sizes: Any,
) -> tuple[np.ndarray, str | None]:
    """Return the answer in the body of a response, and the model's version.

    See `checked` with its `sizes`. Raises `PredictorError`, with found and expected facts, for a
    response to another request or of another model. Also for another output, datatype or shape, and
    for values that are not finite.
    """
    given = str(len(body)) if header_length is None else header_length
    length = int(given) if given.isascii() and given.isdecimal() else -1
    if not 0 <= length <= len(body):
        raise PredictorError(
            f"the answer has {len(body)} bytes and the header {HEADER_LENGTH} {header_length!r}"
        )
    found, content = read_message(_Reply, body[:length], "the answer"), body[length:]
    for key, expected in (("id", number), ("model_name", name)):
        if (other := getattr(found, key)) not in {"", expected}:
            raise PredictorError(f"the answer has the {key} {other!r}, expected {expected!r}")
    wanted = [
        at for at, each in enumerate(found.outputs) if output is None or each.name == output.name
    ]
    if len(wanted) != 1:
        names = some_of([repr(each.name) for each in found.outputs]) or "none"
        expected = (
            "exactly one; name it with http_output" if output is None else f"one {output.name!r}"
        )
        raise PredictorError(f"the answer has the outputs {names}, expected {expected}")
    tensor = found.outputs[wanted[0]]
    kind, announced = (
        tensor.datatype,
        (output.datatype if output is not None else "") or tensor.datatype,
    )
    if kind not in _OUTPUTS or kind != announced:
        expected = "FP32" if kind == announced else announced
        raise PredictorError(f"the answer has the datatype {kind!r}, expected {expected}")
    lengths = [each.parameters and each.parameters.binary_data_size for each in found.outputs]
    ends = [*accumulate((each or 0 for each in lengths), initial=0)]
    if ends[-1] != len(content):
        raise PredictorError(
            f"the answer has {len(content)} bytes of tensors, its outputs announce {ends[-1]}"
        )
    part = None if lengths[wanted[0]] is None else content[ends[wanted[0]] : ends[wanted[0] + 1]]
    values = _values(tensor, part)
    if kind in _LABELS and tensor.shape[1:] == (1,):
        values = values[:, 0]
    return checked(
        values, "labels" if kind in _LABELS else "scores", **sizes
    ), found.model_version or None


def _values(tensor: _Output, content: bytes | None) -> np.ndarray:
    kind = tensor.datatype
    dtype, count = (
        np.dtype(_OUTPUTS[kind]),
        math.prod(tensor.shape) if min(tensor.shape, default=0) >= 0 else -1,
    )
    if content is not None:
        if len(content) != count * dtype.itemsize:
            raise PredictorError(f"the answer has {len(content)} bytes for {tensor}")
        return np.frombuffer(content, dtype).reshape(tensor.shape)
    try:
        values = np.asarray(tensor.data)
    except ValueError:  # Lists of several lengths.
        values = np.asarray(None)
    if values.dtype.kind not in ("iuf" if kind in _SCORES else "iu") and values.size:
        raise PredictorError(f"the answer's data are {values.dtype} values, expected {kind}")
    if values.size != count:
        raise PredictorError(
            f"the answer has {values.size} values for the shape {list(tensor.shape)}"
        )
    return values.reshape(tensor.shape).astype(np.float64 if kind in _SCORES else values.dtype)
