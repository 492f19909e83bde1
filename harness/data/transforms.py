"""The user's transforms: imported by name and called with RGB pictures, for 8-bit pixels.

Perturbations act on pixels in [0, 1], before normalization. A last `Normalize` of torchvision is
therefore split off and becomes the network's first step.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.cache import installed
from harness.base.errors import PipelineError, foreign_code
from harness.base.user_code import imported, source_digest
from harness.data.image_files import as_picture, in_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    Normalisation = tuple[Sequence[float], Sequence[float]]

WORDS = ("timm", "torchvision")
"""Words for the network's own transform: of timm's data config, or torchvision's weights."""
_EXPECTED = "expected a picture of 1 or 3 channels: a PIL image, uint8, or floats in [0, 1]"


@dataclass(frozen=True, eq=False)
class Transform:
    """A deterministic callable from an RGB picture to a tensor or array, uint8 or in [0, 1].

    Attributes:
        spec: Its name, as the user gives it.
        call: The callable.
        about: Its description.
        identity: A text with all known facts about its code.
        normalization: The mean and the standard deviation of each channel, of the step that was
            split off; None without one.
    """

    spec: str
    call: Callable[[Image], Any]
    about: str
    identity: str
    normalization: Normalisation | None = None

    def picture(self, picture: Image, *, where: str) -> tuple[Image, float]:
        """Return the result for an RGB picture, and the largest rounding error in levels of 255.

        Raises `InputError`, which names `where`, for any exception and for an invalid result.
        """
        try:
            with foreign_code():
                result = self.call(picture)
        except Exception as error:  # The user's code may raise any exception.
            raise PipelineError(
                f"failed on {where} ({error!r})", setting=f"transform {self.spec}"
            ) from error
        return picture_of(result, where=f"transform {self.spec}: of {where}")


def named_transform(spec: str) -> Transform:
    """Return the transform that `module:callable` names; the harness calls it with RGB pictures.

    The working directory is importable. Raises `InputError` for an object that cannot be imported
    or called.
    """
    named = imported(spec, setting="transform")
    fault = ""
    if isinstance(named, type):
        fault = f"is a class; name an object made of it, such as transform = {named.__name__}(...)"
    elif not callable(named):
        fault = f"is a {type(named).__name__}, expected something to call with a picture"
    if fault:
        raise PipelineError(fault, setting=f"transform {spec}")
    return transform_of(spec, named, identity=source_digest(spec))


def transform_of(spec: str, named: Any, *, identity: str = "") -> Transform:
    """Return an object as a transform, with its last normalization split off."""
    call, normalization = _split(named)
    about = " ".join(repr(call).split())
    if hasattr(call, "__name__"):
        about = str(call.__name__)
    if " at 0x" in about:  # An address, which differs in each process.
        about = type(named).__name__

    packages = _packages(named)
    if "albumentations" in packages:
        call = _with_array(call)
    versions = set(packages)
    if packages & set(WORDS):
        versions |= {"torch", "torchvision"}
    facts = f"{about} {normalization} {' '.join(installed(sorted(versions)))} {identity}"
    return Transform(spec, call, about, facts, normalization)


def _with_array(call: Callable[..., Any]) -> Callable[[Image], Any]:
    """Return a transform of albumentations as a callable with a picture."""

    def call_with_picture(picture: Image) -> Any:
        return call(image=np.array(picture))["image"]

    return call_with_picture


def picture_of(value: Any, *, where: str) -> tuple[Image, float]:
    """Return a picture, array or tensor as a PIL picture, gray or RGB, and its rounding error.

    Args:
        value: A PIL picture, a tensor, (C, H, W) or (H, W), or an array, (H, W), (H, W, C) or
            (C, H, W). Tensors and arrays are uint8, or floats in [0, 1].
        where: The name of the value in messages.

    Returns:
        The picture, and the largest rounding error in levels of 255.

    Raises:
        InputError: The value is anything else.
    """
    if hasattr(value, "convert"):
        if value.mode == "L":
            return value, 0.0
        return in_channels(value, 3), 0.0

    is_tensor = hasattr(value, "detach")
    if is_tensor:
        array = _numpy_of(value)
    else:
        array = np.asarray(value)
    array = _channels_last(array, is_tensor=is_tensor)
    is_levels = array.dtype == np.uint8
    is_known = is_levels or np.issubdtype(array.dtype, np.floating)
    if array.ndim != 3 or 0 in array.shape or array.shape[2] not in {1, 3} or not is_known:  # noqa: PLR2004
        raise PipelineError(f"{where}: is {_in_words(value)}; {_EXPECTED}")
    if is_levels:
        return as_picture(array), 0.0

    lowest, highest = float(array.min()), float(array.max())
    if not (lowest >= 0 and highest <= 1):  # NaN compares as false.
        raise PipelineError(
            f"{where}: is {_in_words(value)} from {lowest:.3g} to {highest:.3g}, expected [0, 1], "
            "where perturbations act. Remove Normalize and set the option `normalization` instead, "
            "or clamp the overshoot of resizing"
        )
    exact = array * 255
    rounded = exact.round()
    rounding_error = float(np.abs(exact - rounded).max())
    return as_picture(rounded.astype(np.uint8)), rounding_error


def _numpy_of(tensor: Any) -> np.ndarray:
    """Return a tensor as an array, short floats such as bfloat16 as float32."""
    tensor = tensor.detach().cpu()
    if tensor.dtype.is_floating_point and tensor.dtype.itemsize < np.dtype(np.float64).itemsize:
        tensor = tensor.float()
    return np.asarray(tensor.numpy())


def _channels_last(array: np.ndarray, *, is_tensor: bool) -> np.ndarray:
    """Return pixels (H, W), (H, W, C) or, always for tensors, (C, H, W) as (H, W, C)."""
    if array.ndim == 2:  # noqa: PLR2004  Without channels.
        return array[..., None]
    if array.ndim != 3 or array.shape[0] not in {1, 3}:  # noqa: PLR2004
        return array
    if not is_tensor and array.shape[2] in {1, 3}:
        return array
    return array.transpose(1, 2, 0)


def _in_words(value: Any) -> str:
    """Return the type and the shape of an array or tensor, and the class of another value."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _packages(named: Any) -> set[str]:
    """Return the names of the packages that have the classes of an object."""
    packages = {kind.__module__.partition(".")[0] for kind in type(named).__mro__}
    return packages - {"builtins"}


def _split(named: Any) -> tuple[Any, Normalisation | None]:
    """Return a transform of torchvision or timm without its last `Normalize`, with mean and std.

    Other transforms are unchanged.
    """
    if "torchvision" not in _packages(named):
        return named, None
    if type(named).__name__ == "ImageClassification":
        # The transform of pretrained weights normalizes in the same call.
        plain = copy.copy(named)
        plain.mean = [0.0] * len(named.mean)
        plain.std = [1.0] * len(named.std)
        return plain, (tuple(named.mean), tuple(named.std))

    steps: Any = getattr(named, "transforms", None)
    if not isinstance(steps, list | tuple) or not steps:
        return named, None
    last: Any = steps[-1]
    if type(last).__name__ != "Normalize" or "torchvision" not in _packages(last):
        return named, None
    without_last = type(named)(list(steps[:-1]))
    return without_last, (_floats(last.mean), _floats(last.std))


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in np.ravel(values))
