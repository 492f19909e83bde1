"""The catalog of skews: single changes of a serving pipeline, by name, and those that apply to some data."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import NotApplicableError
from harness.data.image_files import CODECS, Decode, Jpeg
from harness.data.stages import COLOR, FILTERS, NORMALISATIONS, Normalise, Resize, antialiasing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.data.pipeline import Pipeline

    Change = Callable[["Pipeline", "Pictured"], "Pipeline"]

_DETOUR = 8 / 7
"""By how much pictures are resized beyond the size of the images: 224 pixels become 256, 28 become 32."""
_LETTERBOX = 114
"""The gray level around a picture that is padded, as object detectors do."""
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
        if otherwise := next((why for holds, why in map(met.__getitem__, self.needs) if not holds), None):
            raise NotApplicableError(otherwise)
        skewed = self.change(reference, pictured)
        if skewed == reference:
            raise NotApplicableError(f"the reference pipeline is served so already: {reference.words[self.stage]}")
        return skewed


def _met(reference: Pipeline, pictured: Pictured) -> dict[str, tuple[bool, str]]:
    """Return which needs of skews are met, and why a skew does not apply otherwise."""
    files = f"the files are {', '.join(sorted(pictured.formats))}" if pictured.formats else "there are no files"
    opaque = (
        reference.transform and f"transform {reference.transform.spec} is one opaque stage, which resizes and crops"
    )
    same = "the reference pipeline normalizes with mean 0.5 and std 0.5, which is the same"
    return {
        "jpeg": ("JPEG" in pictured.formats, f"decoders differ on JPEG, and {files}"),
        "turned": (pictured.turned, "no picture looked at has an EXIF orientation"),
        "color": (pictured.channels == COLOR, "the images are gray"),
        "square": (pictured.size[0] == pictured.size[1], "the images are no squares"),
        "stages": (opaque is None, opaque or ""),
        "resize": (bool(reference.resize), opaque or "the reference pipeline resizes nothing"),
        "normalized": (reference.normalise != _PLAIN, "the network normalizes nothing"),
        "not half": (reference.normalise != _HALF, same),
    }


def _set(name: str, stage: str, *needs: str, **settings: Any) -> Skew:
    """Return the skew that gives a stage other settings."""
    return Skew(name, stage, lambda reference, _: reference.but(stage, **settings), needs)


def _replaced(name: str, stage: str, value: Any, *needs: str) -> Skew:
    """Return the skew that replaces a stage."""
    return Skew(name, stage, lambda reference, _: replace(reference, **{stage: value}), needs)


def _decoder(library: str, name: str) -> Skew:
    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        if importlib.util.find_spec(CODECS[library].module) is None:
            raise NotApplicableError(f"{CODECS[library].module} is not installed")
        if others := pictured.formats - set(CODECS[library].formats):
            raise NotApplicableError(f"{library} does not decode {', '.join(sorted(others))}")
        return reference.but("decode", library=library)

    return Skew(f"decode-{name}", "decode", change, ("jpeg",))


def _late(skew: Skew) -> Skew:
    """Return the same change after resizing."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        return skew.change(reference, pictured).but(skew.stage, late=True)

    return Skew(f"{skew.name}-late", skew.stage, change, ("stages", "resize", *skew.needs))


def resized_by(pipeline: Pipeline, library: Any, filtered: Any, *, antialias: bool) -> Pipeline:
    """Return a pipeline that resizes by another library and filter."""
    how = {"library": library, "filter": filtered, "antialias": antialias}
    return replace(pipeline, resize=tuple(replace(each, **how) for each in pipeline.resize))


def _filter(library: str, filtered: str, *, antialias: bool) -> Skew:
    """Return the skew of another filter; pictures of a fixed size take a detour by a larger size and back."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        detour = Resize((_enlarged(pictured.size[0]), _enlarged(pictured.size[1]))), Resize(pictured.size)
        resized = replace(reference, resize=reference.resize or detour)
        return resized_by(resized, library, filtered, antialias=antialias)

    plain = "" if len(antialiasing(library, filtered)) == 1 else "-antialiased" if antialias else "-plain"
    return Skew(f"resize-{library}-{filtered}{plain}", "resize", change, ("stages",))


def _filters() -> Iterator[Skew]:
    for library, filters in FILTERS.items():
        for filtered in [name for name in filters if name != "hamming"]:
            for antialias in reversed(antialiasing(library, filtered)):
                yield _filter(library, filtered, antialias=antialias)


def _enlarged(side: int) -> int:
    return round(side * _DETOUR)


def _fitted(name: str, size: Callable[[int, int], Any], *needs: str, middle: float = 1) -> Skew:
    """Return the skew of another `size`, from that of the images, and a center crop."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        last = reference.resize[-1] if reference.resize else Resize(pictured.size)
        resized = replace(last, size=size(*pictured.size), side="shorter", middle=middle)
        return replace(reference, resize=(resized,)).but("crop", size=pictured.size)

    return Skew(name, "resize", change, ("stages", *needs))


def _letterboxed(reference: Pipeline, pictured: Pictured) -> Pipeline:
    resized = replace(reference.resize[-1], size=pictured.size[0], side="longer")
    return replace(reference, resize=(resized,)).but("crop", size=pictured.size, fill=_LETTERBOX)


def _to_minus_one(reference: Pipeline, _: Pictured) -> Pipeline:
    return replace(reference, normalise=_PLAIN).but("scale", divisor=127.5, offset=-1.0)


def _bgr(reference: Pipeline, _: Pictured) -> Pipeline:
    return reference.but("color", order="RGB" if reference.color.order == "BGR" else "BGR")


def _normalised(name: str, key: str) -> Skew:
    other = NORMALISATIONS[key]

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        if len(other.mean) not in {1, pictured.channels}:
            raise NotApplicableError(f"{key} are of {len(other.mean)} channels, the images have {pictured.channels}")
        return replace(reference, normalise=other)

    return Skew(f"normalise-{name}", "normalise", change)


def _twice(reference: Pipeline, _: Pictured) -> Pipeline:
    """Return the pipeline of a server that normalizes, before a network that does so, too."""
    once = reference.normalise
    mean = tuple(mean + mean * std for mean, std in zip(once.mean, once.std, strict=True))
    return replace(reference, normalise=Normalise(mean, tuple(std * std for std in once.std)))


_TWICE, _LINEAR = _set("gamma-twice", "color", gamma=1 / 2.2), _set("gamma-linear", "color", gamma=2.2)
SKEWS: Mapping[str, Skew] = {
    skew.name: skew
    for skew in (
        *(_decoder(library, "fast-dct" if library == "simplejpeg" else library) for library in CODECS),
        *(_replaced(f"decode-draft-{by}", "decode", Decode("pillow", by), "jpeg", "resize") for by in (2, 4)),
        Skew("exif", "orient", lambda given, _: given.but("orient", exif=not given.orient.exif), ("turned",)),
        *(_replaced(f"jpeg-{quality}", "jpeg", Jpeg(quality)) for quality in (95, 85, 75)),
        _late(_replaced("jpeg-75", "jpeg", Jpeg(75))),
        _replaced("chroma-420", "jpeg", Jpeg(100, "4:2:0"), "color"),
        Skew("bgr", "color", _bgr, ("color",)),
        _set("gray", "color", "color", gray=True),
        _TWICE,
        _LINEAR,
        _late(_TWICE),
        _late(_LINEAR),
        _set("video-range", "color", levels="video"),
        *_filters(),
        _fitted("squash", lambda *size: size, "resize"),
        _fitted("shorter-side", min, "resize"),
        _fitted("zoom", lambda *size: _enlarged(min(size))),
        _fitted("zoom-stretched", lambda *size: tuple(map(_enlarged, size)), "resize"),
        _fitted("crop-first", lambda *size: size, middle=1 / _DETOUR),
        Skew("letterbox", "resize", _letterboxed, ("resize", "square")),
        _set("crop-right-1", "crop", right=1, down=0),
        _set("crop-down-1", "crop", right=0, down=1),
        _set("crop-corner-1", "crop", right=1, down=1),
        _set("bits-6", "scale", bits=6),
        _set("divide-256", "scale", divisor=256.0),
        _set("float16", "scale", precision="float16"),
        Skew("minus-one-to-one", "scale", _to_minus_one, ("not half",)),
        _normalised("none", "no normalization"),
        Skew("normalise-twice", "normalise", _twice, ("normalized",)),
        _normalised("half", "mean 0.5 and std 0.5"),
        _normalised("imagenet", "ImageNet mean and std"),
        _normalised("clip", "CLIP mean and std"),
        _normalised("cifar10", "CIFAR-10 mean and std"),
        _normalised("mnist", "MNIST mean and std"),
    )
}
"""The skews by name, in the order of the stages."""


def catalog(reference: Pipeline, pictured: Pictured) -> dict[str, Pipeline]:
    """Return the skewed pipelines that apply to a reference pipeline and some data, by the names of their skews."""
    found: dict[Pipeline, str] = {}
    for name, skew in SKEWS.items():
        with suppress(NotApplicableError):
            found.setdefault(skew.of(reference, pictured), name)
    return {name: pipeline for pipeline, name in found.items()}
