"""Sources of labeled test images: a table by the first word of a specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import DataError, InputError, writable
from harness.base.user_code import is_name

if TYPE_CHECKING:
    from harness.data.images import LabelledImages
    from harness.data.pipeline import Pipeline

Load = Callable[[str, "Pipeline"], "LabelledImages"]
"""Loads the images that a specification names after its colon; the pipeline makes each image.

Raises `InputError` for images that cannot be loaded.
"""


@dataclass(frozen=True)
class Source:
    """A source of labeled test images: the function that loads them, and words for the help of `data`.

    `takes` names the part after the colon, empty without one; `about` describes it.
    """

    load: Load
    takes: str = ""
    about: str = ""


def _shipped(_: str, pipeline: Pipeline) -> LabelledImages:
    from harness.data.fashion_mnist import load_fashion_mnist

    if not pipeline.changes_nothing:
        raise InputError(
            "size, channels and the other options of a pipeline are for other data; Fashion-MNIST's images are always "
            "28x28 pixels and gray"
        )
    return load_fashion_mnist("test")


def _folder(path: str, pipeline: Pipeline) -> LabelledImages:
    from harness.data.files import load_folder

    return load_folder(Path(path), pipeline)


def _npz(path: str, pipeline: Pipeline) -> LabelledImages:
    from harness.data.npz import load_npz

    return load_npz(Path(path), pipeline)


def _csv(path: str, pipeline: Pipeline) -> LabelledImages:
    from harness.data.files import load_csv

    return load_csv(Path(path), pipeline)


def _arrow(path: str, pipeline: Pipeline) -> LabelledImages:
    from harness.data.arrow_files import load_arrow

    return load_arrow(path, pipeline)


def _webdataset(shards: str, pipeline: Pipeline) -> LabelledImages:
    from harness.data.webdataset import load_webdataset

    return load_webdataset(shards, pipeline)


# Loaders import their module at the call: the help of commands lists the sources without NumPy.
SOURCES: dict[str, Source] = {
    "fashion-mnist": Source(_shipped),
    "folder": Source(_folder, takes="PATH", about="one folder per class, and perhaps groups.csv"),
    "npz": Source(
        _npz, takes="PATH", about="images and labels, perhaps groups, or MedMNIST's test_images and test_labels"
    ),
    "csv": Source(_csv, takes="FILE", about="columns path and label, others are groups"),
    "hf": Source(
        _arrow, takes="PATH", about="what datasets.save_to_disk wrote, or Parquet files, which may be at a URL"
    ),
    "parquet": Source(_arrow, takes="PATH", about="columns image and label; or a URL"),
    "webdataset": Source(_webdataset, takes="SHARDS", about="tar files, such as test-{000..009}.tar, or their URLs"),
}
"""The sources of test images by the first word of a specification."""


_AT_URLS = ("hf", "parquet", "webdataset")


def load_images(
    spec: str,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    pipeline: Pipeline | None = None,
) -> LabelledImages:
    """Load the labeled test images that a specification names, such as `folder:photographs`.

    The `pipeline` makes the images. Without one, they are resized to `size` (height, width) and converted to gray (1
    channel) or color (3); None leaves them unchanged. Bytes other than UTF-8 in class names are escaped. Raises
    `InputError` for a specification of another form, and for images that its source cannot load.
    """
    from harness.data.datasets import load_named
    from harness.data.pipeline import Pipeline
    from harness.data.remote import is_url

    kind, colon, rest = spec.partition(":")
    source = SOURCES.get(kind)
    pipeline = pipeline or Pipeline(size=size, channels=channels)
    if source is None and is_name(spec):
        return _named(load_named(spec, pipeline, otherwise=f"; expected {specs_in_words()}"))
    if source is None or bool(rest) != bool(source.takes) or bool(colon) != bool(source.takes):
        raise DataError(f"unknown data; expected {specs_in_words()}", setting=f"data {spec}")
    if is_url(rest) and kind not in _AT_URLS:
        raise DataError(f"is at a URL, expected a path; {', '.join(_AT_URLS)} may be at one", setting=f"data {spec}")
    return replace(_named(source.load(rest, pipeline)), source=rest)


def _named(images: LabelledImages) -> LabelledImages:
    """Return the images with writable names: bytes other than UTF-8, as in some folders' names, are escaped."""
    return replace(images, name=writable(images.name), classes=tuple(map(writable, images.classes)))


def specs_in_words() -> str:
    """Return the forms of a specification as text."""
    forms = [name + (f":{source.takes}" if source.takes else "") for name, source in SOURCES.items()]
    return f"{', '.join(forms)} or module:callable"
