"""Images in tar files as WebDataset lays them out: a picture and its label under one name, in local shards.

Nothing is unpickled, and no command is run: what is read are pictures, `.cls` as text and `.json`.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.decoding import decoded
from harness.data.image_files import SUFFIXES, read_picture
from harness.data.pictures import Pictures, classes_of, files_as_they_are
from harness.errors import InputError
from harness.store.files import require_regular

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

    from harness.data.images import LabelledImages
    from harness.data.pipeline import Pipeline

_PICTURES = {suffix.removeprefix(".") for suffix in SUFFIXES}
_LABEL_KEYS = ("label", "cls", "class", "target")
_MAX_LABEL = 1 << 20
_MAX_SHARDS = 100_000
_EXPECTED = "expected uncompressed tar files with a picture and a label, .cls or .json with a label, under each name"


@dataclass(frozen=True)
class _Member:
    """A picture within a shard: its name, and where its bytes are."""

    shard: Path
    name: str
    offset: int
    size: int


def load_webdataset(pattern: str, pipeline: Pipeline) -> LabelledImages:
    """Load the shards that a pattern names, `shards/test-{000..009}.tar`, in its order; local files alone.

    Labels are integers from 0 in `.cls` files, or what a `.json` file has under `label`. Raises `InputError` for
    anything else.
    """
    if re.match(r"pipe:|\w+://", pattern):
        raise InputError(f"webdataset:{pattern}: names no local files; download the shards first")
    shards = [Path(name) for name in _expanded(pattern)]
    members: list[_Member] = []
    labels: list[Any] = []
    left_out: Counter[str] = Counter()
    for shard in shards:
        for member, label in _samples(shard, left_out):
            members.append(member)
            labels.append(label)
    numbers, classes = classes_of(labels, None, where=pattern)
    made_of, stored = files_as_they_are(shards)

    def read(position: int) -> Any:
        member = members[position]
        with member.shard.open("rb", buffering=0) as file:
            content = os.pread(file.fileno(), member.size, member.offset)
        return read_picture(content, where=where(position))

    def where(position: int) -> str:
        return f"{members[position].shard}: {members[position].name}"

    ignored = ", ".join(f"{count} .{kind}" for kind, count in sorted(left_out.items()))
    return decoded(
        Pictures(
            read=read,
            labels=numbers,
            classes=classes,
            name=re.sub(r"\W*\{.*?\}\W*", "", Path(pattern).name.removesuffix(".tar")) or "shards",
            where=where,
            made_of=made_of,
            stored=stored,
            notes=(f"{len(members)} pictures are read; left out are {ignored}",) if ignored else (),
            whole=pattern,
        ),
        pipeline,
    )


def _expanded(pattern: str) -> list[str]:
    """Return the names that a pattern stands for: `{a,b}` each of them, `{000..009}` each number, padded alike."""
    parts: list[list[str]] = []
    count = 1
    for part in re.split(r"(\{[^{}]*\})", pattern):
        found = re.fullmatch(r"\{(\d{1,9})\.\.(\d{1,9})\}", part)
        if found:
            first, last = int(found[1]), int(found[2])
            if not 0 <= last - first < _MAX_SHARDS:
                raise InputError(f"webdataset:{pattern}: {part} is no range of shards; expected such as {{000..009}}")
            parts.append([str(number).zfill(len(found[1])) for number in range(first, last + 1)])
        else:
            parts.append(part[1:-1].split(",") if part.startswith("{") else [part])
        count *= len(parts[-1])
        if count > _MAX_SHARDS:
            raise InputError(f"webdataset:{pattern}: stands for more than {_MAX_SHARDS} shards")
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def _samples(shard: Path, left_out: Counter[str]) -> Iterator[tuple[_Member, Any]]:
    """Give the pictures of a shard with their labels, in its order, and count what is neither."""
    import tarfile

    try:
        require_regular(shard)
        with tarfile.open(shard, "r:") as archive:
            files: dict[str, dict[str, tarfile.TarInfo]] = {}
            size = shard.stat().st_size
            for info in archive:
                folder, _, name = info.name.rpartition("/")
                key, _, kind = name.partition(".")
                if not info.isreg() or not key or "__MACOSX" in folder:
                    left_out.update(["hidden"] if info.isreg() else [])
                    continue
                files.setdefault(f"{folder}/{key}", {})[kind.lower()] = info
            for key, kinds in files.items():
                pictures = sorted(_PICTURES & set(kinds))
                if len(pictures) != 1:
                    raise InputError(f"{shard}: {key} has {len(pictures)} pictures; {_EXPECTED}")
                left_out.update(kind for kind in kinds if kind not in {*pictures, "cls", "json"})
                found = kinds[pictures[0]]
                if found.offset_data + found.size > size:
                    raise InputError(f"{shard}: {found.name} was cut; copy the shard anew")
                member = _Member(shard, found.name, found.offset_data, found.size)
                yield member, _label(archive, kinds, f"{shard}: {key}")
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{shard}: cannot be read ({error.strerror or error}); {_EXPECTED}") from None
    except Exception as error:  # A damaged archive makes what reads it fail in any way.
        raise InputError(f"{shard}: cannot be read ({error!r}); {_EXPECTED}") from None


def _label(archive: tarfile.TarFile, kinds: dict[str, tarfile.TarInfo], where: str) -> Any:
    for kind in ("cls", "json"):
        if kind not in kinds:
            continue
        member = kinds[kind]
        file = archive.extractfile(member) if member.size <= _MAX_LABEL else None
        if file is None:
            raise InputError(f"{where}.{kind}: is no label; {_EXPECTED}")
        text = file.read().decode("utf-8").strip()
        if kind == "cls":
            return int(text) if text.isdecimal() else text
        table = json.loads(text)
        plain = isinstance(table, int | str)
        label = table if plain else next((table[key] for key in _LABEL_KEYS if key in table), None)
        if isinstance(label, int | str):
            return label
    raise InputError(f"{where}: has no label; {_EXPECTED}")
