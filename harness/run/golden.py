"""The golden images of a run: read, compared with their listed hashes, converted like the test images, and added."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.base.codes import Code
from harness.base.errors import InputError, writable
from harness.base.files import read_regular
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
from harness.run.compatibility import expect_data_of
from harness.run.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.checks import ChecksFile
    from harness.data import LabelledImages
    from harness.data.options import DataOptions
    from harness.data.transforms import Transform

_MAX_DIGITS = 18
"""Digits of the number of a test image; no data have as many images."""


class GoldenError(InputError):
    """Golden images, or a list of them, that cannot be used."""

    code = Code.GOLDEN


@dataclass(frozen=True)
class _New:
    content: bytes
    suffix: str
    class_name: str
    source: str
    made: Literal["pixels", "picture"]

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of its file."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class GoldenRequest:
    """Images to add to the golden set of a checks file: numbers of test images, pictures, or folders of pictures.

    `class_name` is the class of all of them; by default the label of a test image, or the folder of a picture.
    """

    checks_path: Path
    images: tuple[str, ...]
    reason: str
    class_name: str | None = None
    model: ModelSettings = field(default_factory=ModelSettings)

    def __post_init__(self) -> None:
        """Raise `InputError` for an empty reason."""
        if not self.reason.strip():
            raise GoldenError("--reason: is empty; say why these images matter, which the report shows when one fails")


@dataclass(frozen=True)
class AddedImages:
    """Golden images `added`, the number of the whole set, and the files written.

    `unknown` says why the number of reference models that predict them correctly is unknown; empty if it is known.
    """

    added: tuple[GoldenImage, ...]
    count: int
    written: tuple[Path, ...]
    unknown: str

    def agreement(self, image: GoldenImage) -> str:
        """Return the number of reference models that predict an added image correctly, and its meaning for the gate."""
        if not image.reference:
            return f"how many reference models predict it correctly is not known ({self.unknown})"
        right, reference_models = image.reference
        if right == reference_models:
            return image.agreed
        if not right:
            return f"{image.agreed}: this check fails each of them"
        return f"only {image.agreed}: this check fails about {1 - right / reference_models:.0%} of reference models"


def add_golden_images(
    request: GoldenRequest, *, reference_models: Callable[[ChecksFile], Iterable[tuple[Path | str, str]]]
) -> AddedImages:
    """Add images to the golden set, each with the number of reference models that predict it correctly.

    `reference_models` gives the path and SHA-256 of each, or raises `InputError` if none are known.
    """
    with alone_with(request.checks_path):
        checks = read_checks(request.checks_path)
        images = images_for(checks, request.model)
        new = [each for name in request.images for each in _found(name, images, request.class_name)]
        asked = _made(new, checks, images, request.model)
        right, unknown = [], ""
        try:
            right = _correct_counts(reference_models(checks), asked, request, named=str(checks.recipe.get("panel")))
        except (InputError, OSError) as error:
            unknown = str(error)
        kept = list(checks.golden)
        for at, each in enumerate(new):
            counts = right[at] if right else ()
            kept.append(_golden(each, request.reason.strip(), {image.id for image in kept}, counts))
        added = kept[len(checks.golden) :]
        pictures = {image.file: each.content for image, each in zip(added, new, strict=True)}
        written = write_golden(request.checks_path, kept, pictures)
    return AddedImages(tuple(added), len(kept), tuple(written), unknown)


@dataclass(frozen=True)
class DeclaredImages:
    """The golden set as its list says: the number of images, the checks files written, and pictures not on the list."""

    count: int
    written: tuple[Path, ...]
    others: tuple[str, ...]


def declare_golden_images(checks_path: Path) -> DeclaredImages:
    """Declare the list in the checks files, after it was merged or edited by hand.

    The images themselves are not looked at: `remove_golden_images` gives up those of a declared set. Raises
    `InputError` for an empty list.
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
    return DeclaredImages(len(golden), tuple(written), tuple(name for name in pictures if name not in named))


def remove_golden_images(checks_path: Path, ids: Sequence[str]) -> tuple[int, tuple[Path, ...]]:
    """Remove images by their ids; return how many are left and the files written.

    Raises `InputError` for an unknown id.
    """
    with alone_with(checks_path):
        golden = read_checks(checks_path).golden
        known = {image.id for image in golden}
        if unknown := [name for name in ids if name not in known]:
            raise GoldenError(f"{unknown[0]}: no golden image of {checks_path} has this id; `golden list` names them")
        left = [image for image in golden if image.id not in ids]
        removed = [image for image in golden if image.id in ids]
        written = write_golden(checks_path, left, {}, removed=removed)
    return len(left), tuple(written)


def listed_golden_images(checks_path: Path) -> tuple[GoldenImage, ...]:
    """Return the golden set of a checks file."""
    return read_checks(checks_path).golden


def expect_pictures(checks_path: Path) -> None:
    """Raise `InputError` for a golden image whose picture is missing or damaged."""
    for image in read_checks(checks_path).golden:
        picture_of(image, checks_path)


def expect_fitting(checks_path: Path, model: ModelSettings) -> None:
    """Raise `InputError` for a golden image that does not fit the images and the classes of the data."""
    checks = read_checks(checks_path)
    golden_images(checks, images_for(checks, model), model, model.transform_named)


def images_for(checks: ChecksFile, model: ModelSettings) -> LabelledImages:
    """Return the images that a checks file was made for; raises `InputError` for other data."""
    images = model.load(model.transform_named)
    expect_data_of(checks, images)
    return replace(images, classes=checks.data.classes) if checks.data.classes else images


def golden_images(
    checks: ChecksFile, images: LabelledImages, data: DataOptions, words: Callable[[str], Transform] | None = None
) -> LabelledImages | None:
    """Return the golden set of a checks file as labeled images, in its order; None of an empty one.

    The pipeline of the data's options makes the pictures, see `DataOptions.load`. Raises `InputError` for a picture
    that is missing, damaged or does not fit the test images, and for a class that they do not have.
    """
    if not checks.golden:
        return None
    pipeline = data.whole_pipeline(words)
    made, labels = [], []
    for image in checks.golden:
        where = f"{folder_of(checks.path) / image.file}: golden image {image.id}"
        if image.class_name not in images.classes:
            raise GoldenError(
                f"{where}: its class {image.class_name!r} is none of the classes {', '.join(images.classes)}. Remove "
                f"it with `stress-harness golden remove {image.id}`, and add it again with the name of its class."
            )
        how = Pipeline() if image.made == "pixels" else pipeline
        made.append(pixels_like(images, picture_of(image, checks.path), how, where=where))
        labels.append(images.classes.index(image.class_name))
    return labelled_like(images, made, labels, name="golden")


def _made(new: Sequence[_New], checks: ChecksFile, images: LabelledImages, model: ModelSettings) -> LabelledImages:
    """Return the new images, converted like the test images.

    Raises `InputError` for one whose pixels, or file, are in the set already.
    """
    words = model.transform_named
    present, pipeline = golden_images(checks, images, model, words), model.whole_pipeline(words)
    names = [f"{image.id}, {image.class_name}" for image in checks.golden]
    files = [image.sha256 for image in checks.golden]
    pixels = [] if present is None else list(present.pixels.numpy())
    for each in new:
        how = Pipeline() if each.made == "pixels" else pipeline
        made = pixels_like(images, each.content, how, where=each.source)
        for name, file, other in zip(names, files, pixels, strict=True):
            if file == each.sha256 or np.array_equal(made, other):
                raise GoldenError(f"{each.source}: is golden already, {name}; leave it out")
        names.append(f"{each.source}, {each.class_name}")
        files.append(each.sha256)
        pixels.append(made)
    labels = [images.classes.index(each.class_name) for each in new]
    return labelled_like(images, pixels[len(checks.golden) :], labels, name="golden")


def _golden(new: _New, reason: str, taken: set[str], reference: tuple[int, int] | tuple[()]) -> GoldenImage:
    name = next(name for length in (8, 16, 64) if (name := f"golden-{new.sha256[:length]}") not in taken)
    return GoldenImage(
        id=name,
        class_name=new.class_name,
        reason=writable(reason),
        date=datetime.now(UTC).date().isoformat(),
        source=writable(new.source),
        file=name + new.suffix,
        sha256=new.sha256,
        made=new.made,
        reference=reference,
    )


def _found(name: str, images: LabelledImages, class_name: str | None) -> list[_New]:

    def class_of(said: str, where: str) -> str:
        if (wanted := class_name or said) not in images.classes:
            raise GoldenError(
                f"{where}: {wanted!r} is none of the classes {', '.join(images.classes)}; name it with --class"
            )
        return wanted

    if name.isdecimal():
        if len(name) > _MAX_DIGITS or (number := int(name)) >= len(images):
            said = name if len(name) <= _MAX_DIGITS else f"{name[:_MAX_DIGITS]}…"
            raise GoldenError(f"{said}: there are {len(images)} test images, from 0; a file of this name is ./{said}")
        label = class_of(images.classes[int(images.labels[number])], name)
        content = as_png(images.pixels[number].numpy())
        return [_New(content, ".png", label, f"image {number} of {images.name}", "pixels")]
    path = Path(name)
    if not path.is_dir():
        files = [path]
    elif class_name is not None:
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    else:
        files = sorted(file for file in path.glob("*/*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise GoldenError(f"{path}: no pictures in it; expected a folder per class, or pictures themselves and --class")
    # The folder of the entry itself, which may be a link to a file elsewhere.
    return [_picture(file, class_of(writable(file.absolute().parent.name), str(file))) for file in files]


def _picture(file: Path, class_name: str) -> _New:
    if (suffix := file.suffix.lower()) not in SUFFIXES:
        raise GoldenError(f"{file}: expected a number of a test image, or a picture in {', '.join(sorted(SUFFIXES))}")
    return _New(read_regular(file, max_bytes=MAX_PICTURE_BYTES), suffix, class_name, file.name, "picture")


def _correct_counts(
    reference_models: Iterable[tuple[Path | str, str]], asked: LabelledImages, request: GoldenRequest, *, named: str
) -> list[tuple[int, int]]:
    """Return the number of reference models of the panel `named` that predict each image correctly, and of all."""
    from harness.base.progress import Progress
    from harness.inference import open_model

    known, right = list(reference_models), np.zeros(len(asked), dtype=np.int64)
    for path, sha256 in Progress(known, desc="asking reference models", unit="network", delay=2):
        model = open_model(path, asked, network=request.model.part(NetworkOptions), device=request.model.device)
        if model.sha256 != sha256:
            raise GoldenError(f"{path} is not the network of the panel {named}")
        right += model.predict(asked).correct
    return [(int(count), len(known)) for count in right]
