"""The user's transforms: imported by name, called with RGB pictures, with results converted to 8-bit pixels.

Perturbations act on pixels in [0, 1], before normalization. A last `Normalize` of torchvision is therefore split off
and becomes the network's first step.
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
"""Words for the network's own transform, from timm's data config or torchvision's default weights."""
_EXPECTED = "expected a picture of 1 or 3 channels: a PIL image, uint8, or floats in [0, 1]"


@dataclass(frozen=True, eq=False)
class Transform:
    """A deterministic callable from an RGB picture to a tensor or array, uint8 or in [0, 1].

    `about` describes it, and `identity` is a text with all known facts about its code. `normalization`, (mean, std) of
    each channel, is the step that was split off.
    """

    spec: str
    call: Callable[[Image], Any]
    about: str
    identity: str
    normalization: Normalisation | None = None

    def picture(self, picture: Image, *, where: str) -> tuple[Image, float]:
        """Return what is made of an RGB picture, and the largest rounding error in levels of 255."""
        try:
            with foreign_code():
                made = self.call(picture)
        except Exception as error:  # The user's code may raise any exception.
            raise PipelineError(
                f"failed on {where} ({error!r})", setting=f"transform {self.spec}"
            ) from error
        return picture_of(made, where=f"transform {self.spec}: of {where}")


def named_transform(spec: str) -> Transform:
    """Return the transform that `module:callable` names; the harness calls this object with RGB pictures.

    The working directory is importable. Raises `InputError` for an object that cannot be imported or called.
    """
    named = imported(spec, setting="transform")
    wrong = (
        ""
        if callable(named)
        else f"is a {type(named).__name__}, expected something to call with a picture"
    )
    if isinstance(named, type):
        wrong = f"is a class; name an object made of it, such as transform = {named.__name__}(...)"
    if wrong:
        raise PipelineError(wrong, setting=f"transform {spec}")
    return transform_of(spec, named, identity=source_digest(spec))


def transform_of(spec: str, named: Any, *, identity: str = "") -> Transform:
    """Return an object as a transform, with its last normalization split off."""
    call, normalization = _split(named)
    about = str(call.__name__) if hasattr(call, "__name__") else " ".join(repr(call).split())
    about = about if " at 0x" not in about else type(named).__name__
    packages = _packages(named)
    versions = packages | ({"torch", "torchvision"} if packages & set(WORDS) else set())
    if "albumentations" in packages:
        inner = call

        def call(picture: Image) -> Any:
            return inner(image=np.array(picture))["image"]

    known = f"{about} {normalization} {' '.join(installed(sorted(versions)))} {identity}"
    return Transform(spec, call, about, known, normalization)


def picture_of(value: Any, *, where: str) -> tuple[Image, float]:
    """Return a picture, array or tensor as a PIL picture, gray or RGB, and the largest rounding error in levels of 255.

    Tensors are (C, H, W) or (H, W), arrays (H, W), (H, W, C) or (C, H, W), in uint8, or floats in [0, 1]. Raises
    `InputError` for anything else.
    """
    if hasattr(value, "convert"):
        return (value if value.mode == "L" else in_channels(value, 3)), 0.0
    if is_tensor := hasattr(value, "detach"):
        value = value.detach().cpu()
        short = (
            value.dtype.is_floating_point and value.dtype.itemsize < np.dtype(np.float64).itemsize
        )
        array = (value.float() if short else value).numpy()
    else:
        array = np.asarray(value)
    found = f"{where}: is a {type(value).__name__}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        found = (
            f"{where}: is {str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
        )
    if array.ndim == 2:  # noqa: PLR2004  Without channels.
        array = array[..., None]
    elif (
        array.ndim == 3 and array.shape[0] in {1, 3} and (is_tensor or array.shape[2] not in {1, 3})  # noqa: PLR2004
    ):
        array = array.transpose(1, 2, 0)
    levels = array.dtype == np.uint8
    known = levels or np.issubdtype(array.dtype, np.floating)
    if array.ndim != 3 or 0 in array.shape or array.shape[2] not in {1, 3} or not known:  # noqa: PLR2004
        raise PipelineError(f"{found}; {_EXPECTED}")
    if levels:
        return as_picture(array), 0.0
    lowest, highest = float(array.min()), float(array.max())
    if not (lowest >= 0 and highest <= 1):
        raise PipelineError(
            f"{found} from {lowest:.3g} to {highest:.3g}, expected [0, 1], where perturbations act. Remove Normalize "
            "and set the option `normalization` instead, or clamp the overshoot of resizing"
        )
    exact = array * 255
    rounded = exact.round()
    return as_picture(rounded.astype(np.uint8)), float(np.abs(exact - rounded).max())


def _packages(named: Any) -> set[str]:
    return {kind.__module__.partition(".")[0] for kind in type(named).__mro__} - {"builtins"}


def _split(named: Any) -> tuple[Any, Normalisation | None]:
    """Return a transform of torchvision or timm without its last `Normalize`, with mean and std; others unchanged."""
    if "torchvision" not in _packages(named):
        return named, None
    if type(named).__name__ == "ImageClassification":
        # The transform of pretrained weights normalizes in the same call.
        plain = copy.copy(named)
        plain.mean, plain.std = [0.0] * len(named.mean), [1.0] * len(named.std)
        return plain, (tuple(named.mean), tuple(named.std))
    steps: Any = getattr(named, "transforms", None)
    last: Any = steps[-1] if isinstance(steps, list | tuple) and steps else None
    if type(last).__name__ != "Normalize" or "torchvision" not in _packages(last):
        return named, None
    mean, std = (
        tuple(float(value) for value in np.ravel(values)) for values in (last.mean, last.std)
    )
    return type(named)(list(steps[:-1])), (mean, std)
