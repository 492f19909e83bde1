"""Messages of the Open Inference Protocol (KServe v2, REST): metadata, requests and answers, validated on reading."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import ServerError, some_of
from harness.inference.predictors.encoded import content_of
from harness.inference.predictors.protocol import PredictorError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
_MATRIX = 2
_UNKNOWN, _CHANNELS = 32, (1, 3)


@dataclass(frozen=True)
class TensorFacts:
    """A tensor in a server's metadata: its name, datatype and shape; -1 stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {list(self.shape)}"


@dataclass(frozen=True)
class Metadata:
    """The metadata of a served model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]


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


def read_json(body: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in the body of a response; raises `PredictorError` for another body."""
    try:
        found = json.loads(body, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise PredictorError(
            f"{what} is no JSON ({len(body)} bytes, {type(error).__name__}); expected an object of the Open Inference "
            "Protocol"
        ) from None
    if not isinstance(found, dict):
        raise PredictorError(f"{what} is a JSON {type(found).__name__}, expected an object")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raises `PredictorError` for a repeated key, which has no one value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise PredictorError(f"the server's JSON repeats keys of an object ({some_of(twice)}), expected each once")
    return found


def read_metadata(body: bytes) -> Metadata:
    """Return the metadata of a model in the body of a response; raises `PredictorError` for invalid ones."""
    what = "the model's metadata"
    found = read_json(body, what)
    versions = found.get("versions") or []
    if not isinstance(versions, list):
        raise PredictorError(f"{what} have versions {versions!r}, expected a list")
    inputs, outputs = (
        tuple(_facts(each, what) for each in _objects(found.get(key), f"{what}: {key}"))
        for key in ("inputs", "outputs")
    )
    name, platform = str(found.get("name") or ""), str(found.get("platform") or "")
    return Metadata(name, tuple(map(str, versions)), platform, inputs, outputs)


def _objects(found: object, what: str) -> Sequence[Mapping[str, Any]]:
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise PredictorError(f"{what} are {type(found).__name__}, expected a list of objects")
    return found


def _facts(found: Mapping[str, Any], what: str) -> TensorFacts:
    name, datatype = found.get("name"), found.get("datatype")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise PredictorError(f"{what} describe a tensor without name or datatype: {found!r}")
    return TensorFacts(name, datatype, _shape(found.get("shape"), f"{what}: {name}"))


def _shape(found: object, what: str) -> tuple[int, ...]:
    if not isinstance(found, list) or not all(type(each) is int for each in found):
        raise PredictorError(f"{what} has the shape {found!r}, expected a list of integers")
    return tuple(found)


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
            raise ServerError(f"is no output of the model, which has {found}", setting=f"http_output {wanted}")
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
    raise ServerError(f"the model's outputs are {found}; name the one to measure with http_output")


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
    body: bytes, header_length: str | None, *, images: int, name: str, number: str, output: TensorFacts | None
) -> Answer:
    """Return the answer to a request for `images`, in the body of a response.

    Raises `PredictorError`, with found and expected facts, for a response to another request or of another model. Also
    for another output, datatype or shape, and for values that are not finite.
    """
    text, content = body, b""
    if header_length is not None:
        length = int(header_length) if header_length.isascii() and header_length.isdecimal() else -1
        if not 0 <= length <= len(body):
            raise PredictorError(f"the answer has {len(body)} bytes and the header {HEADER_LENGTH} {header_length!r}")
        text, content = body[:length], body[length:]
    found = read_json(text, "the answer")
    if (other := found.get("id")) not in (None, "", number):
        raise PredictorError(f"the answer has the id {other!r}, the request had {number!r}")
    if (other := found.get("model_name")) not in (None, "", name):
        raise PredictorError(f"the answer is of the model {other!r}, the request was for {name!r}")
    outputs = _objects(found.get("outputs"), "the answer's outputs")
    tensor = _chosen(outputs, output)
    datatype = tensor.get("datatype")
    announced = (output.datatype if output is not None else "") or datatype
    if not isinstance(datatype, str) or datatype not in _OUTPUTS or datatype != announced:
        expected = announced if announced != datatype else "FP32"
        raise PredictorError(f"the answer has the datatype {datatype!r}, expected {expected}")
    shape = _shape(tensor.get("shape"), "the answer")
    parts = _parts(outputs, content, binary=header_length is not None)
    values = _values(tensor, parts.get(id(tensor)), datatype, shape)
    return Answer(_scores_or_labels(values, datatype, images), _version(found))


def _chosen(outputs: Sequence[Mapping[str, Any]], output: TensorFacts | None) -> Mapping[str, Any]:
    wanted = [each for each in outputs if output is None or each.get("name") == output.name]
    if len(wanted) != 1:
        found = some_of([repr(each.get("name")) for each in outputs]) or "none"
        expected = "exactly one; name it with http_output" if output is None else f"one {output.name!r}"
        raise PredictorError(f"the answer has the outputs {found}, expected {expected}")
    return wanted[0]


def _parts(outputs: Sequence[Mapping[str, Any]], content: bytes, *, binary: bool) -> dict[int, bytes]:
    """Return the bytes of each output that has some, by the identity of the output's object."""
    sizes = {}
    for each in outputs:
        parameters = each.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is not None:
            if type(size) is not int or size < 0 or not binary:
                raise PredictorError(f"the answer has binary data of size {size!r} without the bytes")
            sizes[id(each)] = size
    ends = np.cumsum([0, *sizes.values()], dtype=object)
    if ends[-1] != len(content):
        raise PredictorError(f"the answer has {len(content)} bytes of tensors, its outputs announce {ends[-1]}")
    return {key: content[a:b] for key, (a, b) in zip(sizes, pairwise(ends), strict=True)}


def _values(tensor: Mapping[str, Any], part: bytes | None, datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    dtype = np.dtype(_OUTPUTS[datatype])
    count = int(np.prod(shape, dtype=object)) if all(size >= 0 for size in shape) else -1
    if part is not None:
        if len(part) != count * dtype.itemsize:
            raise PredictorError(f"the answer has {len(part)} bytes for {datatype} {list(shape)}")
        return np.frombuffer(part, dtype).reshape(shape)
    try:
        values = np.asarray(tensor.get("data"))
    except (ValueError, OverflowError):
        values = np.asarray(None)
    if values.dtype.kind not in ("iuf" if datatype in _SCORES else "iu") and values.size:
        raise PredictorError(f"the answer's data are {values.dtype} values, expected {datatype}")
    if values.size != count:
        raise PredictorError(f"the answer has {values.size} values for the shape {list(shape)}")
    return values.reshape(shape)


def _scores_or_labels(values: np.ndarray, datatype: str, images: int) -> np.ndarray:
    if datatype in _LABELS:
        if values.shape not in {(images,), (images, 1)}:
            raise PredictorError(
                f"the answer has {datatype} {list(values.shape)}, expected a label for each of {images}"
            )
        if values.size and int(values.max()) > np.iinfo(np.int64).max:
            raise PredictorError(f"the answer has the label {values.max()}, which is no class")
        return values.reshape(images).astype(np.int64)
    if values.ndim != _MATRIX or len(values) != images:
        raise PredictorError(
            f"the answer has the shape {list(values.shape)} for {images} images, expected [{images}, classes]"
        )
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if wrong := int((~np.isfinite(values)).any(axis=1).sum()):
        raise PredictorError(f"the server answered with NaN or infinity for {wrong} of {images} images")
    return values


def _version(found: Mapping[str, Any]) -> str | None:
    version = found.get("model_version")
    return None if version in (None, "") else str(version)
