"""A golden set written: its list, its pictures, and what the gates files say of it, all else left as it was."""

from __future__ import annotations

import hashlib
import re
import tomllib
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import tomlkit

from harness.gates.golden import LIST, MAX_BYTES, SCHEMA, folder_of, images_in
from harness.gates.rows import GatesError
from harness.gates.shipped import shipped_tests
from harness.store import alone
from harness.store.files import write_all_or_none

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.gates.golden import GoldenImage

TEST = "test_golden.py"
_HEAD = """\
# Images that must never be wrong again, a gate each. `python -m harness golden add | list | remove` writes this list,
# and its SHA-256 into the gates file; after a change by hand, or a merge, `golden list --declare` does.

"""
_DECLARED = re.compile(r"(?m)^\n?(?:<{7}.*\n)?\[golden\]\n((?:[^\[\n][^\n]*(?:\n|\Z)|\n)*)")
_ENTRY = re.compile(r"(?m)^(?:[ \t]*\w+[ \t]*=|<{7}|={7}|>{7}).*(?:\n|\Z)")
"""An entry, or what version control writes around those of two branches."""
_REST = re.compile(r"(?:^[ \t]*(?:#.*)?\n)*\Z", re.MULTILINE)
"""What stands between the last entry of a table and the next table: comments on that."""


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
                **({"healthy": list(image.healthy)} if image.healthy else {}),
            }
        )
        rows.append(row)
    document["image"] = rows
    return _HEAD + re.sub(r"\n+\[\[image\]\]", "\n\n[[image]]", tomlkit.dumps(document))


def with_declaration(text: str, content: bytes, count: int, *, path: Path) -> str:
    """Return the text of a gates file that declares a list of this content, of so many images; none of no images.

    Raises `GatesError` for a file that cannot be written so.
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
        raise GatesError(f"{path}: not valid TOML; correct it, or finish the merge, then `golden list --declare`")
    before.pop("golden", None)
    if _table(made) != {**before, **({"golden": said} if count else {})}:
        raise GatesError(
            f"{path}: its [golden] cannot be written; write it by hand: {tomlkit.dumps({'golden': said}).strip()!r}"
        )
    return made


def _table(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:  # Such as of two [golden], one of them written in a way of its own.
        return None


@contextmanager
def alone_with(gates: Path) -> Iterator[None]:
    """Keep others that change a golden set, or a gates file that declares it, waiting until the block ends."""
    with ExitStack() as stack:
        for path in (folder_of(gates), *declaring_files(gates)):
            stack.enter_context(alone(path))
        yield


def declaring_files(gates: Path) -> list[Path]:
    """Return the gates files that declare a golden set: the one given, its quick one, and those that do already.

    Each of them once, and of a link the file that it leads to, so that the link stays one.
    """
    quick = {f"{path.stem}-quick.toml" for path in (gates, gates.resolve())}
    found = {gates.resolve(): gates}
    for path in sorted(gates.parent.glob("*.toml")):
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
    gates: Path, golden: Sequence[GoldenImage], pictures: Mapping[str, bytes], *, removed: Sequence[GoldenImage] = ()
) -> list[Path]:
    """Write the list, new pictures by their names, declarations and, where it is missing, the test; say which files.

    Declarations come last: who reads in between finds a set that is not the one declared, which is an error. Pictures
    of images that were `removed` are deleted, and no other file. Raises `GatesError` for a list that cannot be read
    back, with nothing written.
    """
    folder = folder_of(gates)
    content = _content_of(golden, folder / LIST)
    files = {folder / name: picture for name, picture in pictures.items()}
    if golden:
        files[folder / LIST] = content
        if not (test := gates.parent / TEST).exists():
            files[test] = next(shipped.text for shipped in shipped_tests() if shipped.name == TEST).encode()
    for path in declaring_files(gates):
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
        raise GatesError(f"{path}: cannot be written, {error.object!r} is not all text; name it otherwise") from None
    if len(content) > MAX_BYTES:
        raise GatesError(f"{path}: of {len(content)} bytes, more than the limit of {MAX_BYTES}; shorten the reasons")
    images_in(content, path)
    return content
