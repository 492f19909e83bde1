"""Messages of the Open Inference Protocol (KServe v2, REST): metadata, requests and answers, validated on reading."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import numpy as np
from pydantic import BeforeValidator, ConfigDict, NonNegativeInt

from harness.base.errors import ServerError, some_of
from harness.base.records import read_record
from harness.inference.predictors.encoded import content_of
from harness.inference.predictors.protocol import PredictorError
from harness.inference.predictors.scores import checked

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
_INPUTS = {"FP32": "<f4", "FP64": "<f8", "UINT8": "u1"}
_SCORES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
_BITS = (8, 16, 32, 64)
_LABELS = {f"INT{bits}": f"<i{bits // 8}" for bits in _BITS} | {f"UINT{bits}": f"<u{bits // 8}" for bits in _BITS}
_OUTPUTS = _SCORES | _LABELS
_UNKNOWN, _CHANNELS = 32, (1, 3)


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
    """The metadata of a served model."""

    name: _Text = ""
    versions: tuple[_Text, ...] = ()
    platform: _Text = ""
    inputs: tuple[TensorFacts, ...] = ()
    outputs: tuple[TensorFacts, ...] = ()


@dataclass(frozen=True)
class ServerMetadata(_Message):
    """The metadata of a server: its extensions of the protocol."""

    extensions: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Parameters(_Message):
    binary_data_size: NonNegativeInt | None = None


@dataclass(frozen=True)
class _Output(TensorFacts):
    parameters: _Parameters | None = None
    data: Any = None

    @property
    def size(self) -> int | None:
        """The number of its bytes after the JSON; None for values in the JSON."""
        return None if self.parameters is None else self.parameters.binary_data_size


@dataclass(frozen=True)
class _Reply(_Message):
    id: _Text = ""
    model_name: _Text = ""
    model_version: _Text = ""
    outputs: tuple[_Output, ...] = ()


@dataclass(frozen=True)
class InputTensor:
    """The tensor of images in a request: its name, datatype and layout, and the batch size if it is fixed."""

    name: str
    datatype: str
    layout: str
    """NCHW, NHWC, NHW for images of one channel, or N for their values in a row; FILES for encoded pictures."""
    batch: int | None = None
    row: tuple[int, ...] = ()
    """The dimensions after the first of a tensor of files: none, or 1."""

    def encoded(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels, (N, C, H, W) float32 in [0, 1], as this tensor; UINT8 rounds them to 0 to 255."""
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


@dataclass(frozen=True)
class Answer:
    """The answer to one request: scores (N, classes) float32, or labels (N,) int64, and the model's version."""

    values: np.ndarray
    version: str | None


def read_message(kind: type[T], body: bytes, what: str) -> T:
    """Return the JSON object in a response's body as a message; raises `PredictorError` for another body."""
    try:
        found = json.loads(body, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise PredictorError(
            f"{what} is no JSON ({len(body)} bytes, {type(error).__name__}); expected an object of the Open Inference "
            "Protocol"
        ) from None
    if not isinstance(found, dict):
        raise PredictorError(f"{what} is a JSON {type(found).__name__}, expected an object")
    known = {key: value for key, value in found.items() if value is not None}
    return read_record(kind, known, where=what, error=PredictorError)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raises `PredictorError` for a repeated key, which has no one value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise PredictorError(f"the server's JSON repeats keys of an object ({some_of(twice)}), expected each once")
    return found


def input_of(metadata: Metadata, shape: tuple[int, int, int] | None) -> tuple[InputTensor, tuple[int, int, int]]:
    """Return the tensor for images of a shape (C, H, W), and this shape.

    Without a shape, the metadata give it, with 32 pixels for an open size. Raises `InputError` for several inputs, and
    for one that does not take such images.
    """
    if len(metadata.inputs) != 1:
        found = some_of([str(each) for each in metadata.inputs]) or "none"
        raise ServerError(
            f"the model's metadata name {len(metadata.inputs)} inputs ({found}), expected one tensor of images; "
            "describe it in the server's configuration of the model"
        )
    (tensor,) = metadata.inputs
    if tensor.datatype not in {*_INPUTS, BYTES}:
        raise ServerError(f"the model's input {tensor} has another datatype than {', '.join((*_INPUTS, BYTES))}")
    batch, *rest = tensor.shape or (0,)
    if batch == 0 or batch < ANY:
        raise ServerError(f"the model's input {tensor} has no dimension of images, expected -1 or a number first")
    size = None if batch == ANY else batch
    if tensor.datatype == BYTES:
        if rest not in ([], [1], [ANY]):
            raise ServerError(f"the model's input {tensor} takes several files an image, expected [-1] or [-1, 1]")
        return InputTensor(tensor.name, BYTES, FILES, size, (1,) * len(rest)), shape or (3, _UNKNOWN, _UNKNOWN)
    if shape is None:
        shape = _shape_in(rest)
    layouts = [layout for layout, expected in _layouts(shape).items() if _fits(rest, expected)]
    if not layouts:
        expected = " or ".join(str([ANY, *each]) for each in dict.fromkeys(_layouts(shape).values()))
        raise ServerError(f"the model's input {tensor} does not take images {shape}; expected the shape {expected}")
    if len(layouts) > 1 and shape[0] > 1:
        raise ServerError(
            f"the model's input {tensor} fits several layouts ({' or '.join(layouts)}); set the number of channels in "
            "the server's configuration of the model"
        )
    return InputTensor(tensor.name, tensor.datatype, layouts[0], size), shape


def _layouts(shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    channels, height, width = shape
    layouts: dict[str, tuple[int, ...]] = {"NCHW": shape, "NHWC": (height, width, channels)}
    return layouts if channels > 1 else layouts | {"NHW": (height, width), "N": (height * width,)}


def _fits(found: Sequence[int], expected: Sequence[int]) -> bool:
    return len(found) == len(expected) and all(a in {ANY, b} for a, b in zip(found, expected, strict=True))


def _shape_in(rest: Sequence[int]) -> tuple[int, int, int]:
    """Return a shape (C, H, W) that fits a tensor with these dimensions after the first."""
    match [_UNKNOWN if size == ANY else size for size in rest]:
        case [values]:
            return 1, 1, values
        case [height, width]:
            return 1, height, width
        case [height, width, channels] if channels in _CHANNELS:
            return channels, height, width
        case [channels, height, width]:
            return channels if channels in _CHANNELS else 3, height, width
    return 1, 1, 1


def output_of(metadata: Metadata, wanted: str | None, *, classes: int | None) -> TensorFacts | None:
    """Return the output to request; None if the metadata name none, and an answer must then have exactly one.

    The `wanted` one comes first, then the only one with a score per class, then the only one with labels. Raises
    `InputError` if no output or several remain.
    """
    usable = [each for each in metadata.outputs if each.datatype in _OUTPUTS]
    named = [each for each in metadata.outputs if each.name == wanted]
    if wanted is not None and metadata.outputs:
        if not named:
            found = some_of([str(each) for each in metadata.outputs])
            raise ServerError(f"is no output of the model, which has {found}", setting=f"http-output {wanted}")
        if named[0] not in usable:
            raise ServerError(f"the model's output {named[0]} has another datatype than {', '.join(_OUTPUTS)}")
        return named[0]
    if not metadata.outputs:
        return None if wanted is None else TensorFacts(wanted, "", ())
    if len(metadata.outputs) == 1 and usable:
        return usable[0]
    scores = [each for each in usable if each.datatype in _SCORES and _fits(each.shape, (ANY, classes or ANY))]
    labels = [each for each in usable if each.datatype in _LABELS]
    for some in (scores, labels):
        if len(some) == 1:
            return some[0]
    found = some_of([str(each) for each in metadata.outputs])
    raise ServerError(f"the model's outputs are {found}; name the one to measure with http-output")


def request_of(
    values: np.ndarray, taken: InputTensor, output: TensorFacts | None, *, number: str, binary: bool
) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a request for images in the model's input tensor.

    With `binary`, the tensor follows the JSON as bytes, and the answer shall have the same form. Files then have their
    length before them; otherwise they are base64 text in JSON.
    """
    tensor: dict[str, Any] = {"name": taken.name, "shape": list(values.shape), "datatype": taken.datatype}
    content = content_of(values) if binary else b""
    if binary:
        tensor |= {"parameters": {"binary_data_size": len(content)}}
    elif taken.layout == FILES:
        texts = [base64.b64encode(file).decode("ascii") for file in values.ravel().tolist()]
        tensor |= {"parameters": {"content_type": "base64"}, "data": texts}
    else:
        tensor |= {"data": values.ravel().tolist()}
    if taken.layout == FILES:
        tensor |= {"shape": [len(values), *taken.row]}
    message: dict[str, Any] = {"id": number, "inputs": [tensor]}
    if output is not None:
        message["outputs"] = [{"name": output.name} | ({"parameters": {"binary_data": True}} if binary else {})]
    elif binary:
        message["parameters"] = {"binary_data_output": True}
    text = json.dumps(message, separators=(",", ":")).encode()
    if not binary:
        return text, {"Content-Type": "application/json"}
    return text + content, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(text))}


def read_answer(
    body: bytes,
    header_length: str | None,
    *,
    images: int,
    classes: int | None,
    name: str,
    number: str,
    output: TensorFacts | None,
) -> Answer:
    """Return the answer to a request for `images`, in the body of a response.

    Raises `PredictorError`, with found and expected facts, for a response to another request or of another model. Also
    for another output, datatype or shape, and for values that are not finite.
    """
    length = len(body)
    if header_length is not None:
        length = int(header_length) if header_length.isascii() and header_length.isdecimal() else -1
    if not 0 <= length <= len(body):
        raise PredictorError(f"the answer has {len(body)} bytes and the header {HEADER_LENGTH} {header_length!r}")
    found, content = read_message(_Reply, body[:length], "the answer"), body[length:]
    for key, expected in (("id", number), ("model_name", name)):
        if (other := getattr(found, key)) not in {"", expected}:
            raise PredictorError(f"the answer has the {key} {other!r}, expected {expected!r}")
    wanted = [at for at, each in enumerate(found.outputs) if output is None or each.name == output.name]
    if len(wanted) != 1:
        names = some_of([repr(each.name) for each in found.outputs]) or "none"
        expected = "exactly one; name it with http-output" if output is None else f"one {output.name!r}"
        raise PredictorError(f"the answer has the outputs {names}, expected {expected}")
    tensor, sizes = found.outputs[wanted[0]], [each.size or 0 for each in found.outputs]
    announced = (output.datatype if output is not None else "") or tensor.datatype
    if tensor.datatype not in _OUTPUTS or tensor.datatype != announced:
        expected = announced if announced != tensor.datatype else "FP32"
        raise PredictorError(f"the answer has the datatype {tensor.datatype!r}, expected {expected}")
    if sum(sizes) != len(content):
        raise PredictorError(f"the answer has {len(content)} bytes of tensors, its outputs announce {sum(sizes)}")
    start = sum(sizes[: wanted[0]])
    values = _values(tensor, content[start : start + sizes[wanted[0]]])
    scores = "labels" if tensor.datatype in _LABELS else "scores"
    if scores == "labels" and tensor.shape == (images, 1):
        values = values[:, 0]
    return Answer(checked(values, scores, images=images, classes=classes), found.model_version or None)


def _values(tensor: _Output, content: bytes) -> np.ndarray:
    """Return the values of an output, from its bytes or from the JSON."""
    dtype = np.dtype(_OUTPUTS[tensor.datatype])
    count = math.prod(tensor.shape) if min(tensor.shape, default=0) >= 0 else -1
    if tensor.size is not None:
        if tensor.size != count * dtype.itemsize:
            raise PredictorError(f"the answer has {tensor.size} bytes for {tensor}")
        return np.frombuffer(content, dtype).reshape(tensor.shape)
    try:
        values = np.asarray(tensor.data)
    except (ValueError, OverflowError):
        values = np.asarray(None)
    if values.dtype.kind not in ("iuf" if tensor.datatype in _SCORES else "iu") and values.size:
        raise PredictorError(f"the answer's data are {values.dtype} values, expected {tensor.datatype}")
    if values.size != count:
        raise PredictorError(f"the answer has {values.size} values for the shape {list(tensor.shape)}")
    return values.reshape(tensor.shape).astype(np.float64 if tensor.datatype in _SCORES else values.dtype)
