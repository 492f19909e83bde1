"""The golden set.

A list of images that must never be predicted wrongly again, with a picture of each.

It is the folder `golden` beside the checks file. The checks file holds the SHA-256 of the list, and
the list that of each picture, so a missing or changed set never goes unnoticed.
"""

from __future__ import annotations

import hashlib
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.base.files import read_regular
from harness.base.records import read_record, record, refusal_of_schema
from harness.checks import Check, ChecksError, Threshold
from harness.checks.tables import parsed
from harness.data.images import labelled_like, pixels_like
from harness.data.pipeline import Pipeline
from harness.features.golden.measures import GOLDEN_RIGHT

if TYPE_CHECKING:
    from pathlib import Path

    from harness.checks import ChecksFile
    from harness.data import LabelledImages
    from harness.run.settings import ModelSettings

GOLDEN, LIST, SCHEMA = "golden", "images.toml", 2
MAX_BYTES = 64 << 20
"""Size of the largest list or picture."""
GoldenError = partial(InputError, code=Code.GOLDEN)
_DECLARE = "look at the list, then declare it with `stress-harness golden list --declare`"


@record
class GoldenDeclaration:
    """The table of the checks file: the SHA-256 of the list, and the number of images."""

    sha256: str
    n: Annotated[int, Field(ge=1)]


@record
class GoldenImage:
    """An image that must be predicted as its class, with the reason.

    `sha256` is that of its picture's file. A file `made` of pixels holds the network's input; the
    run's own pipeline turns any other picture into pixels. `reference` counts the reference models
    that predicted it correctly when it was added, and all of them; empty if unknown.
    """

    id: Annotated[str, Field(pattern=r"^golden-[0-9a-f]{8,64}$")]
    class_name: str
    reason: Annotated[str, Field(min_length=1)]
    date: str
    source: str
    file: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    made: Literal["pixels", "picture"]
    reference: tuple[int, int] | tuple[()] = ()

    @property
    def agreed(self) -> str:
        """Return a phrase with the number of reference models that predict it correctly.

        Empty if unknown.
        """
        said = " of ".join(map(str, self.reference))
        return f"{said} reference models predict it correctly" if said else ""


@record
class _List:
    schema: int
    image: tuple[dict[str, Any], ...] = ()


def read_set(checks: Path, table: Any) -> tuple[GoldenImage, ...]:
    """Return the images that the table of a checks file declares, none without a table.

    Raises `ChecksError` for a set that is missing, has changed or is not declared: no check would
    measure its images.
    """
    path = checks.parent / GOLDEN / LIST
    if table is None:
        if path.exists():
            raise ChecksError(
                f"{checks}: {path} is beside it, but it declares no golden set; {_DECLARE}"
            )
        return ()
    declared = read_record(GoldenDeclaration, table, where=f"{checks}: [golden]", error=ChecksError)
    mended = (
        f"[golden] in {checks} declares {declared.n} images. Restore the folder from version "
        f"control, or remove [golden] to give up the set; after a change on purpose, {_DECLARE}"
    )
    return images_in(
        _read(path, declared.sha256, f"is not the list that {checks} declares", mended), path
    )


def _read(path: Path, sha256: str, changed: str, mended: str) -> bytes:
    try:
        content = read_regular(path, max_bytes=MAX_BYTES)
    except OSError as error:
        raise ChecksError(f"{path}: cannot be read ({error.strerror}); {mended}") from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ChecksError(
            f"{path}: {changed}: its SHA-256 is {found[:12]}…, expected {sha256[:12]}…; {mended}"
        )
    return content


def images_in(content: bytes, path: Path) -> tuple[GoldenImage, ...]:
    """Return the images that a list names; raises `ChecksError` for an invalid list."""
    try:
        table = parsed(content)
    except (ValueError, RecursionError) as error:
        raise ChecksError(f"{path}: not valid TOML: {error}") from None
    found, images = read_record(_List, table, where=f"{path}", error=ChecksError), []
    if found.schema != SCHEMA:
        raise ChecksError(refusal_of_schema(path, found.schema, expected=SCHEMA))
    for number, row in enumerate(found.image, start=1):
        renamed = {"class_name" if name == "class" else name: value for name, value in row.items()}
        images.append(
            read_record(GoldenImage, renamed, where=f"{path}: image {number}", error=ChecksError)
        )
    for field in ("id", "file", "sha256"):
        values = [getattr(image, field) for image in images]
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise ChecksError(f"{path}: {field} {twice} occurs twice; remove one")
    return tuple(images)


def golden_set(checks: ChecksFile) -> tuple[GoldenImage, ...]:
    """Return the golden set of a checks file, read again."""
    return read_set(checks.path, checks.tables[GOLDEN])


def rows(checks: Path, table: Any) -> tuple[Check, ...]:
    """Return a row for each golden image: its prediction must be correct."""
    return tuple(
        Check(
            id=image.id,
            family=GOLDEN,
            metric=GOLDEN_RIGHT.name,
            direction=GOLDEN_RIGHT.direction,
            class_name=image.class_name,
            hand=Threshold(threshold=1, reason=image.reason, n=1, date=image.date),
            keys={
                "image": position,
                "because": "; ".join(filter(None, (image.reason, image.agreed))),
            },
            definition=hashlib.sha256(
                f"{image.id} {image.sha256} {image.class_name}".encode()
            ).hexdigest(),
        )
        for position, image in enumerate(read_set(checks, table))
    )


def picture_of(image: GoldenImage, checks: Path) -> bytes:
    """Return the content of an image's file.

    Raises:
        ChecksError: If its hash is not the one in the list.
    """
    mended = (
        "restore it from version control, or give the image up with `stress-harness golden remove "
        f"{image.id}`"
    )
    return _read(
        checks.parent / GOLDEN / image.file,
        image.sha256,
        f"golden image {image.id} is damaged",
        mended,
    )


def labelled_images(
    checks: ChecksFile, images: LabelledImages, model: ModelSettings
) -> LabelledImages:
    """Return the golden set, of one image at least, as labeled images.

    The pipeline of the model's data makes the pictures. Raises `InputError` for a picture that is
    missing, damaged or does not fit the test images, and for a class that they do not have.
    """
    made, labels = [], []
    own = cache(lambda: model.whole_pipeline(model.transform_named))  # It may build a network.
    for image in golden_set(checks):
        where = f"{checks.path.parent / GOLDEN / image.file}: golden image {image.id}"
        if image.class_name not in images.classes:
            raise GoldenError(
                f"{where}: its class {image.class_name!r} is none of the classes "
                f"{', '.join(images.classes)}. Remove it with `stress-harness golden remove "
                f"{image.id}`, and add it again with the name of its class."
            )
        how = Pipeline() if image.made == "pixels" else own()
        made.append(pixels_like(images, picture_of(image, checks.path), how, where=where))
        labels.append(images.classes.index(image.class_name))
    return labelled_like(images, made, labels, name=GOLDEN)
