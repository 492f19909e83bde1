"""The catalog of skews: single changes of a serving pipeline, by name.

Besides these: pipelines with other values of a stage's parameters, and the neighbors of a pipeline.
"""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from harness.base.errors import NotApplicableError
from harness.base.registry import Registry
from harness.data.image_files import CODECS, Decode, Jpeg, Subsampling
from harness.data.stages import COLOR, FILTERS, NORMALISATIONS, Normalise, Resize, antialiasing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.data.pipeline import Pipeline

    Change = Callable[["Pipeline", "Pictured"], "Pipeline"]

_DETOUR = 8 / 7
"""Factor of the size of the images that pictures are resized to: 224 pixels become 256."""
_PLAIN = NORMALISATIONS["no normalization"]
_HALF = NORMALISATIONS["mean 0.5 and std 0.5"]


@dataclass(frozen=True)
class Pictured:
    """Facts about the pictures of some data that decide which skews apply.

    Attributes:
        channels: The channels of the images.
        size: The (height, width) of the images.
        formats: The formats of the files, empty for pictures without bytes.
        turned: Whether the EXIF data of some picture turn it.
    """

    channels: int
    size: tuple[int, int]
    formats: frozenset[str] = frozenset()
    turned: bool = False


@dataclass(frozen=True)
class Skew:
    """A single change of a serving pipeline.

    Attributes:
        name: Its name.
        stage: The stage that it changes.
        change: Makes another pipeline of the reference.
        needs: The names of the facts of `_unmet_needs` that must hold.
    """

    name: str
    stage: str
    change: Change
    needs: tuple[str, ...] = ()

    def of(self, reference: Pipeline, pictured: Pictured) -> Pipeline:
        """Return the skewed pipeline; raises `NotApplicableError` if it changes nothing."""
        unmet = _unmet_needs(reference, pictured)
        for need in self.needs:
            if unmet[need]:
                raise NotApplicableError(unmet[need])
        skewed = self.change(reference, pictured)
        if self.stage == "decode":
            _expect_decoder(skewed.decode.library, pictured.formats)
        if self.stage == "normalise":
            count = len(skewed.normalise.mean)
            if count not in {1, pictured.channels}:
                raise NotApplicableError(
                    f"{skewed.normalise} are of {count} channels, "
                    f"the images have {pictured.channels}"
                )
        if skewed == reference:
            raise NotApplicableError(
                f"the reference pipeline is served so already: {reference.words[self.stage]}"
            )
        return skewed


def _expect_decoder(library: str, formats: frozenset[str]) -> None:
    """Raise `NotApplicableError` unless a library is installed and decodes these formats."""
    codec = CODECS[library]
    if importlib.util.find_spec(codec.module) is None:
        raise NotApplicableError(f"{codec.module} is not installed")
    others = formats - set(codec.formats)
    if others:
        raise NotApplicableError(f"{library} does not decode {', '.join(sorted(others))}")


def _unmet_needs(reference: Pipeline, pictured: Pictured) -> dict[str, str]:
    """Return why a skew with each need does not apply; empty where the need is met."""
    files = "there are no files"
    if pictured.formats:
        files = f"the files are {', '.join(sorted(pictured.formats))}"
    opaque = ""
    if reference.transform is not None:
        opaque = (
            f"transform {reference.transform.spec} is one opaque stage, which resizes and crops"
        )
    height, width = pictured.size
    reasons = {
        "jpeg": f"decoders differ on JPEG, and {files}",
        "turned": "no picture looked at has an EXIF orientation",
        "color": "the images are gray",
        "square": "the images are no squares",
        "stages": opaque,
        "resize": opaque or "the reference pipeline resizes nothing",
        "normalized": "the network normalizes nothing",
        "not half": "the reference pipeline normalizes with mean 0.5 and std 0.5, "
        "which is the same",
    }
    met = {
        "jpeg": "JPEG" in pictured.formats,
        "turned": pictured.turned,
        "color": pictured.channels == COLOR,
        "square": height == width,
        "stages": reference.transform is None,
        "resize": bool(reference.resize),
        "normalized": reference.normalise != _PLAIN,
        "not half": reference.normalise != _HALF,
    }
    for need, holds in met.items():
        if holds:
            reasons[need] = ""
    return reasons


def _set(name: str, stage: str, *needs: str, to: Any = None, **settings: Any) -> Skew:
    """Return the skew that replaces a stage, or gives it other settings."""

    def change(reference: Pipeline, _: Pictured) -> Pipeline:
        if to is not None:
            return replace(reference, **{stage: to})
        return reference.but(stage, **settings)

    return Skew(name, stage, change, needs)


def _late(skew: Skew) -> Skew:
    """Return the same change after resizing."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        return skew.change(reference, pictured).but(skew.stage, late=True)

    return Skew(f"{skew.name}-late", skew.stage, change, ("stages", "resize", *skew.needs))


def _by(
    pipeline: Pipeline, library: Any, filtered: Any, *, antialias: bool | None = None
) -> Pipeline:
    """Return a pipeline that resizes by another library and filter, antialiased by its default."""
    if antialias is None:
        antialias = antialiasing(library, filtered)[0]
    resizes = []
    for resize in pipeline.resize:
        changed = replace(resize, library=library, filter=filtered, antialias=antialias)
        resizes.append(changed)
    return replace(pipeline, resize=tuple(resizes))


def _filters() -> Iterator[Skew]:
    """Yield the skew of each other filter."""
    for library, filters in FILTERS.items():
        for filtered in filters:
            if filtered == "hamming":
                continue
            name = f"resize-{library}-{filtered}"
            choices = antialiasing(library, filtered)
            if len(choices) == 1:
                yield _filtered(name, library, filtered, antialias=choices[0])
            else:
                yield _filtered(f"{name}-antialiased", library, filtered, antialias=True)
                yield _filtered(f"{name}-plain", library, filtered, antialias=False)


def _filtered(name: str, library: str, filtered: str, *, antialias: bool) -> Skew:
    """Return the skew of another filter.

    Pictures of a fixed size take a detour by a larger size and back.
    """

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        height, width = pictured.size
        detour = (Resize((_enlarged(height), _enlarged(width))), Resize(pictured.size))
        resized = replace(reference, resize=reference.resize or detour)
        return _by(resized, library, filtered, antialias=antialias)

    return Skew(name, "resize", change, ("stages",))


def _enlarged(side: int) -> int:
    return round(side * _DETOUR)


def _last_resize(reference: Pipeline, size: tuple[int, int]) -> Resize:
    """Return the last resizing of a pipeline, by default to the size of the images."""
    if reference.resize:
        return reference.resize[-1]
    return Resize(size)


def _fitted(name: str, size: Callable[[int, int], Any], *needs: str, middle: float = 1) -> Skew:
    """Return the skew of another `size`, from that of the images, and a center crop."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        last = _last_resize(reference, pictured.size)
        resized = replace(last, size=size(*pictured.size), side="shorter", middle=middle)
        return replace(reference, resize=(resized,)).but("crop", size=pictured.size)

    return Skew(name, "resize", change, ("stages", *needs))


def _aspect(name: str, *, vertical: float = 1.0, horizontal: float = 1.0) -> Skew:
    """Return the skew of another aspect ratio: one side is longer, and the middle is cropped."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        return stretched(reference, pictured.size, (vertical, horizontal))

    return Skew(name, "resize", change, ("stages",))


def stretched(reference: Pipeline, size: tuple[int, int], factors: tuple[float, float]) -> Pipeline:
    """Return a pipeline that stretches pictures by `factors` and cuts or pads them to `size`.

    Both are (height, width).
    """
    resized = replace(_last_resize(reference, size), stretch=factors)
    return replace(reference, resize=(*reference.resize[:-1], resized)).but("crop", size=size)


def _letterboxed(reference: Pipeline, pictured: Pictured) -> Pipeline:
    """Return the pipeline of an object detector, which pads pictures with gray."""
    resized = replace(reference.resize[-1], size=pictured.size[0], side="longer")
    return replace(reference, resize=(resized,)).but("crop", size=pictured.size, fill=114)


def _to_minus_one(reference: Pipeline, _: Pictured) -> Pipeline:
    return replace(reference, normalise=_PLAIN).but("scale", divisor=127.5, offset=-1.0)


def _twice(reference: Pipeline, _: Pictured) -> Pipeline:
    """Return the pipeline of a server that normalizes, before a network that does so, too."""
    once = reference.normalise
    mean = tuple(mean + mean * std for mean, std in zip(once.mean, once.std, strict=True))
    std = tuple(std * std for std in once.std)
    return replace(reference, normalise=Normalise(mean, std))


def _exif_other(reference: Pipeline, _: Pictured) -> Pipeline:
    return reference.but("orient", exif=not reference.orient.exif)


def _order_other(reference: Pipeline, _: Pictured) -> Pipeline:
    return reference.but("color", order=reference.color.order[::-1])


_CURVED = (_set("gamma-twice", "color", gamma=1 / 2.2), _set("gamma-linear", "color", gamma=2.2))
OWN_SKEWS: Mapping[str, Skew] = {
    skew.name: skew
    for skew in (
        *(
            _set(f"decode-{library}", "decode", "jpeg", library=library)
            for library in CODECS
            if library != "simplejpeg"
        ),
        _set("decode-fast-dct", "decode", "jpeg", library="simplejpeg"),
        *(
            _set(f"decode-draft-{factor}", "decode", "jpeg", "resize", to=Decode("pillow", factor))
            for factor in (2, 4)
        ),
        Skew("exif", "orient", _exif_other, ("turned",)),
        *(_set(f"jpeg-{quality}", "jpeg", to=Jpeg(quality)) for quality in (95, 85, 75)),
        _late(_set("jpeg-75", "jpeg", to=Jpeg(75))),
        _set("chroma-420", "jpeg", "color", to=Jpeg(100, "4:2:0")),
        Skew("bgr", "color", _order_other, ("color",)),
        _set("gray", "color", "color", gray=True),
        *_CURVED,
        *map(_late, _CURVED),
        _set("video-range", "color", levels="video"),
        *_filters(),
        _fitted("squash", lambda *size: size, "resize"),
        _fitted("shorter-side", min, "resize"),
        _fitted("zoom", lambda *size: _enlarged(min(size))),
        _fitted("zoom-stretched", lambda *size: tuple(map(_enlarged, size)), "resize"),
        _aspect("stretch-horizontal", horizontal=_DETOUR),
        _aspect("stretch-vertical", vertical=_DETOUR),
        _fitted("crop-first", lambda *size: size, middle=1 / _DETOUR),
        Skew("letterbox", "resize", _letterboxed, ("resize", "square")),
        _set("crop-right-1", "crop", right=1, down=0),
        _set("crop-down-1", "crop", right=0, down=1),
        _set("crop-corner-1", "crop", right=1, down=1),
        _set("bits-6", "scale", bits=6),
        _set("divide-256", "scale", divisor=256.0),
        _set("float16", "scale", precision="float16"),
        Skew("minus-one-to-one", "scale", _to_minus_one, ("not half",)),
        _set("normalise-none", "normalise", to=_PLAIN),
        Skew("normalise-twice", "normalise", _twice, ("normalized",)),
        _set("normalise-half", "normalise", to=_HALF),
        _set("normalise-imagenet", "normalise", to=NORMALISATIONS["ImageNet mean and std"]),
        _set("normalise-clip", "normalise", to=NORMALISATIONS["CLIP mean and std"]),
        _set("normalise-cifar10", "normalise", to=NORMALISATIONS["CIFAR-10 mean and std"]),
        _set("normalise-mnist", "normalise", to=NORMALISATIONS["MNIST mean and std"]),
    )
}
"""The skews of the harness itself by name, in the order of the stages."""
SKEWS = Registry("skew", Skew, OWN_SKEWS, hook="stress_skews")
"""The skews by name."""


def catalog(reference: Pipeline, pictured: Pictured) -> dict[str, Pipeline]:
    """Return the skewed pipelines that apply to a reference pipeline and some data.

    They are by the names of their skews; of equal pipelines, the first one counts.
    """
    names: dict[Pipeline, str] = {}
    for name, skew in SKEWS.items():
        with suppress(NotApplicableError):
            names.setdefault(skew.of(reference, pictured), name)
    return {name: pipeline for pipeline, name in names.items()}


_MOVES = (
    (-1, 0),
    (0, -1),
    (2, 0),
    (-2, 0),
    (0, 2),
    (0, -2),
    (-1, -1),
    (1, -1),
    (-1, 1),
    (2, 2),
    (-2, -2),
)
_DIVISORS = (1.0, 127.5, 255.0**2, *(255 * factor for factor in (0.8, 0.92, 1.08, 1.25)))
_FILTERED = (
    ("opencv", "bilinear"),
    ("opencv", "area"),
    ("opencv", "nearest"),
    ("pillow", "bicubic"),
)
_SIZES = (0.87, 0.93, 1.04, 1.07, 1.1, 1.15, 1.2, 1.25, 1.3)
_STEPS = (0.8, 1.25, 0.94, 1.06, 0.985, 1.015, 0.996, 1.004)
_MIDDLES = (0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.15, 1.3)
"""Middles of pictures: shares of each side, and from 1 on sides of squares.

The latter are factors of the images' shorter side.
"""
_STRETCHES = (0.8, 0.875, 0.94, 1.06, 1.25)
"""Factors of one side of a picture; those below 1 leave a margin."""
_SHARE = 0.015
"""Step of the share of a picture that is cropped before resizing, for a pixel of a size."""


def variations(reference: Pipeline, size: tuple[int, int]) -> Iterator[Pipeline]:
    """Yield pipelines with other parameters of one stage than the catalog has.

    `size` is the (height, width) of the images.
    """
    for quality in (90, 65, 50, 35, 20):
        yield replace(reference, jpeg=Jpeg(quality))
    for gamma in (0.6, 0.75, 0.9, 1.1, 1.3, 1.7):
        yield reference.but("color", gamma=gamma)
    for right, down in _MOVES:
        yield reference.but("crop", right=right, down=down)
    for bits in (7, 5, 4, 3):
        yield reference.but("scale", bits=bits)
    for divisor in _DIVISORS:
        yield reference.but("scale", divisor=divisor)
    yield from _normalised(reference)
    if reference.transform is None:
        yield from _resized(reference, size)


def neighbors(pipeline: Pipeline, reference: Pipeline) -> Iterator[Pipeline]:
    """Yield pipelines one step away in the stages in which a pipeline differs from the reference.

    Long steps come before short ones.
    """
    differing = pipeline.differing(reference)
    in_color = reference.color.channels != 1
    if "jpeg" in differing:
        yield from _other_jpegs(pipeline, in_color=in_color)
    if "color" in differing and pipeline.color.gamma != 1:
        for factor in _STEPS:
            yield pipeline.but("color", gamma=pipeline.color.gamma * factor)
    if pipeline.resize:
        if "jpeg" in differing and pipeline.jpeg is not None:
            yield pipeline.but("jpeg", late=not pipeline.jpeg.late)
        if "color" in differing:
            yield pipeline.but("color", late=not pipeline.color.late)
    yield from _other_crops(pipeline, reference)
    yield from _other_scales(pipeline, reference)
    if "normalise" in differing:
        yield from _normalised(pipeline)
    if "resize" in differing and pipeline.resize and pipeline.transform is None:
        yield from _resized_nearby(pipeline)


def _other_jpegs(pipeline: Pipeline, *, in_color: bool) -> Iterator[Pipeline]:
    """Yield other qualities, and other subsamplings of color pictures."""
    if pipeline.jpeg is None:
        return
    for step in (-12, 12, -4, 4, -1, 1):
        quality = pipeline.jpeg.quality + step
        if 1 <= quality <= 100:  # noqa: PLR2004  The range of JPEG.
            yield pipeline.but("jpeg", quality=quality)
    if in_color:
        for subsampling in get_args(Subsampling):
            yield pipeline.but("jpeg", subsampling=subsampling)


def _other_crops(pipeline: Pipeline, reference: Pipeline) -> Iterator[Pipeline]:
    """Yield crops moved by a pixel, if the pipeline's is moved."""
    crop = pipeline.crop
    if (crop.right, crop.down) == (reference.crop.right, reference.crop.down):
        return
    for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        yield pipeline.but("crop", right=crop.right + right, down=crop.down + down)


def _other_scales(pipeline: Pipeline, reference: Pipeline) -> Iterator[Pipeline]:
    """Yield other divisors and offsets, if the pipeline has others than the reference."""
    scale = pipeline.scale
    if scale.divisor != reference.scale.divisor:
        for factor in (0.9, 1.1, 0.98, 1.02, 0.996, 1.004):
            yield pipeline.but("scale", divisor=scale.divisor * factor)
    if scale.offset != reference.scale.offset:
        for step in (-0.05, 0.05, -0.01, 0.01, -0.002, 0.002):
            yield pipeline.but("scale", offset=scale.offset + step)


def _normalised(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Yield other means and standard deviations."""
    for step in (-0.1, 0.1, -0.02, 0.02, -0.005, 0.005):
        mean = tuple(value + step for value in pipeline.normalise.mean)
        yield pipeline.but("normalise", mean=mean)
    for factor in _STEPS:
        std = tuple(value * factor for value in pipeline.normalise.std)
        yield pipeline.but("normalise", std=std)


def _resized(reference: Pipeline, size: tuple[int, int]) -> Iterator[Pipeline]:
    """Yield other sizes and parts of pictures, by several filters.

    Where nothing is resized, pictures also take detours by another size and back.
    """
    for factor in _STRETCHES:
        yield stretched(reference, size, (factor, 1.0))
        yield stretched(reference, size, (1.0, factor))
    for resize in _other_resizes(reference, size):
        other = replace(reference, resize=resize).but("crop", size=size)
        yield other
        for library, filtered in _FILTERED:
            yield _by(other, library, filtered)


def _other_resizes(reference: Pipeline, size: tuple[int, int]) -> Iterator[tuple[Resize, ...]]:
    """Yield the resizings to other sizes and of other parts."""
    height, width = size
    shorter = min(size)
    last = _last_resize(reference, size)
    side = shorter
    if isinstance(last.size, int):
        side = last.size
    sides = [round(side * factor) for factor in _SIZES]
    for new_side in sides:
        yield (replace(last, size=new_side, side="shorter"),)
    if reference.resize:
        for new_side in sides:
            new_size = (new_side * height // shorter, new_side * width // shorter)
            yield (replace(last, size=new_size),)
    for middle in _MIDDLES:
        if middle < 1:
            yield (replace(last, size=size, middle=middle),)
        else:
            yield (replace(last, size=size, middle=round(shorter * middle)),)
    if not reference.resize:
        for factor in (0.5, 0.75, 2.0):
            detour = Resize((round(height * factor), round(width * factor)))
            yield detour, last


def _resized_nearby(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Yield sizes, parts, factors and filters one step away."""
    following = pipeline.resize[1:]
    for resize in _resizes_nearby(pipeline):
        yield replace(pipeline, resize=(resize, *following))
    for library, filters in FILTERS.items():
        for filtered in filters:
            yield _by(pipeline, library, filtered)


def _resizes_nearby(pipeline: Pipeline) -> Iterator[Resize]:
    """Yield the first resizing of a pipeline with a parameter one step away."""
    first = pipeline.resize[0]
    if first.stretch != (1.0, 1.0):
        for factors in _stretches_nearby(first.stretch):
            yield replace(first, stretch=factors)
        return
    if pipeline.crop.size and first.middle == 1:
        if isinstance(first.size, int):
            yield replace(first, size=(first.size, first.size))
        else:
            yield replace(first, size=min(first.size))
    for step in (-4, 4, -1, 1):
        if first.middle > 1:
            yield replace(first, middle=first.middle + step)
        elif first.middle < 1:
            yield replace(first, middle=first.middle + step * _SHARE)
        elif isinstance(first.size, int):
            yield replace(first, size=first.size + step)
        elif len(pipeline.resize) > 1 or pipeline.crop.size:
            height, width = first.size
            yield replace(first, size=(height + step, width + step))


def _stretches_nearby(factors: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Yield factors one step away.

    The other side keeps its factor, since both together are another size.
    """
    vertical, horizontal = factors
    for step in (-0.04, 0.04, -0.01, 0.01):
        if vertical != 1:
            yield vertical + step, 1.0
        else:
            yield 1.0, horizontal + step
