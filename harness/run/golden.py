"""The golden images of a run: read, held against the list of their hashes, and made like the images at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.data.image_files import labelled_like, pixels_like
from harness.data.pipeline import Pipeline
from harness.errors import InputError
from harness.gates.golden import folder_of, picture_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data import LabelledImages
    from harness.data.options import DataOptions
    from harness.data.transforms import Transform
    from harness.gates import GatesFile


def golden_images(
    gates: GatesFile, images: LabelledImages, data: DataOptions, words: Callable[[str], Transform] | None = None
) -> LabelledImages | None:
    """Return the golden set of a gates file as labelled images, in its order; None of an empty one.

    Pictures are made by the pipeline that the options of the data say, see `DataOptions.load`. Raises `InputError` for
    a picture that is not there, is damaged or does not fit the images at hand, and for a class that they do not have.
    """
    if not gates.golden:
        return None
    pipeline = data.whole_pipeline(words)
    made, labels = [], []
    for image in gates.golden:
        where = f"{folder_of(gates.path) / image.file}: golden image {image.id}"
        if image.class_name not in images.classes:
            raise InputError(
                f"{where}: is to be {image.class_name!r}, which is none of the classes at hand, "
                f"{', '.join(images.classes)}; take it out with `python -m harness golden remove {image.id}`, and "
                "add it anew with the name of its class"
            )
        how = Pipeline() if image.made == "pixels" else pipeline
        made.append(pixels_like(images, picture_of(image, gates.path), how, where=where))
        labels.append(images.classes.index(image.class_name))
    return labelled_like(images, made, labels, name="golden")
