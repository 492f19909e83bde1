"""The golden images of a run: read, compared with their listed hashes, converted like the test images, and added."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.base.codes import Code
from harness.base.errors import InputError, writable
from harness.base.files import read_regular
from harness.base.progress import Progress
from harness.checks import read_checks
from harness.checks.golden import (
    LIST,
    MAX_BYTES,
    MAX_PICTURE_BYTES,
    GoldenImage,
    alone_with,
    folder_of,
    images_in,
    picture_of,
    write_golden,
)
from harness.data.image_files import SUFFIXES, as_png
from harness.data.images import labelled_like, pixels_like
from harness.data.pipeline import Pipeline
from harness.networks import NetworkOptions
from harness.run.inputs import expect_data_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness.checks import ChecksFile
    from harness.data import LabelledImages
    from harness.run.settings import ModelSettings

_DIGITS = 18
"""Digits of a number that messages show."""


class GoldenError(InputError):
    """Golden images, or a list of them, that cannot be used."""

    code = Code.GOLDEN


def add_golden_images(
    checks_path: Path,
    names: Sequence[str],
    model: ModelSettings,
    *,
    reason: str,
    class_name: str | None = None,
    reference_models: Callable[[ChecksFile], Iterable[tuple[Path | str, str]]],
) -> tuple[list[GoldenImage], int, list[Path], str]:
    """Add images to the golden set, each with the number of reference models that predict it correctly.

    Names are numbers of test images, pictures, or folders of pictures. `class_name` is the class of all of them; by
    default the label of a test image, or the folder of a picture. `reference_models` gives the path and SHA-256 of
    each, or raises `InputError` if none are known. Returns the images, the number of the whole set, and the files
    written. The last result says why the predictions of the reference models are unknown, empty if they are known.
    Raises `InputError` for an empty reason, and for an image whose pixels, or file, are in the set already.
    """
    from harness.inference import open_model

    if not reason.strip():
        raise GoldenError("--reason: is empty; say why these images matter, which the report shows when one fails")
    with alone_with(checks_path):
        checks = read_checks(checks_path)
        images, own = images_for(checks, model), cache(lambda: model.whole_pipeline(model.transform_named))
        old, present = checks.golden, golden_images(checks, images, model)
        theirs = () if present is None else present.pixels.numpy()
        known = [(image.id, image, pixels) for image, pixels in zip(old, theirs, strict=True)]
        new, made, pictures, unknown = list[GoldenImage](), list[np.ndarray](), {}, ""
        for source, content, suffix, label, where in chain.from_iterable(
            _found(name, images, class_name) for name in names
        ):
            if (wanted := class_name or label) not in images.classes:
                raise GoldenError(
                    f"{where}: {wanted!r} is none of the classes {', '.join(images.classes)}; name it with --class"
                )
            how: Literal["pixels", "picture"] = "pixels" if where.isdecimal() else "picture"
            sha256 = hashlib.sha256(content).hexdigest()
            pixels = pixels_like(images, content, Pipeline() if how == "pixels" else own(), where=source)
            for name, other, known_pixels in known:
                if other.sha256 == sha256 or np.array_equal(pixels, known_pixels):
                    raise GoldenError(f"{source}: is golden already, {name}, {other.class_name}; leave it out")
            ids = {image.id for _, image, _ in known}
            free = next(name for digits in (8, 16, 64) if (name := f"golden-{sha256[:digits]}") not in ids)
            today = datetime.now(UTC).date().isoformat()
            image = GoldenImage(
                free, wanted, writable(reason.strip()), today, writable(source), free + suffix, sha256, how
            )
            known.append((source, image, pixels))
            new.append(image)
            made.append(pixels)
            pictures[image.file] = content
        asked = labelled_like(images, made, [images.classes.index(image.class_name) for image in new], name="golden")
        try:
            correct, panel = [], list(reference_models(checks))
            for path, sha256 in Progress(panel, desc="asking reference models", unit="network", delay=2):
                network = open_model(path, asked, network=model.part(NetworkOptions), device=model.device)
                if network.sha256 != sha256:
                    raise GoldenError(f"{path} is not the network of the panel {checks.recipe.get('panel')}")
                correct.append(network.predict(asked).correct)
            counts = np.array(correct, dtype=int).reshape(-1, len(asked)).sum(axis=0).tolist()
            new = [replace(image, reference=(right, len(panel))) for image, right in zip(new, counts, strict=True)]
        except (InputError, OSError) as error:
            unknown = str(error)
        return new, len(known), write_golden(checks_path, [*old, *new], pictures), unknown


def agreement(image: GoldenImage, unknown: str) -> str:
    """Return the number of reference models that predict an added image correctly, and its meaning for the gate."""
    if not image.reference:
        return f"how many reference models predict it correctly is not known ({unknown})"
    right, reference_models = image.reference
    if not right:
        return f"{image.agreed}: this check fails each of them"
    few = f"only {image.agreed}: this check fails about {1 - right / reference_models:.0%} of reference models"
    return image.agreed if right == reference_models else few


def declare_golden_images(checks_path: Path) -> tuple[int, list[Path], list[str]]:
    """Declare the list in the checks files, after it was merged or edited by hand.

    Returns the number of images, the checks files written, and pictures not on the list. The images themselves are not
    looked at: `remove_golden_images` gives up those of a declared set. Raises `InputError` for an empty list.
    """
    with alone_with(checks_path):
        path = folder_of(checks_path) / LIST
        golden = images_in(read_regular(path, max_bytes=MAX_BYTES), path)
        if not golden:
            raise GoldenError(
                f"{path}: names no image; restore it from version control. To end the golden set, delete the file and "
                "take [golden] out of the checks files."
            )
        written = write_golden(checks_path, golden, {})
    named = {image.file for image in golden}
    pictures = [file.name for file in sorted(path.parent.iterdir()) if file.suffix.lower() in SUFFIXES]
    return len(golden), written, [name for name in pictures if name not in named]


def remove_golden_images(checks_path: Path, ids: Sequence[str]) -> tuple[int, list[Path]]:
    """Remove images by their ids; return how many are left and the files written.

    Raises `InputError` for an unknown id.
    """
    with alone_with(checks_path):
        golden = read_checks(checks_path).golden
        if unknown := [name for name in ids if name not in {image.id for image in golden}]:
            raise GoldenError(f"{unknown[0]}: no golden image of {checks_path} has this id; `golden list` names them")
        left, removed = ([image for image in golden if (image.id in ids) is gone] for gone in (False, True))
        return len(left), write_golden(checks_path, left, {}, removed=removed)


def images_for(checks: ChecksFile, model: ModelSettings) -> LabelledImages:
    """Return the images that a checks file was made for; raises `InputError` for other data."""
    images = model.load(model.transform_named)
    expect_data_of(checks, images)
    return replace(images, classes=checks.data.classes) if checks.data.classes else images


def golden_images(checks: ChecksFile, images: LabelledImages, model: ModelSettings) -> LabelledImages | None:
    """Return the golden set of a checks file as labeled images, in its order; None of an empty one.

    The pipeline of the model's data makes the pictures. Raises `InputError` for a picture that is missing, damaged or
    does not fit the test images, and for a class that they do not have.
    """
    made, labels = [], []
    own = cache(lambda: model.whole_pipeline(model.transform_named))  # It may build a network.
    for image in checks.golden:
        where = f"{folder_of(checks.path) / image.file}: golden image {image.id}"
        if image.class_name not in images.classes:
            raise GoldenError(
                f"{where}: its class {image.class_name!r} is none of the classes {', '.join(images.classes)}. Remove "
                f"it with `stress-harness golden remove {image.id}`, and add it again with the name of its class."
            )
        how = Pipeline() if image.made == "pixels" else own()
        made.append(pixels_like(images, picture_of(image, checks.path), how, where=where))
        labels.append(images.classes.index(image.class_name))
    return labelled_like(images, made, labels, name="golden") if made else None


def _found(name: str, images: LabelledImages, class_name: str | None) -> Iterator[tuple[str, bytes, str, str, str]]:
    """Yield the source of each image of a name, its content, the suffix for a file, its label and its place."""
    if name.isdecimal():
        if len(name.lstrip("0")) > len(str(len(images))) or (number := int(name)) >= len(images):
            shown = name if len(name) <= _DIGITS else f"{name[:_DIGITS]}…"
            raise GoldenError(f"{shown}: there are {len(images)} test images, from 0; a file of this name is ./{shown}")
        content, label = as_png(images.pixels[number].numpy()), images.classes[int(images.labels[number])]
        yield f"image {number} of {images.name}", content, ".png", label, name
        return
    path, files = Path(name), [Path(name)]
    if path.is_dir():
        pattern = "*/*" if class_name is None else "*"
        files = sorted(file for file in path.glob(pattern) if file.suffix.lower() in SUFFIXES)
    if not files:
        raise GoldenError(f"{path}: no pictures in it; expected a folder per class, or pictures themselves and --class")
    for file in files:
        if (suffix := file.suffix.lower()) not in SUFFIXES:
            known = ", ".join(sorted(SUFFIXES))
            raise GoldenError(f"{file}: expected a number of a test image, or a picture in {known}")
        # The folder of the entry itself, which may be a link to a file elsewhere.
        label, content = writable(file.absolute().parent.name), read_regular(file, max_bytes=MAX_PICTURE_BYTES)
        yield file.name, content, suffix, label, str(file)
