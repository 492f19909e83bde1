"""Images in WebDataset's tar files: a picture and its label under one name, in local shards or at URLs.

The harness reads pictures, `.cls` files as text and `.json` files. It unpickles nothing and runs no command. The
positions of pictures in a shard at a URL stay in the user's cache, since finding them takes the whole shard.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import DataError, InputError
from harness.base.files import require_regular
from harness.data.image_files import SUFFIXES, read_picture
from harness.data.parallel import side_by_side
from harness.data.pictures import Pictures, classes_of, files_as_they_are, notes_on_versions
from harness.data.remote import RemoteFile, found_once, is_url, remote_file

if TYPE_CHECKING:
    import tarfile
    from typing import BinaryIO

    from harness.data.pictures import File

_PICTURES = {suffix.removeprefix(".") for suffix in SUFFIXES}
_LABEL_KEYS = ("label", "cls", "class", "target")
_MAX_LABEL = 1 << 20
_MAX_SHARDS = 100_000
_CONNECTIONS = 8
"""Number of shards at URLs that are searched at a time."""
_EXPECTED = "expected uncompressed tar files with a picture and a label, .cls or .json with a label, under each name"


@dataclass(frozen=True)
class _Member:
    """A picture within a shard: its name, offset and size in bytes."""

    shard: File
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"

    def content(self) -> bytes:
        """Return its bytes; raises `InputError` if they cannot be read."""
        try:
            if isinstance(self.shard, RemoteFile):
                return self.shard.read(self.offset, self.size)
            with self.shard.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), self.size, self.offset)
        except OSError as error:
            raise DataError(f"{self}: cannot be read ({error.strerror or error})") from None


@dataclass(frozen=True)
class _Samples:
    """The pictures of shards with their labels, in order, and the numbers of other files by kind."""

    members: list[_Member] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_webdataset(pattern: str) -> Pictures:
    """Return the pictures of the shards that a pattern names, such as `shards/test-{000..009}.tar`, in its order.

    The shards are local files, or URLs. Labels are integers from 0 or names, in `.cls` files or under `label` in
    `.json` files. Raises `InputError` for anything else.
    """
    if pattern.startswith("pipe:"):
        raise DataError(f"webdataset:{pattern}: is a command, and none is run; name tar files, or their URLs")
    names, remote = _expanded(pattern), is_url(pattern)
    shards: list[File] = [*(side_by_side(remote_file, names, threads=_CONNECTIONS) if remote else map(Path, names))]
    found = _Samples()
    for each in side_by_side(_samples_once, shards, threads=_CONNECTIONS if remote else 1):
        found.members.extend(each.members)
        found.labels.extend(each.labels)
        found.left_out.update(each.left_out)
    members = found.members
    labels, classes = classes_of(found.labels, None, where=pattern)
    made_of, stored = files_as_they_are(shards)
    ignored = ", ".join(f"{count} .{kind}" for kind, count in sorted(found.left_out.items()))
    notes = [f"{len(members)} pictures are read; ignored files: {ignored}"] if ignored else []

    def read(position: int) -> Any:
        return read_picture(members[position].content(), where=str(members[position]))

    return Pictures(
        read=read,
        labels=labels,
        classes=classes,
        name=_name_of(pattern.partition("?")[0] if remote else pattern),
        where=lambda position: str(members[position]),
        made_of=made_of,
        stored=stored,
        notes=(*notes, *notes_on_versions(pattern, made_of)),
        whole=pattern,
        file=lambda position: members[position].shard,
        content=lambda position: members[position].content(),
    )


def _name_of(pattern: str) -> str:
    return re.sub(r"\W*\{.*?\}\W*", "", Path(pattern).name.removesuffix(".tar")) or "shards"


def _expanded(pattern: str) -> list[str]:
    """Return the names that a pattern stands for: `{a,b}` for each word, `{000..009}` for each zero-padded number."""
    parts: list[list[str]] = []
    count = 1
    for part in re.split(r"(\{[^{}]*\})", pattern):
        found = re.fullmatch(r"\{(\d{1,9})\.\.(\d{1,9})\}", part)
        if found:
            first, last = int(found[1]), int(found[2])
            if not 0 <= last - first < _MAX_SHARDS:
                raise DataError(f"webdataset:{pattern}: {part} is no range of shards, expected such as {{000..009}}")
            parts.append([str(number).zfill(len(found[1])) for number in range(first, last + 1)])
        else:
            parts.append(part[1:-1].split(",") if part.startswith("{") else [part])
        count *= len(parts[-1])
        if count > _MAX_SHARDS:
            raise DataError(f"webdataset:{pattern}: stands for more than {_MAX_SHARDS} shards")
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def _samples_once(shard: File) -> _Samples:
    """Return the samples of a shard; a shard at a URL is searched once for each version."""
    if not isinstance(shard, RemoteFile):
        return _samples(shard)

    def find() -> dict[str, Any]:
        found = _samples(shard)
        members = [(each.name, each.offset, each.size) for each in found.members]
        return {"members": members, "labels": found.labels, "left_out": found.left_out}

    facts = found_once(shard, "samples", find)
    members = [_Member(shard, *each) for each in facts["members"]]
    return _Samples(members, facts["labels"], Counter(facts["left_out"]))


def _samples(shard: File) -> _Samples:
    """Return the pictures of a shard with their labels, in its order."""
    import tarfile

    found = _Samples()
    try:
        size = shard.size if isinstance(shard, RemoteFile) else shard.stat().st_size
        with _opened(shard) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            files: dict[str, dict[str, tarfile.TarInfo]] = {}
            for info in archive:
                folder, _, name = info.name.rpartition("/")
                key, _, kind = name.partition(".")
                if not info.isreg() or not key or "__MACOSX" in folder:
                    found.left_out.update(["hidden"] if info.isreg() else [])
                    continue
                files.setdefault(f"{folder}/{key}", {})[kind.lower()] = info
            for key, kinds in files.items():
                pictures = sorted(_PICTURES & set(kinds))
                if len(pictures) != 1:
                    raise DataError(f"{shard}: {key} has {len(pictures)} pictures; {_EXPECTED}")
                found.left_out.update(kind for kind in kinds if kind not in {*pictures, "cls", "json"})
                picture = kinds[pictures[0]]
                if picture.offset_data + picture.size > size:
                    raise DataError(f"{shard}: {picture.name} is truncated; copy the shard again")
                found.members.append(_Member(shard, picture.name, picture.offset_data, picture.size))
                found.labels.append(_label(archive, kinds, f"{shard}: {key}"))
    except InputError:
        raise
    except OSError as error:
        raise DataError(f"{shard}: cannot be read ({error.strerror or error}); {_EXPECTED}") from None
    except Exception as error:  # tarfile may raise any exception for a damaged archive.
        raise DataError(f"{shard}: cannot be read ({error!r}); {_EXPECTED}") from None
    return found


def _opened(shard: File) -> BinaryIO:
    if isinstance(shard, RemoteFile):
        return shard.opened(blocks=True)
    require_regular(shard)
    return shard.open("rb")


def _label(archive: tarfile.TarFile, kinds: dict[str, tarfile.TarInfo], where: str) -> Any:
    for kind in ("cls", "json"):
        if kind not in kinds:
            continue
        member = kinds[kind]
        file = archive.extractfile(member) if member.size <= _MAX_LABEL else None
        if file is None:
            raise DataError(f"{where}.{kind}: is no label; {_EXPECTED}")
        text = file.read().decode("utf-8").strip()
        if kind == "cls":
            return int(text) if text.isdecimal() else text
        table = json.loads(text)
        plain = isinstance(table, int | str)
        label = table if plain else next((table[key] for key in _LABEL_KEYS if key in table), None)
        if isinstance(label, int | str):
            return label
    raise DataError(f"{where}: has no label; {_EXPECTED}")
