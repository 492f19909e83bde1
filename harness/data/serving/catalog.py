"""The catalog of skews: single changes of a serving pipeline, by name, and those that apply to some data."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from harness.base.errors import NotApplicableError
from harness.data.serving.decoders import DECODES, MODULES
from harness.data.serving.resizing import FILTERS, Resize, antialiasing
from harness.data.serving.stages import COLOR, NORMALISATIONS, Decode, Jpeg, Normalise, Orient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.data.serving.decoders import Library
    from harness.data.serving.pipeline import ServingPipeline
    from harness.data.serving.resizing import Filter

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

    `change` makes another pipeline of the reference, and raises `NotApplicableError` where there is nothing to change.
    """

    name: str
    stage: str
    change: Callable[[ServingPipeline, Pictured], ServingPipeline]

    def of(self, reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
        """Return the skewed pipeline; raises `NotApplicableError` where the skew changes nothing."""
        skewed = self.change(reference, pictured)
        if skewed == reference:
            raise NotApplicableError(f"the reference pipeline is served so already: {reference.words[self.stage]}")
        return skewed


def _decoder(library: Library, name: str = "") -> Skew:
    def change(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
        _expect_jpeg(pictured)
        module = MODULES.get(library)
        if module is not None and importlib.util.find_spec(module) is None:
            raise NotApplicableError(f"{module} is not installed")
        if others := pictured.formats - set(DECODES[library]):
            raise NotApplicableError(f"{library} does not decode {', '.join(sorted(others))}")
        return replace(reference, decode=replace(reference.decode, library=library))

    return Skew(f"decode-{name or library}", "decode", change)


def _reduced(by: int) -> Skew:
    def change(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
        _expect_jpeg(pictured)
        _expect_resize(reference)
        return replace(reference, decode=Decode("pillow", reduced=by))

    return Skew(f"decode-draft-{by}", "decode", change)


def _exif_ignored(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
    if not pictured.turned:
        raise NotApplicableError("no picture looked at has an EXIF orientation")
    return replace(reference, orient=Orient(exif=not reference.orient.exif))


def _jpeg(quality: int) -> Skew:
    return Skew(f"jpeg-{quality}", "jpeg", lambda reference, _: replace(reference, jpeg=Jpeg(quality)))


def _late(skew: Skew) -> Skew:
    """Return the same change after resizing."""

    def change(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
        _expect_resize(reference)
        skewed = skew.change(reference, pictured)
        return replace(skewed, **{skew.stage: replace(getattr(skewed, skew.stage), late=True)})

    return Skew(f"{skew.name}-late", skew.stage, change)


def _chroma(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
    _expect_color(pictured)
    return replace(reference, jpeg=Jpeg(100, "4:2:0"))


def _bgr(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
    _expect_color(pictured)
    other: Literal["RGB", "BGR"] = "RGB" if reference.color.order == "BGR" else "BGR"
    return replace(reference, color=replace(reference.color, order=other))


def _gray(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
    _expect_color(pictured)
    return replace(reference, color=replace(reference.color, gray=True))


def _gamma(name: str, gamma: float) -> Skew:
    return Skew(name, "color", lambda reference, _: replace(reference, color=replace(reference.color, gamma=gamma)))


def _video(reference: ServingPipeline, _: Pictured) -> ServingPipeline:
    return replace(reference, color=replace(reference.color, levels="video"))


def _resize(library: str, filtered: Filter, *, antialias: bool) -> Skew:
    """Return the skew of another filter; pictures of a fixed size take a detour by a larger size and back."""

    def change(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
        _expect_known_stages(reference)

        def resized(size: int | tuple[int, int], side: str = "shorter") -> Resize:
            return Resize(size, library, filtered, antialias, side)  # type: ignore[arg-type]

        if reference.resize:
            return replace(reference, resize=tuple(resized(each.size, each.side) for each in reference.resize))
        height, width = pictured.size
        detour = round(height * _DETOUR), round(width * _DETOUR)
        return replace(reference, resize=(resized(detour), resized((height, width))))

    choice = len(antialiasing(library, filtered)) > 1
    plain = "" if not choice else "-antialiased" if antialias else "-plain"
    return Skew(f"resize-{library}-{filtered}{plain}", "resize", change)


def _fitted(
    name: str, size: Callable[[int, int], int | tuple[int, int]], *, middle: float = 1, of_pixels: bool = False
) -> Skew:
    """Return the skew of another `size`, from that of the images, and a center crop; `of_pixels` for all data."""

    def change(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
        _expect_known_stages(reference)
        last = _expect_resize(reference) if reference.resize or not of_pixels else Resize(pictured.size)
        resized = replace(last, size=size(*pictured.size), side="shorter", middle=middle)
        return replace(reference, resize=(resized,), crop=replace(reference.crop, size=pictured.size))

    return Skew(name, "resize", change)


def _letterboxed(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
    last = _expect_resize(reference)
    if pictured.size[0] != pictured.size[1]:
        raise NotApplicableError("the images are no squares")
    crop = replace(reference.crop, size=pictured.size, fill=_LETTERBOX)
    return replace(reference, resize=(replace(last, size=pictured.size[0], side="longer"),), crop=crop)


def _moved(name: str, *, right: int = 0, down: int = 0) -> Skew:
    return Skew(
        name,
        "crop",
        lambda reference, _: replace(reference, crop=replace(reference.crop, right=right, down=down)),
    )


def _scaled(name: str, **settings: float | str) -> Skew:
    return Skew(
        name,
        "scale",
        lambda reference, _: replace(reference, scale=replace(reference.scale, **settings)),  # type: ignore[arg-type]
    )


def _to_minus_one(reference: ServingPipeline, _: Pictured) -> ServingPipeline:
    plain = NORMALISATIONS["no normalization"]
    if reference.normalise == NORMALISATIONS["mean 0.5 and std 0.5"]:
        raise NotApplicableError("the reference pipeline normalizes with mean 0.5 and std 0.5, which is the same")
    return replace(reference, scale=replace(reference.scale, divisor=127.5, offset=-1.0), normalise=plain)


def _normalised(name: str, key: str) -> Skew:
    def change(reference: ServingPipeline, pictured: Pictured) -> ServingPipeline:
        other = NORMALISATIONS[key]
        if len(other.mean) not in {1, pictured.channels}:
            raise NotApplicableError(f"{key} are of {len(other.mean)} channels, the images have {pictured.channels}")
        return replace(reference, normalise=other)

    return Skew(name, "normalise", change)


def _twice(reference: ServingPipeline, _: Pictured) -> ServingPipeline:
    """Return the pipeline of a server that normalizes, before a network that does so, too."""
    once = reference.normalise
    if once == NORMALISATIONS["no normalization"]:
        raise NotApplicableError("the network normalizes nothing")
    mean = tuple(mean + mean * std for mean, std in zip(once.mean, once.std, strict=True))
    return replace(reference, normalise=Normalise(mean, tuple(std * std for std in once.std)))


def _expect_jpeg(pictured: Pictured) -> None:
    if "JPEG" not in pictured.formats:
        why = f"the files are {', '.join(sorted(pictured.formats))}" if pictured.formats else "there are no files"
        raise NotApplicableError(f"decoders differ on JPEG, and {why}")


def _expect_color(pictured: Pictured) -> None:
    if pictured.channels != COLOR:
        raise NotApplicableError("the images are gray")


def _expect_known_stages(reference: ServingPipeline) -> None:
    if reference.transform is not None:
        raise NotApplicableError(f"transform {reference.transform.spec} is one opaque stage, which resizes and crops")


def _expect_resize(reference: ServingPipeline) -> Resize:
    _expect_known_stages(reference)
    if not reference.resize:
        raise NotApplicableError("the reference pipeline resizes nothing")
    return reference.resize[-1]


def _of_filters() -> Iterator[Skew]:
    for library, filters in FILTERS.items():
        for filtered in filters:
            if filtered != "hamming":
                for antialias in reversed(antialiasing(library, filtered)):
                    yield _resize(library, filtered, antialias=antialias)  # type: ignore[arg-type]


SKEWS: Mapping[str, Skew] = {
    skew.name: skew
    for skew in (
        _decoder("pillow"),
        _decoder("opencv"),
        _decoder("torchvision"),
        _decoder("ffmpeg"),
        _decoder("simplejpeg", "fast-dct"),
        *(_reduced(by) for by in (2, 4)),
        Skew("exif", "orient", _exif_ignored),
        *(_jpeg(quality) for quality in (95, 85, 75)),
        _late(_jpeg(75)),
        Skew("chroma-420", "jpeg", _chroma),
        Skew("bgr", "color", _bgr),
        Skew("gray", "color", _gray),
        _gamma("gamma-twice", 1 / 2.2),
        _gamma("gamma-linear", 2.2),
        _late(_gamma("gamma-twice", 1 / 2.2)),
        _late(_gamma("gamma-linear", 2.2)),
        Skew("video-range", "color", _video),
        *_of_filters(),
        _fitted("squash", lambda *size: size),
        _fitted("shorter-side", min),
        _fitted("zoom", lambda *size: round(min(size) * _DETOUR), of_pixels=True),
        _fitted("zoom-stretched", lambda *size: (round(size[0] * _DETOUR), round(size[1] * _DETOUR))),
        _fitted("crop-first", lambda *size: size, middle=1 / _DETOUR, of_pixels=True),
        Skew("letterbox", "resize", _letterboxed),
        _moved("crop-right-1", right=1),
        _moved("crop-down-1", down=1),
        _moved("crop-corner-1", right=1, down=1),
        _scaled("bits-6", bits=6),
        _scaled("divide-256", divisor=256.0),
        _scaled("float16", precision="float16"),
        Skew("minus-one-to-one", "scale", _to_minus_one),
        _normalised("normalise-none", "no normalization"),
        Skew("normalise-twice", "normalise", _twice),
        _normalised("normalise-half", "mean 0.5 and std 0.5"),
        _normalised("normalise-imagenet", "ImageNet mean and std"),
        _normalised("normalise-clip", "CLIP mean and std"),
        _normalised("normalise-cifar10", "CIFAR-10 mean and std"),
        _normalised("normalise-mnist", "MNIST mean and std"),
    )
}
"""The skews by name, in the order of the stages."""


def catalog(reference: ServingPipeline, pictured: Pictured) -> dict[str, ServingPipeline]:
    """Return the skewed pipelines that apply to a reference pipeline and some data, by the names of their skews."""
    found: dict[str, ServingPipeline] = {}
    for name, skew in SKEWS.items():
        try:
            skewed = skew.of(reference, pictured)
        except NotApplicableError:
            continue
        if skewed not in found.values():
            found[name] = skewed
    return found
