"""The golden set: images that the model must never predict wrongly again, each a check of its own; read and written.

The folder `golden` beside the checks file holds a list of the images and a picture of each. The checks file holds the
SHA-256 of the list, and the list that of each picture. A missing or changed set therefore never goes unnoticed.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tomlkit
from pydantic import Field

from harness.base.files import locked, read_regular, write_all_or_none
from harness.base.records import as_plain, read_record, record, refusal_of_schema
from harness.checks.check import Check
from harness.checks.first_checks import shipped_tests
from harness.checks.rows import ChecksError, Threshold
from harness.checks.tables import parsed, with_table
from harness.measures.accuracy import GOLDEN_RIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

GOLDEN = "golden"
"""The family of its rows, and the folder beside the checks file."""
LIST = "images.toml"
SCHEMA = 2
MAX_BYTES = 16 << 20
"""Size of the largest list."""
MAX_PICTURE_BYTES = 64 << 20
_MENDED = "look at the list, then declare it with `stress-harness golden list --declare`"
TEST = "test_golden.py"
_HEAD = """\
# Images that must never be wrong again, a check each. `stress-harness golden add | list | remove` writes this list,
# and its SHA-256 into the checks file; after a change by hand, or a merge, `golden list --declare` does.

"""
_DECLARED = re.compile(r"(?m)^\n?(?:<{7}.*\n)?\[golden\]\n((?:[^\[\n][^\n]*(?:\n|\Z)|\n)*)")
_ENTRY = re.compile(r"(?m)^(?:[ \t]*\w+[ \t]*=|<{7}|={7}|>{7}).*(?:\n|\Z)")
"""An entry, or a conflict marker of version control."""


@record
class GoldenDeclaration:
    """The golden set of a checks file: the SHA-256 of the list, and the number of images."""

    sha256: str
    n: Annotated[int, Field(ge=1)]


@record
class GoldenImage:
    """An image that must be predicted as its class, with the reason.

    `sha256` is that of its picture's file. A file `made` of pixels holds the network's input; the run's own pipeline
    turns any other picture into pixels. `reference` counts the reference models that predicted it correctly when it was
    added, and all of them; empty if unknown.
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
        """Return a phrase with the number of reference models that predict it correctly; empty if unknown."""
        said = " of ".join(map(str, self.reference))
        return f"{said} reference models predict it correctly" if said else ""


@record
class _List:
    schema: int
    image: tuple[dict[str, Any], ...] = ()


def folder_of(checks: Path) -> Path:
    """Return the folder of the golden set that belongs to a checks file."""
    return checks.parent / GOLDEN


def read_golden(checks: Path, declared: GoldenDeclaration | None) -> tuple[GoldenImage, ...]:
    """Return the golden set that a checks file declares, empty without a declaration.

    Raises `ChecksError` for a declared set that is missing or has changed. Also for a set without a declaration, as no
    check would measure its images.
    """
    path = folder_of(checks) / LIST
    if declared is None:
        if path.exists():
            raise ChecksError(f"{checks}: {path} is beside it, but it declares no golden set; {_MENDED}")
        return ()
    lost = f"[golden] in {checks} declares {declared.n} images. Restore the folder from version control, or remove"
    content = _content(path, f"{lost} [golden] to give up the set", max_bytes=MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != declared.sha256:
        raise ChecksError(
            f"{path}: is not the list that {checks} declares (SHA-256 {declared.sha256[:12]}…). Restore both from "
            f"version control; after a change on purpose, {_MENDED}"
        )
    return images_in(content, path)


def _content(path: Path, mended: str, *, max_bytes: int) -> bytes:
    try:
        return read_regular(path, max_bytes=max_bytes)
    except OSError as error:
        raise ChecksError(f"{path}: cannot be read ({error.strerror}); {mended}") from None


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
        images.append(read_record(GoldenImage, renamed, where=f"{path}: image {number}", error=ChecksError))
    for field in ("id", "file", "sha256"):
        values = [getattr(image, field) for image in images]
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise ChecksError(f"{path}: {field} {twice} occurs twice; remove one")
    return tuple(images)


def picture_of(image: GoldenImage, checks: Path) -> bytes:
    """Return the content of an image's file; raises `ChecksError` if its hash is not the one in the list."""
    path = folder_of(checks) / image.file
    mended = f"restore it from version control, or give the image up with `stress-harness golden remove {image.id}`"
    content = _content(path, mended, max_bytes=MAX_PICTURE_BYTES)
    if (found := hashlib.sha256(content).hexdigest()) != image.sha256:
        raise ChecksError(
            f"{path}: golden image {image.id} is damaged: its SHA-256 is {found[:12]}…, expected {image.sha256[:12]}…; "
            f"{mended}"
        )
    return content


def rows_of(images: tuple[GoldenImage, ...]) -> tuple[Check, ...]:
    """Return a row for each image: its prediction must be correct."""
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


def _with_declaration(text: str, content: bytes, count: int, *, path: Path) -> str:
    """Return the text of a checks file, with the declaration of a list of `count` images; without one for 0.

    Raises `ChecksError` for a file that is no TOML, and where the declaration does not fit into it.
    """

    def read(text: str) -> dict[str, Any] | None:
        try:
            return tomllib.loads(text)
        except ValueError:  # For example for two [golden] tables, if `_DECLARED` does not match one of them.
            return None

    without = _DECLARED.sub(lambda found: _ENTRY.sub("", found[1]), text)  # A person wrote the comments: they stay.
    said = {GOLDEN: {"sha256": hashlib.sha256(content).hexdigest(), "n": count}} if count else {}
    made = with_table(without, GOLDEN, tomlkit.dumps(said), behind="data")
    before = read(text) or read(without)  # Two declarations of merged branches are no valid TOML.
    if before is None:
        raise ChecksError(f"{path}: not valid TOML; correct it, or finish the merge, then `golden list --declare`")
    before.pop(GOLDEN, None)
    if read(made) != {**before, **said}:
        raise ChecksError(f"{path}: its [golden] cannot be written; write it by hand: {tomlkit.dumps(said).strip()!r}")
    return made


@contextmanager
def alone_with(checks: Path) -> Iterator[None]:
    """Lock the golden set and the checks files that declare it until the block ends."""
    with ExitStack() as stack:
        for path in (folder_of(checks), *_declaring_files(checks)):
            stack.enter_context(locked(path))
        yield


def _declaring_files(checks: Path) -> list[Path]:
    """Return the checks files of the folder, each once: none could be read without declaring its golden set.

    A link is resolved to its target, and so stays a link when the file is written.
    """
    found = {checks.resolve(): checks}
    for path in sorted(checks.parent.glob("*.toml")):
        text = path.read_text("utf-8", "replace") if path.is_file() else ""
        try:
            mine = {"schema", "data"} <= tomllib.loads(text).keys()
        except (ValueError, RecursionError):  # Perhaps in the middle of a merge.
            mine = all(re.search(rf"(?m)^{wanted}", text) for wanted in (r"schema\b", r"\[data\]"))
        if mine:
            found.setdefault(path.resolve(), path)
    return [end if path.is_symlink() else path for end, path in found.items()]


def write_golden(
    checks: Path, golden: Sequence[GoldenImage], pictures: Mapping[str, bytes], *, removed: Sequence[GoldenImage] = ()
) -> list[Path]:
    """Write the list, new pictures by name, declarations and a missing test; return the files except pictures.

    Declarations come last: a reader in between finds a set that is not the declared one, which is an error. Of other
    files, only the pictures of `removed` images are deleted. Raises `ChecksError`, and writes nothing, for a list that
    cannot be read back.
    """
    folder = folder_of(checks)
    rows = [
        {"class" if name == "class_name" else name: said for name, said in as_plain(each).items()} for each in golden
    ]
    listed = [tomlkit.dumps({name: said for name, said in row.items() if said != []}) for row in rows]
    content = "\n[[image]]\n".join([f"{_HEAD}schema = {SCHEMA}\n", *listed]).encode()
    if len(content) > MAX_BYTES:
        raise ChecksError(f"{folder / LIST}: has {len(content)} bytes, the limit is {MAX_BYTES}; shorten the reasons")
    images_in(content, folder / LIST)
    files = {folder / name: picture for name, picture in pictures.items()}
    if golden:
        files[folder / LIST] = content
        if not (test := checks.parent / TEST).exists():
            files[test] = next(shipped.text for shipped in shipped_tests() if shipped.name == TEST).encode()
    for path in _declaring_files(checks):
        files[path] = _with_declaration(path.read_text("utf-8"), content, len(golden), path=path).encode()
    write_all_or_none(files)
    if not golden:
        (folder / LIST).unlink(missing_ok=True)
    for image in removed:
        (folder / image.file).unlink(missing_ok=True)
    return [path for path in files if path.name not in pictures]
