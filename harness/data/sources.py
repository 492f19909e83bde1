"""Sources of labeled test images, and of images of no class.

A table has them by the first word of a specification.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.base.errors import DataError, InputError, writable
from harness.base.registry import Registry
from harness.base.user_code import is_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data.decoding import Spread
    from harness.data.images import LabelledImages
    from harness.data.pictures import Pictures
    from harness.data.pipeline import Pipeline


@dataclass(frozen=True)
class Source:
    """A source of labeled test images, with words for the help of the setting `data`.

    Attributes:
        read: The function that takes the part of a specification after the colon, or the
            `module:function` of `harness.data`, which is imported at the first use. It returns
            `Pictures`, or whole images that no pipeline changes. It raises `InputError` for others.
        takes: The name of that part, empty without one.
        about: The description of the source.
        at_url: Whether the part may be a URL.
        optional: Whether labels are optional; the function then takes `labeled=False` for images
            whose labels do not count.
    """

    read: str | Callable[..., Any]
    takes: str = ""
    about: str = ""
    at_url: bool = False
    optional: bool = False

    def form(self, name: str) -> str:
        """Return the form of a specification of this source."""
        if not self.takes:
            return name
        return f"{name}:{self.takes}"


SHIPPED = "fashion-mnist"
OWN_SOURCES: dict[str, Source] = {
    SHIPPED: Source(
        "fashion_mnist:load_fashion_mnist",
        about="The 10,000 test images of Fashion-MNIST, gray, 28 × 28 pixels, which ship with the "
        "harness.",
    ),
    "folder": Source(
        "readers:read_folder",
        "PATH",
        "A folder of pictures with one folder per class, and perhaps groups.csv.",
    ),
    "npz": Source(
        "npz:read_npz",
        "PATH",
        "A file of NumPy with the arrays images (uint8) and labels, perhaps classes, masks and "
        "groups; or MedMNIST's test_images and test_labels.",
        optional=True,
    ),
    "csv": Source(
        "readers:read_csv",
        "FILE",
        "A table with the columns path and label; any other column is a group of images.",
        optional=True,
    ),
    "hf": Source(
        "arrow_files:read_arrow",
        "PATH",
        "A folder that datasets.save_to_disk of Hugging Face wrote, or Parquet files, which may be "
        "at a URL.",
        at_url=True,
        optional=True,
    ),
    "parquet": Source(
        "arrow_files:read_arrow",
        "PATH",
        "A Parquet file, or a URL of one, with the columns image and label.",
        at_url=True,
        optional=True,
    ),
    "webdataset": Source(
        "readers:read_webdataset",
        "SHARDS",
        "The tar files of a WebDataset, such as test-{000..009}.tar, or their URLs.",
        at_url=True,
        optional=True,
    ),
}
"""The sources of the harness itself, by the first word of a specification."""
SOURCES = Registry("source of data", Source, OWN_SOURCES, hook="stress_sources")
"""The sources of test images by the first word of a specification."""
CALLABLE = (
    "module:callable",
    "A data set of your own code: an object with items (picture, label), or a callable that "
    "returns one.",
)
"""A specification that no word of the table begins, and its description."""
OF_NO_CLASS = -1
"""The label of images from elsewhere, which belong to no class of the data."""
MOST = 1_000
"""Largest number of these; a fixed sample replaces more."""


def load_images(
    spec: str,
    *,
    size: tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    pipeline: Pipeline | None = None,
    spread: Spread | None = None,
    labeled: bool = True,
) -> LabelledImages:
    """Load the labeled test images that a specification names, such as `folder:photographs`.

    Bytes other than UTF-8 in class names are escaped.

    Args:
        spec: The specification.
        size: The (height, width) that images are resized to without a pipeline; None leaves them
            unchanged.
        channels: Gray (1) or color (3) without a pipeline; None leaves them unchanged.
        pipeline: The pipeline that makes the images.
        spread: Decodes many pictures, for example on a cluster; without it, this process does.
        labeled: Read the labels. If not, they need not exist, and all images are of one class.

    Raises:
        InputError: The specification has another form, or its source cannot load the images.
    """
    from harness.data.pipeline import Pipeline
    from harness.data.readers import read_named
    from harness.data.stages import Color, Resize

    if pipeline is None:
        resize: tuple[Resize, ...] = ()
        if size is not None:
            resize = (Resize(size),)
        pipeline = Pipeline(color=Color(channels), resize=resize)

    word, colon, part = spec.partition(":")
    source = SOURCES.get(word)
    if source is None and is_name(spec):
        pictures = read_named(spec, otherwise=f"; expected {specs_in_words()}", labeled=labeled)
        if not labeled:
            pictures = _of_one_class(pictures)
        return _decoded(pictures, pipeline, spread)

    if source is None or bool(part) != bool(source.takes) or bool(colon) != bool(source.takes):
        raise DataError(f"unknown data; expected {specs_in_words()}", setting=f"data {spec}")
    images = _read(source, spec, part, labeled=labeled)
    return replace(_decoded(images, pipeline, spread), source=part)


def _read(source: Source, spec: str, part: str, *, labeled: bool) -> Pictures | LabelledImages:
    """Return what the function of a source reads; raises `InputError` for a URL it cannot read."""
    from harness.data.remote import is_url

    if is_url(part) and not source.at_url:
        others = ", ".join(name for name, other in SOURCES.items() if other.at_url)
        raise DataError(
            f"is at a URL, expected a path; {others} may be at one", setting=f"data {spec}"
        )
    read = source.read
    if isinstance(read, str):
        # Imported at the first use: the help of commands lists the sources without NumPy.
        read = pkgutil.resolve_name(f"harness.data.{read}")
    images: Pictures | LabelledImages
    if not labeled and source.optional:
        images = _of_one_class(read(part, labeled=False))
    elif part:
        images = read(part)
    else:
        images = read()
    return images


def _of_one_class(pictures: Pictures) -> Pictures:
    """Return pictures that were read without labels, with another fingerprint than with labels.

    The cache of decoded images keeps labels with pixels, so the same file has two entries.
    """
    made_of = None if pictures.made_of is None else f"{pictures.made_of} without labels"
    return replace(pictures, made_of=made_of)


def load_elsewhere(
    spec: str,
    images: LabelledImages,
    pipeline: Pipeline,
    *,
    setting: str = "unknown",
    most: int | None = MOST,
    grouped: bool = False,
) -> LabelledImages:
    """Load images of no class, of the shape of the data's images; their labels are ignored.

    Args:
        spec: Their specification. A folder may have any subfolders.
        images: The images of the data.
        pipeline: The pipeline that makes them. Without a size, crop or transform, pictures are
            stretched to the size of the data.
        setting: The name of the setting in messages.
        most: The largest number of images, None for all; a fixed sample replaces more.
        grouped: Read the groups of a folder.

    Raises:
        InputError: The images are unreadable, or of another shape.
    """
    import torch

    from harness.data.images import sample_up_to
    from harness.data.pipeline import Pipeline
    from harness.data.readers import read_unlabelled
    from harness.data.stages import Resize

    channels, height, width = images.pixels.shape[1:]
    if pipeline.transform is None:
        if not (pipeline.resize or pipeline.crop.size):
            pipeline = replace(pipeline, resize=(Resize((height, width)),))
        pipeline = pipeline.but("color", channels=pipeline.color.channels or channels)
    word, _, path = spec.partition(":")
    try:
        if word == "folder":
            elsewhere = _decoded(read_unlabelled(path, grouped=grouped), pipeline)
        elif spec == SHIPPED:
            elsewhere = load_images(spec, pipeline=Pipeline(), labeled=False)
        else:
            elsewhere = load_images(spec, pipeline=pipeline, labeled=False)
    except InputError as error:
        raise DataError(error.message, setting=f"{setting} {spec}") from error

    shape = tuple(elsewhere.pixels.shape[1:])
    if shape != (channels, height, width):
        raise DataError(
            f"has images of {shape[1]}x{shape[2]} pixels (channels: {shape[0]}), the data have "
            f"{height}x{width} pixels (channels: {channels}); name the pipeline that makes "
            "pictures of that size (size, resize, transform)",
            setting=f"{setting} {spec}",
        )
    sample = elsewhere
    if most is not None:
        sample = sample_up_to(elsewhere, most)
    return replace(
        sample,
        labels=torch.full((len(sample),), OF_NO_CLASS, dtype=torch.int64),
        masks=None,
        name=f"elsewhere {elsewhere.name}",
        classes=images.classes,
        domain=images.domain,
    )


def _decoded(
    images: Pictures | LabelledImages, pipeline: Pipeline, spread: Spread | None = None
) -> LabelledImages:
    """Return pictures as images with writable names.

    Bytes other than UTF-8 in names, as in those of some folders, are escaped.
    """
    from harness.data.decoding import decoded
    from harness.data.images import LabelledImages
    from harness.data.pipeline import Pipeline

    if not isinstance(images, LabelledImages):
        images = decoded(images, pipeline, spread=spread)
    elif pipeline != Pipeline():
        height, width = images.pixels.shape[2:]
        raise InputError(
            "size, channels and the other options of a pipeline are for other data; "
            f"the images of {images.name} are always {height}x{width} pixels"
        )
    classes = tuple(writable(name) for name in images.classes)
    return replace(images, name=writable(images.name), classes=classes)


def specs_in_words() -> str:
    """Return the forms of a specification as text."""
    forms = ", ".join(source.form(name) for name, source in SOURCES.items())
    return f"{forms} or {CALLABLE[0]}"
