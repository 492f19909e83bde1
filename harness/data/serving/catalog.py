"""The catalog of skews: single changes of a serving pipeline, by name, and those that apply to some data.

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
"""By how much pictures are resized beyond the size of the images: 224 pixels become 256, 28 become 32."""
_PLAIN, _HALF = (NORMALISATIONS[name] for name in ("no normalization", "mean 0.5 and std 0.5"))


@dataclass(frozen=True)
class Pictured:
    """Facts about the pictures of some data that decide which skews apply.

    `formats` are those of the files, empty for pictures without bytes; `turned` says that the EXIF data of some turn
    it. `channels` and `size` (height, width) are those of the images.
    """

    channels: int
    size: tuple[int, int]
    formats: frozenset[str] = frozenset()
    turned: bool = False


@dataclass(frozen=True)
class Skew:
    """A single change of a serving pipeline: its name, its stage, and what it does.

    `change` makes another pipeline of the reference. It needs facts of `_met`, named by `needs`.
    """

    name: str
    stage: str
    change: Change
    needs: tuple[str, ...] = ()

    def of(self, reference: Pipeline, pictured: Pictured) -> Pipeline:
        """Return the skewed pipeline; raises `NotApplicableError` where the skew changes nothing."""
        met = _met(reference, pictured)
        if why := next((met[need] for need in self.needs if met[need]), None):
            raise NotApplicableError(why)
        skewed = self.change(reference, pictured)
        codec, normalise = CODECS[skewed.decode.library], skewed.normalise
        if self.stage == "decode" and importlib.util.find_spec(codec.module) is None:
            raise NotApplicableError(f"{codec.module} is not installed")
        if self.stage == "decode" and (others := pictured.formats - set(codec.formats)):
            raise NotApplicableError(
                f"{skewed.decode.library} does not decode {', '.join(sorted(others))}"
            )
        if self.stage == "normalise" and (count := len(normalise.mean)) not in {
            1,
            pictured.channels,
        }:
            raise NotApplicableError(
                f"{normalise} are of {count} channels, the images have {pictured.channels}"
            )
        if skewed == reference:
            raise NotApplicableError(
                f"the reference pipeline is served so already: {reference.words[self.stage]}"
            )
        return skewed


def _met(reference: Pipeline, pictured: Pictured) -> dict[str, str]:
    """Return why a skew with each need does not apply; empty where the need is met."""
    files = (
        f"the files are {', '.join(sorted(pictured.formats))}"
        if pictured.formats
        else "there are no files"
    )
    transform = reference.transform
    opaque = (
        f"transform {transform.spec} is one opaque stage, which resizes and crops"
        if transform
        else ""
    )
    half = "the reference pipeline normalizes with mean 0.5 and std 0.5, which is the same"
    needs = {
        "jpeg": ("JPEG" in pictured.formats, f"decoders differ on JPEG, and {files}"),
        "turned": (pictured.turned, "no picture looked at has an EXIF orientation"),
        "color": (pictured.channels == COLOR, "the images are gray"),
        "square": (pictured.size[0] == pictured.size[1], "the images are no squares"),
        "stages": (not opaque, opaque),
        "resize": (bool(reference.resize), opaque or "the reference pipeline resizes nothing"),
        "normalized": (reference.normalise != _PLAIN, "the network normalizes nothing"),
        "not half": (reference.normalise != _HALF, half),
    }
    return {need: "" if holds else why for need, (holds, why) in needs.items()}


def _set(name: str, stage: str, *needs: str, to: Any = None, **settings: Any) -> Skew:
    """Return the skew that replaces a stage, or gives it other settings."""

    def change(reference: Pipeline, _: Pictured) -> Pipeline:
        return reference.but(stage, **settings) if to is None else replace(reference, **{stage: to})

    return Skew(name, stage, change, needs)


def _late(skew: Skew) -> Skew:
    """Return the same change after resizing."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        return skew.change(reference, pictured).but(skew.stage, late=True)

    return Skew(f"{skew.name}-late", skew.stage, change, ("stages", "resize", *skew.needs))


def _by(
    pipeline: Pipeline, library: Any, filtered: Any, *, antialias: bool | None = None
) -> Pipeline:
    """Return a pipeline that resizes by another library and filter, by default antialiased where that is its way."""
    smooth = antialiasing(library, filtered)[0] if antialias is None else antialias
    how = {"library": library, "filter": filtered, "antialias": smooth}
    return replace(pipeline, resize=tuple(replace(each, **how) for each in pipeline.resize))


def _filters() -> Iterator[Skew]:
    """Yield the skew of each other filter; pictures of a fixed size take a detour by a larger size and back."""

    def skew(library: str, filtered: str, how: str, *, antialias: bool) -> Skew:
        def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
            detour = (
                Resize((_enlarged(pictured.size[0]), _enlarged(pictured.size[1]))),
                Resize(pictured.size),
            )
            resized = replace(reference, resize=reference.resize or detour)
            return _by(resized, library, filtered, antialias=antialias)

        return Skew(f"resize-{library}-{filtered}{how}", "resize", change, ("stages",))

    for library, filters in FILTERS.items():
        for filtered in [name for name in filters if name != "hamming"]:
            for antialias in reversed(choices := antialiasing(library, filtered)):
                how = ("-plain", "-antialiased")[antialias] if len(choices) > 1 else ""
                yield skew(library, filtered, how, antialias=antialias)


def _enlarged(side: int) -> int:
    return round(side * _DETOUR)


def _fitted(name: str, size: Callable[[int, int], Any], *needs: str, middle: float = 1) -> Skew:
    """Return the skew of another `size`, from that of the images, and a center crop."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        last = reference.resize[-1] if reference.resize else Resize(pictured.size)
        resized = replace(last, size=size(*pictured.size), side="shorter", middle=middle)
        return replace(reference, resize=(resized,)).but("crop", size=pictured.size)

    return Skew(name, "resize", change, ("stages", *needs))


def _aspect(name: str, *, vertical: float = 1.0, horizontal: float = 1.0) -> Skew:
    """Return the skew of another aspect ratio: one side is longer, and the middle is cropped."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        return stretched(reference, pictured.size, (vertical, horizontal))

    return Skew(name, "resize", change, ("stages",))


def stretched(reference: Pipeline, size: tuple[int, int], factors: tuple[float, float]) -> Pipeline:
    """Return a pipeline that stretches pictures by `factors` and cuts or pads them to `size`, both (height, width)."""
    last = reference.resize[-1] if reference.resize else Resize(size)
    resized = replace(last, stretch=factors)
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
    return replace(reference, normalise=Normalise(mean, tuple(std * std for std in once.std)))


_CURVED = (_set("gamma-twice", "color", gamma=1 / 2.2), _set("gamma-linear", "color", gamma=2.2))
OWN_SKEWS: Mapping[str, Skew] = {
    skew.name: skew
    for skew in (
        *(
            _set(f"decode-{each}", "decode", "jpeg", library=each)
            for each in CODECS
            if each != "simplejpeg"
        ),
        _set("decode-fast-dct", "decode", "jpeg", library="simplejpeg"),
        *(
            _set(f"decode-draft-{by}", "decode", "jpeg", "resize", to=Decode("pillow", by))
            for by in (2, 4)
        ),
        Skew(
            "exif",
            "orient",
            lambda given, _: given.but("orient", exif=not given.orient.exif),
            ("turned",),
        ),
        *(_set(f"jpeg-{quality}", "jpeg", to=Jpeg(quality)) for quality in (95, 85, 75)),
        _late(_set("jpeg-75", "jpeg", to=Jpeg(75))),
        _set("chroma-420", "jpeg", "color", to=Jpeg(100, "4:2:0")),
        Skew(
            "bgr",
            "color",
            lambda given, _: given.but("color", order=given.color.order[::-1]),
            ("color",),
        ),
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
    """Return the skewed pipelines that apply to a reference pipeline and some data, by the names of their skews."""
    found: dict[Pipeline, str] = {}
    for name, skew in SKEWS.items():
        with suppress(NotApplicableError):
            found.setdefault(skew.of(reference, pictured), name)
    return {name: pipeline for pipeline, name in found.items()}


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
"""Middles of pictures: shares of each side, and from 1 on the sides of squares over the images' shorter side."""
_STRETCHES = (0.8, 0.875, 0.94, 1.06, 1.25)
"""Factors of one side of a picture; those below 1 leave a margin."""
_SHARE = 0.015
"""Step of the share of a picture that is cropped before resizing, for a pixel of a size."""


def variations(reference: Pipeline, size: tuple[int, int]) -> Iterator[Pipeline]:
    """Yield pipelines with other parameters of one stage than the catalog has.

    `size` is the (height, width) of the images.
    """
    yield from (replace(reference, jpeg=Jpeg(quality)) for quality in (90, 65, 50, 35, 20))
    yield from (reference.but("color", gamma=gamma) for gamma in (0.6, 0.75, 0.9, 1.1, 1.3, 1.7))
    yield from (reference.but("crop", right=right, down=down) for right, down in _MOVES)
    yield from (reference.but("scale", bits=bits) for bits in (7, 5, 4, 3))
    yield from (reference.but("scale", divisor=divisor) for divisor in _DIVISORS)
    yield from _normalised(reference)
    if reference.transform is None:
        yield from _resized(reference, size)


def neighbors(pipeline: Pipeline, reference: Pipeline) -> Iterator[Pipeline]:
    """Yield pipelines one step away in the parameters of the stages in which a pipeline differs from the reference.

    Long steps come before short ones.
    """
    differing, color, crop, scale = (
        pipeline.differing(reference),
        pipeline.color,
        pipeline.crop,
        pipeline.scale,
    )
    jpeg, resized, curved = (
        pipeline.jpeg if "jpeg" in differing else None,
        pipeline.resize,
        "color" in differing,
    )
    qualities = [] if jpeg is None else [jpeg.quality + more for more in (-12, 12, -4, 4, -1, 1)]
    factors = (
        (0.9, 1.1, 0.98, 1.02, 0.996, 1.004) if scale.divisor != reference.scale.divisor else ()
    )
    moved = (crop.right, crop.down) != (reference.crop.right, reference.crop.down)
    moves = ((1, 0), (-1, 0), (0, 1), (0, -1)) if moved else ()
    yield from (pipeline.but("jpeg", quality=each) for each in qualities if 1 <= each <= 100)  # noqa: PLR2004
    for subsampling in (
        get_args(Subsampling) if jpeg is not None and reference.color.channels != 1 else ()
    ):
        yield pipeline.but("jpeg", subsampling=subsampling)
    yield from (
        pipeline.but("color", gamma=color.gamma * step)
        for step in _STEPS
        if curved and color.gamma != 1
    )
    if jpeg is not None and resized:
        yield pipeline.but("jpeg", late=not jpeg.late)
    if curved and resized:
        yield pipeline.but("color", late=not color.late)
    yield from (
        pipeline.but("crop", right=crop.right + right, down=crop.down + down)
        for right, down in moves
    )
    yield from (pipeline.but("scale", divisor=scale.divisor * factor) for factor in factors)
    offsets = (
        (-0.05, 0.05, -0.01, 0.01, -0.002, 0.002) if scale.offset != reference.scale.offset else ()
    )
    yield from (pipeline.but("scale", offset=scale.offset + step) for step in offsets)
    if "normalise" in differing:
        yield from _normalised(pipeline)
    if "resize" in differing and resized and pipeline.transform is None:
        yield from _resized_nearby(pipeline)


def _normalised(pipeline: Pipeline) -> Iterator[Pipeline]:
    mean, std = pipeline.normalise.mean, pipeline.normalise.std
    for step in (-0.1, 0.1, -0.02, 0.02, -0.005, 0.005):
        yield pipeline.but("normalise", mean=tuple(each + step for each in mean))
    yield from (
        pipeline.but("normalise", std=tuple(each * step for each in std)) for step in _STEPS
    )


def _resized(reference: Pipeline, size: tuple[int, int]) -> Iterator[Pipeline]:
    """Yield other sizes and parts of pictures, by several filters; where nothing is resized, also detours and back."""
    last = reference.resize[-1] if reference.resize else Resize(size)
    side = last.size if isinstance(last.size, int) else min(size)
    sides = [round(side * factor) for factor in _SIZES]
    resizes: list[tuple[Resize, ...]] = [
        (replace(last, size=each, side="shorter"),) for each in sides
    ]
    if reference.resize:
        sizes = [(each * size[0] // min(size), each * size[1] // min(size)) for each in sides]
        resizes += [(replace(last, size=each),) for each in sizes]
    resizes += [
        (replace(last, size=size, middle=kept if kept < 1 else round(min(size) * kept)),)
        for kept in _MIDDLES
    ]
    if not reference.resize:
        detours = [
            (round(size[0] * factor), round(size[1] * factor)) for factor in (0.5, 0.75, 2.0)
        ]
        resizes += [(Resize(each), last) for each in detours]
    for factor in _STRETCHES:
        yield stretched(reference, size, (factor, 1.0))
        yield stretched(reference, size, (1.0, factor))
    for resize in resizes:
        other = replace(reference, resize=resize).but("crop", size=size)
        yield other
        yield from (_by(other, library, filtered) for library, filtered in _FILTERED)


def _resized_nearby(pipeline: Pipeline) -> Iterator[Pipeline]:
    first, *rest = pipeline.resize

    def but(**settings: Any) -> Pipeline:
        return replace(pipeline, resize=(replace(first, **settings), *rest))

    if first.stretch != (1.0, 1.0):
        yield from (but(stretch=factors) for factors in _stretches_nearby(first.stretch))
        yield from _filtered_nearby(pipeline)
        return
    if pipeline.crop.size and first.middle == 1:
        yield but(size=(first.size, first.size) if isinstance(first.size, int) else min(first.size))
    for step in (-4, 4, -1, 1):
        if first.middle != 1:
            yield but(middle=first.middle + (step if first.middle > 1 else step * _SHARE))
        elif isinstance(first.size, int):
            yield but(size=first.size + step)
        elif rest or pipeline.crop.size:
            yield but(size=(first.size[0] + step, first.size[1] + step))
    yield from _filtered_nearby(pipeline)


def _filtered_nearby(pipeline: Pipeline) -> Iterator[Pipeline]:
    yield from (
        _by(pipeline, library, filtered)
        for library, filters in FILTERS.items()
        for filtered in filters
    )


def _stretches_nearby(factors: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Yield factors one step away; the other side keeps its factor, since both together are another size."""
    vertical, horizontal = factors
    for step in (-0.04, 0.04, -0.01, 0.01):
        yield (vertical + step, 1.0) if vertical != 1 else (1.0, horizontal + step)
