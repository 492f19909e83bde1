"""Sources of labeled test images, and of images of no class: a table by the first word of a specification."""

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
    """A source of labeled test images: the function that reads their pictures, and words for the help of `data`.

    `read` takes the part of a specification after the colon: a function, or the `module:function` of `harness.data`,
    which is imported at the first use. It returns `Pictures`, or whole images that no pipeline changes, and raises
    `InputError` for others. `takes` names that part, empty without one; `about` describes it. The part may be a URL if
    `at_url`. If labels are `optional`, the function takes `labeled=False` for images whose labels do not count.
    """

    read: str | Callable[..., Any]
    takes: str = ""
    about: str = ""
    at_url: bool = False
    optional: bool = False

    def form(self, name: str) -> str:
        """Return the form of a specification of this source."""
        return f"{name}:{self.takes}" if self.takes else name


SHIPPED = "fashion-mnist"
OWN_SOURCES: dict[str, Source] = {
    SHIPPED: Source(
        "fashion_mnist:load_fashion_mnist",
        about="The 10,000 test images of Fashion-MNIST, gray, 28 × 28 pixels, which ship with the harness.",
    ),
    "folder": Source(
        "readers:read_folder",
        "PATH",
        "A folder of pictures with one folder per class, and perhaps groups.csv.",
    ),
    "npz": Source(
        "npz:read_npz",
        "PATH",
        "A file of NumPy with the arrays images (uint8) and labels, perhaps classes, masks and groups; or MedMNIST's "
        "test_images and test_labels.",
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
        "A folder that datasets.save_to_disk of Hugging Face wrote, or Parquet files, which may be at a URL.",
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
    "A data set of your own code: an object with items (picture, label), or a callable that returns one.",
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

    The `pipeline` makes the images. Without one, they are resized to `size` (height, width) and converted to gray (1
    channel) or color (3); None leaves them unchanged. `spread`, for example a cluster, decodes many pictures; without
    it, this process does. Bytes other than UTF-8 in class names are escaped. Raises `InputError` for a specification of
    another form, and for images that its source cannot load.

    Unless `labeled`, labels do not count: they need not exist, and all images are of one class.
    """
    from harness.data.pipeline import Pipeline
    from harness.data.readers import read_named
    from harness.data.remote import is_url
    from harness.data.stages import Color, Resize

    kind, colon, rest = spec.partition(":")
    source = SOURCES.get(kind)
    resize = () if size is None else (Resize(size),)
    pipeline = pipeline or Pipeline(color=Color(channels), resize=resize)
    if source is None and is_name(spec):
        named = read_named(spec, otherwise=f"; expected {specs_in_words()}", labeled=labeled)
        return _decoded(named if labeled else _of_one_class(named), pipeline, spread)
    if source is None or bool(rest) != bool(source.takes) or bool(colon) != bool(source.takes):
        raise DataError(f"unknown data; expected {specs_in_words()}", setting=f"data {spec}")
    if is_url(rest) and not source.at_url:
        others = ", ".join(name for name, each in SOURCES.items() if each.at_url)
        raise DataError(
            f"is at a URL, expected a path; {others} may be at one", setting=f"data {spec}"
        )
    read = source.read
    if isinstance(read, str):
        # A module is imported when it is needed: the help of commands lists the sources without NumPy.
        read = pkgutil.resolve_name(f"harness.data.{read}")
    if not labeled and source.optional:
        found = _of_one_class(read(rest, labeled=False))
    else:
        found = read(rest) if rest else read()
    return replace(_decoded(found, pipeline, spread), source=rest)


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
    """Load images of no class, of the shape of the data's images, by default at most 1,000; their labels are ignored.

    A folder may have any subfolders; `grouped` reads its groups. Without a size, crop or transform, pictures are
    stretched to the size of the data. Raises `InputError` about the setting for unreadable images or another shape.
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
    kind, _, path = spec.partition(":")
    try:
        if kind == "folder":
            found = _decoded(read_unlabelled(path, grouped=grouped), pipeline)
        else:
            stages = Pipeline() if spec == SHIPPED else pipeline
            found = load_images(spec, pipeline=stages, labeled=False)
    except InputError as error:
        raise DataError(error.message, setting=f"{setting} {spec}") from error
    if (shape := tuple(found.pixels.shape[1:])) != (channels, height, width):
        own, wanted = (
            f"{each[1]}x{each[2]} pixels (channels: {each[0]})"
            for each in (shape, (channels, height, width))
        )
        hint = "name the pipeline that makes pictures of that size (size, resize, transform)"
        raise DataError(
            f"has images of {own}, the data have {wanted}; {hint}", setting=f"{setting} {spec}"
        )
    sample = found if most is None else sample_up_to(found, most)
    labels = torch.full((len(sample),), OF_NO_CLASS, dtype=torch.int64)
    sample = replace(sample, labels=labels, masks=None, name=f"elsewhere {found.name}")
    return replace(sample, classes=images.classes, domain=images.domain)


def _decoded(
    found: Pictures | LabelledImages, pipeline: Pipeline, spread: Spread | None = None
) -> LabelledImages:
    """Return pictures as images with writable names: bytes other than UTF-8, as in some folders' names, are escaped."""
    from harness.data.decoding import decoded
    from harness.data.images import LabelledImages
    from harness.data.pipeline import Pipeline

    if isinstance(found, LabelledImages) and pipeline != Pipeline():
        always = f"the images of {found.name} are always {found.pixels.shape[2]}x{found.pixels.shape[3]} pixels"
        raise InputError(
            f"size, channels and the other options of a pipeline are for other data; {always}"
        )
    images = found if isinstance(found, LabelledImages) else decoded(found, pipeline, spread=spread)
    return replace(images, name=writable(images.name), classes=tuple(map(writable, images.classes)))


def specs_in_words() -> str:
    """Return the forms of a specification as text."""
    return f"{', '.join(source.form(name) for name, source in SOURCES.items())} or {CALLABLE[0]}"
