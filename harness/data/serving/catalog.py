"""The catalog of skews: single changes of a serving pipeline, by name, and those that apply to some data."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import NotApplicableError
from harness.data.image_files import DECODES, MODULES, Decode, Jpeg
from harness.data.stages import COLOR, FILTERS, NORMALISATIONS, Normalise, Resize, antialiasing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.data.pipeline import Pipeline

    Change = Callable[["Pipeline", "Pictured"], "Pipeline"]

_DETOUR = 8 / 7
"""By how much pictures are resized beyond the size of the images: 224 pixels become 256, 28 become 32."""
_LETTERBOX = 114
"""The gray level around a picture that is padded, as object detectors do."""


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
        for holds, otherwise in (met[need] for need in self.needs):
            if not holds:
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
    plain, half = NORMALISATIONS["no normalization"], NORMALISATIONS["mean 0.5 and std 0.5"]
    return {
        "jpeg": ("JPEG" in pictured.formats, f"decoders differ on JPEG, and {files}"),
        "turned": (pictured.turned, "no picture looked at has an EXIF orientation"),
        "color": (pictured.channels == COLOR, "the images are gray"),
        "square": (pictured.size[0] == pictured.size[1], "the images are no squares"),
        "stages": (opaque is None, opaque or ""),
        "resize": (bool(reference.resize), opaque or "the reference pipeline resizes nothing"),
        "normalized": (reference.normalise != plain, "the network normalizes nothing"),
        "not half": (
            reference.normalise != half,
            "the reference pipeline normalizes with mean 0.5 and std 0.5, which is the same",
        ),
    }


def _set(name: str, stage: str, *needs: str, **settings: Any) -> Skew:
    """Return the skew that gives a stage other settings."""
    return Skew(name, stage, lambda reference, _: reference.but(stage, **settings), needs)


def _replaced(name: str, stage: str, value: Any, *needs: str) -> Skew:
    """Return the skew that replaces a stage."""
    return Skew(name, stage, lambda reference, _: replace(reference, **{stage: value}), needs)


def _decoder(library: str, name: str = "") -> Skew:
    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        module = MODULES.get(library, library)
        if importlib.util.find_spec(module) is None:
            raise NotApplicableError(f"{module} is not installed")
        if others := pictured.formats - set(DECODES[library]):
            raise NotApplicableError(f"{library} does not decode {', '.join(sorted(others))}")
        return reference.but("decode", library=library)

    return Skew(f"decode-{name or library}", "decode", change, ("jpeg",))


def _late(skew: Skew) -> Skew:
    """Return the same change after resizing."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        return skew.change(reference, pictured).but(skew.stage, late=True)

    return Skew(f"{skew.name}-late", skew.stage, change, ("stages", "resize", *skew.needs))


def _filters() -> Iterator[Skew]:
    """Yield the skew of each other filter; pictures of a fixed size take a detour by a larger size and back."""

    def skew(name: str, how: dict[str, Any]) -> Skew:
        def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
            height, width = pictured.size
            detour = Resize((round(height * _DETOUR), round(width * _DETOUR))), Resize(pictured.size)
            resizes = reference.resize or detour
            return replace(reference, resize=tuple(Resize(each.size, side=each.side, **how) for each in resizes))

        return Skew(name, "resize", change, ("stages",))

    for library, filters in FILTERS.items():
        for filtered in filters:
            choices = antialiasing(library, filtered)
            for antialias in reversed(choices) if filtered != "hamming" else ():
                plain = "" if len(choices) == 1 else "-antialiased" if antialias else "-plain"
                how = {"library": library, "filter": filtered, "antialias": antialias}
                yield skew(f"resize-{library}-{filtered}{plain}", how)


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
    plain = NORMALISATIONS["no normalization"]
    return replace(reference, normalise=plain).but("scale", divisor=127.5, offset=-1.0)


def _bgr(reference: Pipeline, _: Pictured) -> Pipeline:
    return reference.but("color", order="RGB" if reference.color.order == "BGR" else "BGR")


def _normalised(name: str, key: str) -> Skew:
    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        other = NORMALISATIONS[key]
        if len(other.mean) not in {1, pictured.channels}:
            raise NotApplicableError(f"{key} are of {len(other.mean)} channels, the images have {pictured.channels}")
        return replace(reference, normalise=other)

    return Skew(name, "normalise", change)


def _twice(reference: Pipeline, _: Pictured) -> Pipeline:
    """Return the pipeline of a server that normalizes, before a network that does so, too."""
    once = reference.normalise
    mean = tuple(mean + mean * std for mean, std in zip(once.mean, once.std, strict=True))
    return replace(reference, normalise=Normalise(mean, tuple(std * std for std in once.std)))


_TWICE, _LINEAR = _set("gamma-twice", "color", gamma=1 / 2.2), _set("gamma-linear", "color", gamma=2.2)
SKEWS: Mapping[str, Skew] = {
    skew.name: skew
    for skew in (
        _decoder("pillow"),
        _decoder("opencv"),
        _decoder("torchvision"),
        _decoder("ffmpeg"),
        _decoder("simplejpeg", "fast-dct"),
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
        _fitted("zoom", lambda *size: round(min(size) * _DETOUR)),
        _fitted("zoom-stretched", lambda *size: tuple(round(each * _DETOUR) for each in size), "resize"),
        _fitted("crop-first", lambda *size: size, middle=1 / _DETOUR),
        Skew("letterbox", "resize", _letterboxed, ("resize", "square")),
        _set("crop-right-1", "crop", right=1, down=0),
        _set("crop-down-1", "crop", right=0, down=1),
        _set("crop-corner-1", "crop", right=1, down=1),
        _set("bits-6", "scale", bits=6),
        _set("divide-256", "scale", divisor=256.0),
        _set("float16", "scale", precision="float16"),
        Skew("minus-one-to-one", "scale", _to_minus_one, ("not half",)),
        _normalised("normalise-none", "no normalization"),
        Skew("normalise-twice", "normalise", _twice, ("normalized",)),
        _normalised("normalise-half", "mean 0.5 and std 0.5"),
        _normalised("normalise-imagenet", "ImageNet mean and std"),
        _normalised("normalise-clip", "CLIP mean and std"),
        _normalised("normalise-cifar10", "CIFAR-10 mean and std"),
        _normalised("normalise-mnist", "MNIST mean and std"),
    )
}
"""The skews by name, in the order of the stages."""


def catalog(reference: Pipeline, pictured: Pictured) -> dict[str, Pipeline]:
    """Return the skewed pipelines that apply to a reference pipeline and some data, by the names of their skews."""
    found: dict[str, Pipeline] = {}
    for name, skew in SKEWS.items():
        try:
            skewed = skew.of(reference, pictured)
        except NotApplicableError:
            continue
        if skewed not in found.values():
            found[name] = skewed
    return found
