"""The catalog of skews: the changes of a serving pipeline that happen in production, by stage."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.data.image_files import CODECS, Decode, Jpeg
from harness.data.skews import Skew
from harness.data.stages import FILTERS, NORMALISATIONS, Normalise, Resize, antialiasing
from harness.features.skew.resizing import last_resize, resized_by, stretched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.data.pipeline import Pipeline
    from harness.data.skews import Pictured

_DETOUR = 8 / 7
"""Factor of the size of the images that pictures are resized to: 224 pixels become 256."""
_DISPLAY_GAMMA = 2.2
_FAST_JPEG = "simplejpeg"
"""The library that decodes JPEG by a faster, less exact transform."""
_DETECTOR_GRAY = 114
"""Level of the margin that object detectors pad pictures with."""
_PLAIN = NORMALISATIONS["no normalization"]
_HALF = NORMALISATIONS["mean 0.5 and std 0.5"]


def _changed(name: str, stage: str, *needs: str, to: Any = None, **settings: Any) -> Skew:
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


def _skews_of_filters() -> Iterator[Skew]:
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
        return resized_by(resized, library, filtered, antialias=antialias)

    return Skew(name, "resize", change, ("stages",))


def _enlarged(side: int) -> int:
    return round(side * _DETOUR)


def _both_sides(height: int, width: int) -> tuple[int, int]:
    return height, width


def _both_sides_enlarged(height: int, width: int) -> tuple[int, int]:
    return _enlarged(height), _enlarged(width)


def _shorter_side_enlarged(height: int, width: int) -> int:
    return _enlarged(min(height, width))


def _fitted(name: str, size: Callable[[int, int], Any], *needs: str, middle: float = 1) -> Skew:
    """Return the skew of another `size`, from that of the images, and a center crop."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        last = last_resize(reference, pictured.size)
        resized = replace(last, size=size(*pictured.size), side="shorter", middle=middle)
        return replace(reference, resize=(resized,)).but("crop", size=pictured.size)

    return Skew(name, "resize", change, ("stages", *needs))


def _aspect(name: str, *, vertical: float = 1.0, horizontal: float = 1.0) -> Skew:
    """Return the skew of another aspect ratio: one side is longer, and the middle is cropped."""

    def change(reference: Pipeline, pictured: Pictured) -> Pipeline:
        return stretched(reference, pictured.size, (vertical, horizontal))

    return Skew(name, "resize", change, ("stages",))


def _letterboxed(reference: Pipeline, pictured: Pictured) -> Pipeline:
    """Return the pipeline of an object detector, which pads pictures with gray."""
    resized = replace(reference.resize[-1], size=pictured.size[0], side="longer")
    return replace(reference, resize=(resized,)).but(
        "crop", size=pictured.size, fill=_DETECTOR_GRAY
    )


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


def shipped_skews() -> Iterator[Skew]:
    """Yield the skews that ship, in the order of the stages."""
    yield from _skews_of_decoding()
    yield from _skews_of_jpeg()
    yield from _skews_of_color()
    yield from _skews_of_filters()
    yield from _skews_of_size()
    yield from _skews_of_crop()
    yield from _skews_of_scale()
    yield from _skews_of_normalization()


def _skews_of_decoding() -> Iterator[Skew]:
    for library in CODECS:
        if library != _FAST_JPEG:
            yield _changed(f"decode-{library}", "decode", "jpeg", library=library)
    yield _changed("decode-fast-dct", "decode", "jpeg", library=_FAST_JPEG)
    for factor in (2, 4):
        draft = Decode("pillow", factor)
        yield _changed(f"decode-draft-{factor}", "decode", "jpeg", "resize", to=draft)
    yield Skew("exif", "orient", _exif_other, ("turned",))


def _skews_of_jpeg() -> Iterator[Skew]:
    """Yield skews of pictures that are saved as JPEG on the way."""
    for quality in (95, 85, 75):
        yield _changed(f"jpeg-{quality}", "jpeg", to=Jpeg(quality))
    yield _late(_changed("jpeg-75", "jpeg", to=Jpeg(75)))
    yield _changed("chroma-420", "jpeg", "color", to=Jpeg(100, "4:2:0"))


def _skews_of_color() -> Iterator[Skew]:
    yield Skew("bgr", "color", _order_other, ("color",))
    yield _changed("gray", "color", "color", gray=True)
    twice = _changed("gamma-twice", "color", gamma=1 / _DISPLAY_GAMMA)
    linear = _changed("gamma-linear", "color", gamma=_DISPLAY_GAMMA)
    yield twice
    yield linear
    yield _late(twice)
    yield _late(linear)
    yield _changed("video-range", "color", levels="video")


def _skews_of_size() -> Iterator[Skew]:
    yield _fitted("squash", _both_sides, "resize")
    yield _fitted("shorter-side", min, "resize")
    yield _fitted("zoom", _shorter_side_enlarged)
    yield _fitted("zoom-stretched", _both_sides_enlarged, "resize")
    yield _aspect("stretch-horizontal", horizontal=_DETOUR)
    yield _aspect("stretch-vertical", vertical=_DETOUR)
    yield _fitted("crop-first", _both_sides, middle=1 / _DETOUR)
    yield Skew("letterbox", "resize", _letterboxed, ("resize", "square"))


def _skews_of_crop() -> Iterator[Skew]:
    yield _changed("crop-right-1", "crop", right=1, down=0)
    yield _changed("crop-down-1", "crop", right=0, down=1)
    yield _changed("crop-corner-1", "crop", right=1, down=1)


def _skews_of_scale() -> Iterator[Skew]:
    yield _changed("bits-6", "scale", bits=6)
    yield _changed("divide-256", "scale", divisor=256.0)
    yield _changed("float16", "scale", precision="float16")
    yield Skew("minus-one-to-one", "scale", _to_minus_one, ("not half",))


def _skews_of_normalization() -> Iterator[Skew]:
    yield _changed("normalise-none", "normalise", to=_PLAIN)
    yield Skew("normalise-twice", "normalise", _twice, ("normalized",))
    yield _changed("normalise-half", "normalise", to=_HALF)
    for name, known in (
        ("imagenet", "ImageNet mean and std"),
        ("clip", "CLIP mean and std"),
        ("cifar10", "CIFAR-10 mean and std"),
        ("mnist", "MNIST mean and std"),
    ):
        yield _changed(f"normalise-{name}", "normalise", to=NORMALISATIONS[known])
