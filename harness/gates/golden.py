"""The golden set: images that must never be wrong again, each a row of its own; read as the gates file declares it.

It lies beside the gates file, in the folder `golden`: a list of the images, and a picture for each. The gates file
holds the SHA-256 of the list, and the list that of each picture, so that a set that was declared cannot be left out.
"""

from __future__ import annotations

import hashlib
import tomllib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness.gates.rows import Bound, Gate, GatesError
from harness.measures.golden import GOLDEN_RIGHT
from harness.store.files import read_regular
from harness.store.records import read_record, record

if TYPE_CHECKING:
    from pathlib import Path

GOLDEN = "golden"
"""The family of its rows, and the folder beside the gates file."""
LIST = "images.toml"
SCHEMA = 1
MAX_BYTES = 16 << 20
"""Of the list; a larger one is refused."""
MAX_PICTURE_BYTES = 64 << 20
_MENDED = "`python -m harness golden list --declare` declares the list as it is, once you have looked at it"


@record
class GoldenDeclaration:
    """What a gates file says of its golden set: the SHA-256 of the list, and how many images there are."""

    sha256: str
    n: Annotated[int, Field(ge=1)]


@record
class GoldenImage:
    """An image that must be taken for its class, and why.

    `sha256` is that of its picture's file. What is `made` of pixels has them as the network takes them; a picture is
    turned into pixels by the run's own pipeline. `healthy` is how many retrains of the panel got it right when it was
    added, and of how many; empty where nobody knows.
    """

    id: Annotated[str, Field(pattern=r"^golden-[0-9a-f]{8,64}$")]
    class_name: str
    reason: Annotated[str, Field(min_length=1)]
    date: str
    source: str
    file: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    made: Literal["pixels", "picture"]
    healthy: tuple[int, int] | tuple[()] = ()

    @property
    def agreed(self) -> str:
        """Say how many healthy retrains get it right; empty where nobody knows."""
        return f"{self.healthy[0]} of {self.healthy[1]} retrains get it right" if self.healthy else ""


@record
class _List:
    schema: int
    image: tuple[()] = ()


def folder_of(gates: Path) -> Path:
    """Return the folder of the golden set that belongs to a gates file."""
    return gates.parent / GOLDEN


def read_golden(gates: Path, declared: GoldenDeclaration | None) -> tuple[GoldenImage, ...]:
    """Return the golden set of a gates file, which declares it.

    Raises `GatesError` for a set that is declared and not there, or another than was declared, and for one that is
    there and not declared: an image would else go unjudged and nobody would know.
    """
    path = folder_of(gates) / LIST
    if declared is None:
        if path.exists():
            raise GatesError(f"{gates}: {path} is beside it, but it declares no golden set; {_MENDED}")
        return ()
    content = _content(path, f"{declared.n} images must be right by {gates}, which declares them in [golden]")
    if hashlib.sha256(content).hexdigest() != declared.sha256:
        raise GatesError(
            f"{path}: is not the list that {gates} declares (SHA-256 {declared.sha256[:12]}…); restore both from "
            f"version control, or, if it was meant to change, {_MENDED}"
        )
    return images_in(content, path)


def _content(path: Path, else_said: str) -> bytes:
    try:
        return read_regular(path, max_bytes=MAX_BYTES)
    except OSError as error:
        raise GatesError(
            f"{path}: cannot be read ({error.strerror}); {else_said}; restore the folder from version control, or take "
            "[golden] out of the gates file if no image is to be golden any more"
        ) from None


def images_in(content: bytes, path: Path) -> tuple[GoldenImage, ...]:
    """Return the images that a list names; raises `GatesError` for what is no such list."""
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise GatesError(f"{path}: not valid TOML: {error}") from None
    rows, table["image"] = table.get("image", []), []
    head = read_record(_List, table, where=f"{path}", error=GatesError)
    if head.schema != SCHEMA or not isinstance(rows, list):
        raise GatesError(f"{path}: not a golden set of schema {SCHEMA}, which this version reads")
    images = []
    for number, row in enumerate(rows, start=1):
        where = f"{path}: image {number}"
        if not isinstance(row, dict):
            raise GatesError(f"{where}: expected a table, found {row!r}")
        renamed = {"class_name" if name == "class" else name: value for name, value in row.items()}
        images.append(read_record(GoldenImage, renamed, where=where, error=GatesError))
    for field in ("id", "file", "sha256"):
        values = [getattr(image, field) for image in images]
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise GatesError(f"{path}: {field} {twice} stands there twice; remove one")
    return tuple(images)


def picture_of(image: GoldenImage, gates: Path) -> bytes:
    """Return the content of an image's file; raises `GatesError` for one that is not what the list says it is."""
    path = folder_of(gates) / image.file
    mended = f"restore it from version control, or give the image up with `python -m harness golden remove {image.id}`"
    try:
        content = read_regular(path, max_bytes=MAX_PICTURE_BYTES)
    except OSError as error:
        raise GatesError(f"{path}: golden image {image.id} cannot be read ({error.strerror}); {mended}") from None
    if (found := hashlib.sha256(content).hexdigest()) != image.sha256:
        raise GatesError(
            f"{path}: golden image {image.id} is damaged: its SHA-256 is {found[:12]}…, expected {image.sha256[:12]}…; "
            f"{mended}"
        )
    return content


def rows_of(images: tuple[GoldenImage, ...]) -> tuple[Gate, ...]:
    """Return a row for each image: its answer must be right."""
    return tuple(
        Gate(
            id=image.id,
            family=GOLDEN,
            metric=GOLDEN_RIGHT.name,
            direction=GOLDEN_RIGHT.direction,
            class_name=image.class_name,
            hand=Bound(bound=1, reason=image.reason, n=1, date=image.date),
            keys={"image": position, "because": "; ".join(filter(None, (image.reason, image.agreed)))},
            definition=hashlib.sha256(f"{image.id} {image.sha256} {image.class_name}".encode()).hexdigest(),
        )
        for position, image in enumerate(images)
    )
