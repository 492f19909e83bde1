"""Pictures in the record of a run: captioned images, whose files lie in a folder beside it."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, Literal

from harness.base.errors import InputError, said_of
from harness.base.features import record_keys
from harness.base.files import read_regular
from harness.base.records import record
from harness.run.status import PICTURES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ADDRESS = "data:image/webp;base64,"
"""Start of the address of an image that is part of a page."""
_NAME = re.compile(rf"{PICTURES}/([0-9a-f]{{16}})\.webp")
_MAX_BYTES = 1 << 20
_MIN_ROUNDED_SHARE = 0.005
"""Smallest share that rounds to 1% at least."""
AS_SEEN = "→ as seen"
"""The title of an image that a check has changed."""
ROWS_PICTURED = 48
"""The worst images that have a picture, in a family whose checks are about one image each."""


@record
class CaptionLine:
    """A line below an image: its text, whether it is right, and the share of a class, in [0, 1]."""

    text: str
    kind: Literal["", "right", "wrong"] = ""
    share: float | None = None

    @property
    def percent(self) -> str:
        """Return the share as text."""
        if self.share is None:
            return ""
        if 0 < self.share < _MIN_ROUNDED_SHARE:
            return "<1%"
        return f"{self.share:.0%}"


@record
class Column:
    """An image between its title and its lines; `words` describe it. It may have no image."""

    title: str
    image: str
    lines: tuple[CaptionLine, ...]
    words: str


@record
class Case:
    """One image as several models see it, in columns, and how to read them.

    The first column is the unchanged image, and the last one is the candidate's view.
    """

    columns: tuple[Column, ...]
    caption: str

    @property
    def seen(self) -> str:
        """Return the image that the candidate predicted, without a map; empty without one."""
        for column in self.columns:
            if column.title == AS_SEEN:
                return column.image
        return self.columns[0].image if self.columns else ""

    @property
    def mapped(self) -> str:
        """Return the image under the candidate's Grad-CAM map; without a map, the image as seen."""
        last_image = self.columns[-1].image if self.columns else ""
        return last_image or self.seen

    @property
    def wrong(self) -> str:
        """Return the candidate's wrong prediction as text; empty for a correct one."""
        if not self.columns:
            return ""
        for line in self.columns[-1].lines:
            if line.kind == "wrong":
                return line.text
        return ""

    @property
    def said(self) -> str:
        """Return the image, and the candidate's prediction if it is wrong, as text."""
        words = self.columns[0].words if self.columns else ""
        return ": ".join(filter(None, (words, self.wrong)))


@record
class Face:
    """An image of a sheet, with its `true` class and its caption.

    The caption is `said`: a prediction or a state. `wrong` marks that as an error. `about` and
    `known` have further facts. `words` describes the image for those who cannot see it. It may have
    no image.
    """

    image: str
    true: str
    said: str
    about: str
    words: str
    wrong: bool = True
    known: str = ""


@record
class ExamplePictures:
    """Pictures of a check: cases, the most telling first, and a sheet of faces under a `title`.

    So many were `omitted` to keep the page small; None if their number is not known.
    """

    cases: tuple[Case, ...] = ()
    title: str = ""
    faces: tuple[Face, ...] = ()
    omitted: int | None = 0

    @property
    def seen(self) -> list[tuple[str, str]]:
        """Return the images that the candidate predicted and their captions, most telling first."""
        cases = [(case.seen, case.said) for case in self.cases]
        faces = [(face.image, f"{face.true}: {face.said}") for face in self.faces]
        return [(image, caption) for image, caption in (*cases, *faces) if image]


def address_of(content: bytes) -> str:
    """Return the address of an image with its content, WebP."""
    return f"{ADDRESS}{base64.b64encode(content).decode()}"


def named(address: str, images: dict[str, bytes]) -> str:
    """Return the name of an image in a record, which follows from its content.

    The content is added to `images` under this name.
    """
    content = base64.b64decode(address.removeprefix(ADDRESS))
    name = f"{PICTURES}/{hashlib.sha256(content).hexdigest()[:16]}.webp"
    images[name] = content
    return name


def image_in(folder: Path, name: str) -> bytes:
    """Return the image of a record in this folder.

    Raises `InputError` for a missing image, and for one with another content than its name says.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            f"{name!r} is no name of a picture, such as {PICTURES}/0123456789abcdef.webp"
        )
    try:
        content = read_regular(folder / name, max_bytes=_MAX_BYTES)
    except OSError as error:
        raise InputError(
            f"{folder / name}: a picture of the record cannot be read ({said_of(error)}); copy the "
            f"folder {PICTURES} with it"
        ) from None
    if hashlib.sha256(content).hexdigest()[:16] != match[1]:
        raise InputError(f"{folder / name}: the picture is not that of the record; copy it again")
    return content


def with_images(plain: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return a record with each of its images, an address or a name, as `change` has it.

    Images are the thumbnails, and what stands under a key `image` in pictures of checks and in
    records of features.
    """

    def changed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: changed(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [changed(item) for item in value]
        if key == "image" and value and isinstance(value, str):
            return change(value)
        return value

    keys_with_images = ("pictures", *record_keys() & plain.keys())
    with_pictures = {name: changed(plain[name]) for name in keys_with_images}
    thumbnails = {name: change(image) for name, image in plain["thumbnails"].items()}
    return plain | with_pictures | {"thumbnails": thumbnails}
