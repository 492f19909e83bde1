"""Images in single files, in one folder per class, a CSV file or WebDataset's shards, or in a data set in Python.

Of shards the harness reads pictures, `.cls` files as text and `.json` files. It unpickles nothing and runs no command.
The positions of pictures in a shard at a URL stay in the user's cache, since finding them takes the whole shard.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import DataError, foreign_code
from harness.base.files import require_regular
from harness.base.user_code import imported, source_digest
from harness.data.decoding import side_by_side
from harness.data.groups import NAME as GROUPS
from harness.data.groups import csv_rows, groups_beside
from harness.data.image_files import SUFFIXES
from harness.data.pictures import LABEL_KEYS, PICTURE_KEYS, EncodedPicture, Item, Pictures, readable
from harness.data.remote import RemoteFile, found_once, is_url, remote_file

if TYPE_CHECKING:
    import tarfile

    from harness.data.pictures import File

_EXPECTED = f"expected one folder per class with files in {', '.join(sorted(SUFFIXES))}"
_EXPECTED_ITEMS = (
    "expected an object with __len__ and __getitem__, or a callable that returns one, whose items are (picture, label) "
    "or dicts with image and label"
)
_EXPECTED_ROWS = (
    "expected a first row that names the columns path and label, and a row for each image"
)
_EXPECTED_PATHS = "expected a first row that names the column path, and a row for each image"
_PICTURES = {suffix.removeprefix(".") for suffix in SUFFIXES}
_SHARD_KEYS = ("label", "cls", "class", "target")
_MAX_SHARDS = 100_000
_EXPECTED_SHARDS = "expected uncompressed tar files with a picture and a label, .cls or .json with a label, under each name"


def read_folder(place: str) -> Pictures:
    """Return the pictures of a folder that holds one folder per class, named after it.

    Classes and files are sorted by name, so the labels equal those of torchvision's `ImageFolder`. Hidden files and
    files without the suffix of a picture are ignored and counted in a note. A `groups.csv` gives the groups of images,
    see `groups_beside`. Raises `InputError` for unreadable files.
    """
    path = Path(place)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected one folder per class in it")
    children = sorted(path.iterdir())
    folders = [child for child in children if child.is_dir() and not _is_nobodys(child)]
    if not folders:
        raise DataError(f"{path}: no folders in it; {_EXPECTED}")
    files: list[Path] = []
    labels: list[int] = []
    others = [child for child in children if not child.is_dir() and child.name != GROUPS]
    left_out = Counter(
        "hidden" if _is_nobodys(child) else "in no class's folder" for child in others
    )
    for label, folder in enumerate(folders):
        inner = sorted(folder.iterdir())
        found = [child for child in inner if _is_picture(child)]
        if not found:
            deeper = any(child.is_dir() for child in inner)
            hint = (
                f"; if its folders are the classes, name folder:{folder}"
                if deeper
                else ", or remove the folder"
            )
            raise DataError(f"{folder}: no images in it; {_EXPECTED}{hint}")
        files += found
        labels += [label] * len(found)
        for child in inner:
            if _is_nobodys(child):
                left_out["hidden"] += not child.is_dir()
            elif child.is_dir():
                left_out["in a subfolder"] += sum(not below.is_dir() for below in child.rglob("*"))
            elif not _is_picture(child):
                left_out[child.suffix.lower() or "without a suffix"] += 1
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()) if count)
    return Pictures.of_files(
        files,
        labels=labels,
        names=[folder.name for folder in folders],
        name=path.resolve().name,
        whole=str(path),
        notes=(f"{len(files)} of {len(files) + left_out.total()} files are read: {listed}",)
        if listed
        else (),
        groups=groups_beside(path, files),
    )


def read_unlabelled(place: str, *, grouped: bool = False) -> Pictures:
    """Return all pictures in a folder and its subfolders, in the order of their paths, as those of one class.

    Hidden files and folders are ignored. A `groups.csv` in it gives the groups of images if `grouped`. Raises
    `InputError` for a folder without pictures.
    """
    path = Path(place)
    found = (
        [file for file in sorted(path.rglob("*")) if _is_picture(file) and file.is_file()]
        if path.is_dir()
        else []
    )
    files = [
        file for file in found if not any(map(_is_nobodys, file.relative_to(path).parents[:-1]))
    ]
    if not files:
        raise DataError(
            f"{path}: no pictures in it; expected files in {', '.join(sorted(SUFFIXES))}"
        )
    named = path.resolve().name
    groups = groups_beside(path, files) if grouped and (path / GROUPS).exists() else {}
    return Pictures.of_files(
        files, whole=str(path), labels=[0] * len(files), name=named, groups=groups
    )


def _is_nobodys(path: Path) -> bool:
    """Return whether a path is hidden, or a remnant of macOS's archives."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not _is_nobodys(file)


def read_csv(place: str, *, labeled: bool = True) -> Pictures:
    """Return the pictures that a CSV file lists in its columns `path`, relative to the file, and `label`.

    Labels are names of classes, which are then sorted, or integers from 0. A further column with a value in each row
    gives groups of images. Raises `InputError` for anything else. Unless `labeled`, the column `label` is optional and
    not read.
    """
    path = Path(place)
    expected = _EXPECTED_ROWS if labeled else _EXPECTED_PATHS
    needed = ["path", "label"] if labeled else ["path"]
    titles, *rows = [row for row in csv_rows(path, expected=expected) if row] or [[]]
    if not rows or not set(needed) <= set(titles):
        raise DataError(f"{path}: has {', '.join(titles) if rows else 'no rows'}; {expected}")
    cells = zip_longest(titles, *(row[: len(titles)] for row in rows), fillvalue="")
    columns: dict[str, list[str]] = {title: values for title, *values in cells}
    for number, values in enumerate(
        zip(*(columns[title] for title in needed), strict=True), start=2
    ):
        if not all(values):
            raise DataError(f"{path}: row {number} has no {' or no '.join(needed)}; {expected}")
    places = columns.pop("path")
    labels = list[Any](columns.pop("label", []))
    if not labeled:
        labels = ["0"] * len(places)
    if all(label.isdecimal() and len(label) <= 9 for label in labels):  # noqa: PLR2004  Fits into 32 bits.
        labels = [*map(int, labels)]
    files = [path.parent / place for place in places]
    # A column with a value for each image gives its groups.
    groups = {name: np.array(values) for name, values in columns.items() if name and all(values)}
    facts: dict[str, Any] = {"labels": labels, "name": path.stem, "groups": groups}
    try:
        return Pictures.of_files(
            [path, *files], [*map(EncodedPicture, files)], whole=str(path), **facts
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: lists a file that cannot be found ({error}); paths are relative to it"
        ) from None


def read_named(spec: str, *, otherwise: str = "", labeled: bool = True) -> Pictures:
    """Return the pictures of the data set that `package.module:name` names, an object or a callable that returns one.

    Items are (picture, label), or dicts with an image and a label. A picture is a PIL image, an array (H, W, C) uint8,
    or a tensor (C, H, W), uint8 or in [0, 1]. The data set's `classes` name the classes, or its `features` as in
    Hugging Face's. A data set with a text `fingerprint` of its content is decoded once, any other in each run. Raises
    `InputError` for any exception of its code, and for other items; `otherwise` ends the message for a missing module.
    Unless `labeled`, an item may be a picture alone, and labels are not read.
    """

    def called(what: str, call: Any) -> Any:
        try:
            with foreign_code():
                return call()
        except Exception as error:  # The user's code may raise any exception.
            raise DataError(f"cannot give {what} ({error!r})", setting=f"data {spec}") from error

    dataset, verb = imported(spec, setting="data", otherwise=otherwise), "is"
    if callable(dataset) and (isinstance(dataset, type) or not hasattr(dataset, "__getitem__")):
        dataset, verb = called("the data set", dataset), "gives"
    wrong = f"{verb} a {type(dataset).__name__}"
    if isinstance(dataset, Mapping):
        wrong = f"gives a {type(dataset).__name__} with {', '.join(map(str, dataset))}; name one of them"
    elif hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        wrong = "" if (count := called("its length", lambda: len(dataset))) else "is empty"
    if wrong:
        raise DataError(f"{wrong}; {_EXPECTED_ITEMS}", setting=f"data {spec}")
    labels: list[Any] = [None if labeled else 0] * count

    def read(position: int) -> Any:
        item = called(f"item {position}", lambda: dataset[position])
        if not labeled:
            return _picture(item, f"{spec}: item {position}")
        picture, labels[position] = _pair(item, f"{spec}: item {position}")
        return picture

    names = called("the names of its classes", lambda: _names(dataset)) if labeled else None
    fingerprint = getattr(dataset, "fingerprint", None) or getattr(dataset, "_fingerprint", None)
    known = isinstance(fingerprint, str)
    unknown = f"{spec} is decoded again in each run; to avoid this, give it a text `fingerprint` of its content"
    return Pictures(
        Item.each(read, count, f"{spec}: item"),
        labels=labels,
        names=names,
        name=spec.rpartition(":")[2],
        whole=spec,
        made_of=f"{spec} {source_digest(spec)} {fingerprint} {count} {names}" if known else None,
        notes=() if known else (unknown,),
        threads=False,
        foreign=True,
    )


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    """Return the picture and the label of an item."""
    found = f"is a {type(item).__name__}"
    if isinstance(item, Mapping):
        keys = [
            next((k for k in names if k in item), None)
            for names in ((*PICTURE_KEYS, "pixel_values"), LABEL_KEYS)
        ]
        found, item = (
            f"has {', '.join(map(str, item))}",
            [item[key] for key in keys if key is not None],
        )
    if not isinstance(item, tuple | list) or len(item) < 2:  # noqa: PLR2004  Further elements are ignored.
        raise DataError(f"{where}: {found}; {_EXPECTED_ITEMS}")
    picture, label = item[:2]
    return picture, label.item() if hasattr(label, "item") and getattr(
        label, "ndim", 0
    ) == 0 else label


def _picture(item: Any, where: str) -> Any:
    """Return the picture of an item, with or without a label beside it."""
    if isinstance(item, Mapping):
        key = next((key for key in (*PICTURE_KEYS, "pixel_values") if key in item), None)
        if key is None:
            raise DataError(f"{where}: has {', '.join(map(str, item))}; {_EXPECTED_ITEMS}")
        return item[key]
    return item[0] if isinstance(item, tuple | list) and item else item


def _names(dataset: Any) -> list[str] | None:
    """Return the names of the classes that a data set declares; None without any."""
    classes = getattr(dataset, "classes", None)
    if not (isinstance(classes, list | tuple) and classes):
        features = getattr(dataset, "features", None)
        features = features if isinstance(features, Mapping) else {}
        classes = next(
            filter(None, (getattr(features.get(key), "names", None) for key in LABEL_KEYS)), None
        )
    return [str(name) for name in classes] if classes else None


def read_webdataset(pattern: str, *, labeled: bool = True) -> Pictures:
    """Return the pictures of the shards that a pattern names, such as `shards/test-{000..009}.tar`, in its order.

    The shards are local files, or URLs. Labels are integers from 0 or names, in `.cls` files or under `label` in
    `.json` files. Raises `InputError` for anything else. Unless `labeled`, labels are optional and not read.
    """
    if pattern.startswith("pipe:"):
        raise DataError(
            f"webdataset:{pattern}: is a command, and none is run; name tar files, or their URLs"
        )
    names, remote = _expanded(pattern), is_url(pattern)
    threads = 8 if remote else 1
    shards: list[File] = [
        *(side_by_side(remote_file, names, threads=threads) if remote else map(Path, names))
    ]
    parts, labels, left_out = [], [], Counter[str]()
    what, find = (
        ("samples", _members) if labeled else ("samples without labels", _unlabeled_members)
    )
    searched = side_by_side(partial(found_once, what=what, find=find), shards, threads=threads)
    for shard, found in zip(shards, searched, strict=True):
        parts += [EncodedPicture(shard, *member) for member in found["members"]]
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


def _unlabeled_members(shard: File) -> dict[str, Any]:
    return _members(shard, labeled=False)


def _members(shard: File, *, labeled: bool = True) -> dict[str, Any]:
    """Return the pictures of a shard (name, offset, size), their labels, and the numbers of other files by kind."""
    import tarfile

    members, labels, left_out = [], [], Counter[str]()
    files: dict[str, dict[str, tarfile.TarInfo]] = defaultdict(dict)
    with readable(shard, _EXPECTED_SHARDS):
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
                    raise DataError(
                        f"{shard}: {key} has {len(pictures)} pictures; {_EXPECTED_SHARDS}"
                    )
                left_out.update(kind for kind in kinds if kind not in {*pictures, "cls", "json"})
                picture = kinds[pictures[0]]
                if picture.offset_data + picture.size > size:
                    raise DataError(f"{shard}: {picture.name} is truncated; copy the shard again")
                members.append((picture.name, picture.offset_data, picture.size))
                labels.append(_member_label(archive, kinds, f"{shard}: {key}") if labeled else 0)
    return {"members": members, "labels": labels, "left_out": left_out}


def _member_label(archive: tarfile.TarFile, kinds: dict[str, tarfile.TarInfo], where: str) -> Any:
    for kind in [kind for kind in ("cls", "json") if kind in kinds]:
        member = kinds[kind]
        file = archive.extractfile(member) if member.size <= 1 << 20 else None
        if file is None:
            raise DataError(f"{where}.{kind}: is no label; {_EXPECTED_SHARDS}")
        text = file.read().decode("utf-8").strip()
        if kind == "cls":
            return int(text) if text.isdecimal() else text
        table = json.loads(text)
        plain = isinstance(table, int | str)
        label = table if plain else next((table[key] for key in _SHARD_KEYS if key in table), None)
        if isinstance(label, int | str):
            return label
    raise DataError(f"{where}: has no label; {_EXPECTED_SHARDS}")
