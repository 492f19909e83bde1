"""The golden set: images that must never be wrong again, each a check of its own; read and written.

It lies beside the checks file, in the folder `golden`: a list of the images, and a picture for each. The checks file
holds the SHA-256 of the list, and the list that of each picture, so that a set that was declared cannot be left out.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tomlkit
from pydantic import Field

from harness.base import locked
from harness.base.files import read_regular, write_all_or_none
from harness.base.records import read_record, record, refusal_of_schema
from harness.checks.check import Check, ChecksError, Threshold
from harness.checks.shipped import shipped_tests
from harness.measures.accuracy import GOLDEN_RIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

GOLDEN = "golden"
"""The family of its rows, and the folder beside the checks file."""
LIST = "images.toml"
SCHEMA = 2
MAX_BYTES = 16 << 20
"""Of the list; a larger one is refused."""
MAX_PICTURE_BYTES = 64 << 20
_MENDED = "`stress-harness golden list --declare` declares the list as it is, once you have looked at it"
TEST = "test_golden.py"
_HEAD = """\
# Images that must never be wrong again, a check each. `stress-harness golden add | list | remove` writes this list,
# and its SHA-256 into the checks file; after a change by hand, or a merge, `golden list --declare` does.

"""
_DECLARED = re.compile(r"(?m)^\n?(?:<{7}.*\n)?\[golden\]\n((?:[^\[\n][^\n]*(?:\n|\Z)|\n)*)")
_ENTRY = re.compile(r"(?m)^(?:[ \t]*\w+[ \t]*=|<{7}|={7}|>{7}).*(?:\n|\Z)")
"""An entry, or what version control writes around those of two branches."""
_REST = re.compile(r"(?:^[ \t]*(?:#.*)?\n)*\Z", re.MULTILINE)
"""The text between the last entry of a table and the next table: comments on that."""


@record
class GoldenDeclaration:
    """The golden set of a checks file: the SHA-256 of the list, and the number of images."""

    sha256: str
    n: Annotated[int, Field(ge=1)]


@record
class GoldenImage:
    """An image that must be taken for its class, and why.

    `sha256` is that of its picture's file. What is `made` of pixels has them as the network takes them; a picture is
    turned into pixels by the run's own pipeline. `reference` is how many reference models of the panel got it right
    when it was added, and of how many; empty where nobody knows.
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
        """Say how many reference models get it right; empty where nobody knows."""
        return f"{self.reference[0]} of {self.reference[1]} reference models get it right" if self.reference else ""


@record
class _List:
    schema: int
    image: tuple[()] = ()


def folder_of(checks: Path) -> Path:
    """Return the folder of the golden set that belongs to a checks file."""
    return checks.parent / GOLDEN


def read_golden(checks: Path, declared: GoldenDeclaration | None) -> tuple[GoldenImage, ...]:
    """Return the golden set of a checks file, which declares it.

    Raises `ChecksError` for a set that is declared and not there, or another than was declared, and for one that is
    there and not declared: an image would else go unjudged and nobody would know.
    """
    path = folder_of(checks) / LIST
    if declared is None:
        if path.exists():
            raise ChecksError(f"{checks}: {path} is beside it, but it declares no golden set; {_MENDED}")
        return ()
    content = _content(path, f"{declared.n} images must be right by {checks}, which declares them in [golden]")
    if hashlib.sha256(content).hexdigest() != declared.sha256:
        raise ChecksError(
            f"{path}: is not the list that {checks} declares (SHA-256 {declared.sha256[:12]}…); restore both from "
            f"version control, or, if it was meant to change, {_MENDED}"
        )
    return images_in(content, path)


def _content(path: Path, else_said: str) -> bytes:
    try:
        return read_regular(path, max_bytes=MAX_BYTES)
    except OSError as error:
        raise ChecksError(
            f"{path}: cannot be read ({error.strerror}); {else_said}; restore the folder from version control, or take "
            "[golden] out of the checks file if no image is to be golden any more"
        ) from None


def images_in(content: bytes, path: Path) -> tuple[GoldenImage, ...]:
    """Return the images that a list names; raises `ChecksError` for what is no such list."""
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ChecksError(f"{path}: not valid TOML: {error}") from None
    rows, table["image"] = table.get("image", []), []
    head = read_record(_List, table, where=f"{path}", error=ChecksError)
    if head.schema != SCHEMA:
        raise ChecksError(refusal_of_schema(path, head.schema, expected=SCHEMA))
    if not isinstance(rows, list):
        raise ChecksError(f"{path}: image must be an array of tables, written [[image]]")
    images = []
    for number, row in enumerate(rows, start=1):
        where = f"{path}: image {number}"
        if not isinstance(row, dict):
            raise ChecksError(f"{where}: expected a table, found {row!r}")
        renamed = {"class_name" if name == "class" else name: value for name, value in row.items()}
        images.append(read_record(GoldenImage, renamed, where=where, error=ChecksError))
    for field in ("id", "file", "sha256"):
        values = [getattr(image, field) for image in images]
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise ChecksError(f"{path}: {field} {twice} stands there twice; remove one")
    return tuple(images)


def picture_of(image: GoldenImage, checks: Path) -> bytes:
    """Return the content of an image's file; raises `ChecksError` for one that is not what the list says it is."""
    path = folder_of(checks) / image.file
    mended = f"restore it from version control, or give the image up with `stress-harness golden remove {image.id}`"
    try:
        content = read_regular(path, max_bytes=MAX_PICTURE_BYTES)
    except OSError as error:
        raise ChecksError(f"{path}: golden image {image.id} cannot be read ({error.strerror}); {mended}") from None
    if (found := hashlib.sha256(content).hexdigest()) != image.sha256:
        raise ChecksError(
            f"{path}: golden image {image.id} is damaged: its SHA-256 is {found[:12]}…, expected {image.sha256[:12]}…; "
            f"{mended}"
        )
    return content


def rows_of(images: tuple[GoldenImage, ...]) -> tuple[Check, ...]:
    """Return a row for each image: its answer must be right."""
    return tuple(
        Check(
            id=image.id,
            family=GOLDEN,
            metric=GOLDEN_RIGHT.name,
            direction=GOLDEN_RIGHT.direction,
            class_name=image.class_name,
            hand=Threshold(threshold=1, reason=image.reason, n=1, date=image.date),
            keys={"image": position, "because": "; ".join(filter(None, (image.reason, image.agreed)))},
            definition=hashlib.sha256(f"{image.id} {image.sha256} {image.class_name}".encode()).hexdigest(),
        )
        for position, image in enumerate(images)
    )


def list_text(images: Sequence[GoldenImage]) -> str:
    """Return the list of a golden set."""
    document = tomlkit.document()
    document["schema"] = SCHEMA
    rows = tomlkit.aot()
    for image in images:
        row = tomlkit.table()
        row.update(
            {
                "id": image.id,
                "class": image.class_name,
                "reason": image.reason,
                "date": image.date,
                "source": image.source,
                "file": image.file,
                "sha256": image.sha256,
                "made": image.made,
                **({"reference": list(image.reference)} if image.reference else {}),
            }
        )
        rows.append(row)
    document["image"] = rows
    return _HEAD + re.sub(r"\n+\[\[image\]\]", "\n\n[[image]]", tomlkit.dumps(document))


def with_declaration(text: str, content: bytes, count: int, *, path: Path) -> str:
    """Return the text of a checks file that declares a list of this content, of so many images; none of no images.

    Raises `ChecksError` for a file that cannot be written so.
    """
    without = _DECLARED.sub(lambda found: _ENTRY.sub("", found[1]), text)  # Comments are a person's, and stay.
    tables = re.split(r"(?m)^(?=\[)", without)
    ours = [number for number, table in enumerate(tables) if re.match(r"\[data[\].]", table)]
    said = {"sha256": hashlib.sha256(content).hexdigest(), "n": count}
    made = without
    if count and ours:
        last = tables[ours[-1]]
        rest = _REST.search(last)
        start = rest.start() if rest else len(last)
        table = tomlkit.dumps({"golden": said})
        tables[ours[-1]] = f"{last[:start]}\n{table}{last[start:] or chr(10)}"
        made = "".join(tables)
    before = _table(text) or _table(without)  # Two declarations, of branches that were merged, are no TOML.
    if before is None:
        raise ChecksError(f"{path}: not valid TOML; correct it, or finish the merge, then `golden list --declare`")
    before.pop("golden", None)
    if _table(made) != {**before, **({"golden": said} if count else {})}:
        raise ChecksError(
            f"{path}: its [golden] cannot be written; write it by hand: {tomlkit.dumps({'golden': said}).strip()!r}"
        )
    return made


def _table(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:  # Such as of two [golden], one of them written in a way of its own.
        return None


@contextmanager
def alone_with(checks: Path) -> Iterator[None]:
    """Keep others that change a golden set, or a checks file that declares it, waiting until the block ends."""
    with ExitStack() as stack:
        for path in (folder_of(checks), *declaring_files(checks)):
            stack.enter_context(locked(path))
        yield


def declaring_files(checks: Path) -> list[Path]:
    """Return the checks files that declare a golden set: the one given, its quick one, and those that do already.

    Each of them once, and of a link the file that it leads to, so that the link stays one.
    """
    quick = {f"{path.stem}-quick.toml" for path in (checks, checks.resolve())}
    found = {checks.resolve(): checks}
    for path in sorted(checks.parent.glob("*.toml")):
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            if path.name in quick:  # Perhaps in the middle of a merge: who writes it says so.
                found.setdefault(path.resolve(), path)
            continue
        if "data" in table and (path.name in quick or "golden" in table):
            found.setdefault(path.resolve(), path)
    return [end if path.is_symlink() else path for end, path in found.items()]


def write_golden(
    checks: Path, golden: Sequence[GoldenImage], pictures: Mapping[str, bytes], *, removed: Sequence[GoldenImage] = ()
) -> list[Path]:
    """Write the list, new pictures by their names, declarations and, where it is missing, the test; say which files.

    Declarations come last: who reads in between finds a set that is not the one declared, which is an error. Pictures
    of images that were `removed` are deleted, and no other file. Raises `ChecksError` for a list that cannot be read
    back, with nothing written.
    """
    folder = folder_of(checks)
    content = _content_of(golden, folder / LIST)
    files = {folder / name: picture for name, picture in pictures.items()}
    if golden:
        files[folder / LIST] = content
        if not (test := checks.parent / TEST).exists():
            files[test] = next(shipped.text for shipped in shipped_tests() if shipped.name == TEST).encode()
    for path in declaring_files(checks):
        files[path] = with_declaration(path.read_text("utf-8"), content, len(golden), path=path).encode()
    write_all_or_none(files)
    if not golden:
        (folder / LIST).unlink(missing_ok=True)
    for image in removed:
        (folder / image.file).unlink(missing_ok=True)
    return [path for path in files if path.name not in pictures]


def _content_of(golden: Sequence[GoldenImage], path: Path) -> bytes:
    """Return the content of the list, which `read_golden` takes."""
    try:
        content = list_text(golden).encode()
    except UnicodeEncodeError as error:  # Names on disk may hold bytes that are no text.
        raise ChecksError(f"{path}: cannot be written, {error.object!r} is not all text; name it otherwise") from None
    if len(content) > MAX_BYTES:
        raise ChecksError(f"{path}: of {len(content)} bytes, more than the limit of {MAX_BYTES}; shorten the reasons")
    images_in(content, path)
    return content
