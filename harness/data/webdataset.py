"""Images in WebDataset's tar files: a picture and its label under one name, in local shards or at URLs.

The harness reads pictures, `.cls` files as text and `.json` files. It unpickles nothing and runs no command. The
positions of pictures in a shard at a URL stay in the user's cache, since finding them takes the whole shard.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import DataError
from harness.base.files import require_regular
from harness.data.decoding import side_by_side
from harness.data.image_files import SUFFIXES
from harness.data.pictures import Part, Pictures, readable
from harness.data.remote import RemoteFile, found_once, is_url, remote_file

if TYPE_CHECKING:
    import tarfile

    from harness.data.pictures import File

_PICTURES = {suffix.removeprefix(".") for suffix in SUFFIXES}
_LABEL_KEYS = ("label", "cls", "class", "target")
_MAX_SHARDS = 100_000
_EXPECTED = "expected uncompressed tar files with a picture and a label, .cls or .json with a label, under each name"


def read_webdataset(pattern: str) -> Pictures:
    """Return the pictures of the shards that a pattern names, such as `shards/test-{000..009}.tar`, in its order.

    The shards are local files, or URLs. Labels are integers from 0 or names, in `.cls` files or under `label` in
    `.json` files. Raises `InputError` for anything else.
    """
    if pattern.startswith("pipe:"):
        raise DataError(f"webdataset:{pattern}: is a command, and none is run; name tar files, or their URLs")
    names, remote = _expanded(pattern), is_url(pattern)
    threads = 8 if remote else 1
    shards: list[File] = [*(side_by_side(remote_file, names, threads=threads) if remote else map(Path, names))]
    parts, labels, left_out = [], [], Counter[str]()
    searched = side_by_side(partial(found_once, what="samples", find=_samples), shards, threads=threads)
    for shard, found in zip(shards, searched, strict=True):
        parts += [Part(shard, *member) for member in found["members"]]
        labels += found["labels"]
        left_out.update(found["left_out"])
    ignored = ", ".join(f"{count} .{kind}" for kind, count in sorted(left_out.items()))
    notes = (f"{len(parts)} pictures are read; ignored files: {ignored}",) if ignored else ()
    file = Path(pattern.partition("?")[0] if remote else pattern).name
    name = re.sub(r"\W*\{.*?\}\W*", "", file.removesuffix(".tar")) or "shards"
    return Pictures.of_files(shards, parts, labels=labels, name=name, whole=pattern, notes=notes)


def _expanded(pattern: str) -> list[str]:
    """Return the names that a pattern stands for: `{a,b}` for each word, `{000..009}` for each zero-padded number."""
    names = [""]
    for part in re.split(r"(\{[^{}]*\})", pattern):
        words = part[1:-1].split(",") if part.startswith("{") else [part]
        if found := re.fullmatch(r"\{(\d{1,9})\.\.(\d{1,9})\}", part):
            numbers = range(int(found[1]), int(found[2]) + 1)
            words = [str(number).zfill(len(found[1])) for number in numbers[: _MAX_SHARDS + 1]]
        if not 0 < len(names) * len(words) <= _MAX_SHARDS:
            said = f"{part} is no range of shards, or one of more than {_MAX_SHARDS}"
            raise DataError(f"webdataset:{pattern}: {said}; expected such as {{000..009}}")
        names = [name + word for name in names for word in words]
    return names


def _samples(shard: File) -> dict[str, Any]:
    """Return the pictures of a shard (name, offset, size), their labels, and the numbers of other files by kind."""
    import tarfile

    members, labels, left_out = [], [], Counter[str]()
    files: dict[str, dict[str, tarfile.TarInfo]] = defaultdict(dict)
    with readable(shard, _EXPECTED):
        if not isinstance(shard, RemoteFile):
            require_regular(shard)
        opened = shard.opened(blocks=True) if isinstance(shard, RemoteFile) else shard.open("rb")
        with opened as file, tarfile.open(fileobj=file, mode="r:") as archive:
            size = file.seek(0, os.SEEK_END)
            for info in archive:
                folder, _, name = info.name.rpartition("/")
                key, _, kind = name.partition(".")
                if info.isreg() and key and "__MACOSX" not in folder:
                    files[f"{folder}/{key}"][kind.lower()] = info
                elif info.isreg():
                    left_out["hidden"] += 1
            for key, kinds in files.items():
                pictures = sorted(_PICTURES & set(kinds))
                if len(pictures) != 1:
                    raise DataError(f"{shard}: {key} has {len(pictures)} pictures; {_EXPECTED}")
                left_out.update(kind for kind in kinds if kind not in {*pictures, "cls", "json"})
                picture = kinds[pictures[0]]
                if picture.offset_data + picture.size > size:
                    raise DataError(f"{shard}: {picture.name} is truncated; copy the shard again")
                members.append((picture.name, picture.offset_data, picture.size))
                labels.append(_label(archive, kinds, f"{shard}: {key}"))
    return {"members": members, "labels": labels, "left_out": left_out}


def _label(archive: tarfile.TarFile, kinds: dict[str, tarfile.TarInfo], where: str) -> Any:
    for kind in [kind for kind in ("cls", "json") if kind in kinds]:
        member = kinds[kind]
        file = archive.extractfile(member) if member.size <= 1 << 20 else None
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
