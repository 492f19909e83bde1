"""Images in files (folders, a CSV file, WebDataset's shards), or in a data set in Python.

Of shards the harness reads pictures, `.cls` files as text and `.json` files. It unpickles nothing
and runs no command. The positions of pictures in a shard at a URL stay in the user's cache, since
finding them takes the whole shard.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import partial
from itertools import product, zip_longest
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
    from collections.abc import Callable
    from typing import BinaryIO

    from harness.data.pictures import File

_EXPECTED = f"expected one folder per class with files in {', '.join(sorted(SUFFIXES))}"
_EXPECTED_ITEMS = (
    "expected an object with __len__ and __getitem__, or a callable that returns one, whose items "
    "are (picture, label) or dicts with image and label"
)
_EXPECTED_ROWS = (
    "expected a first row that names the columns path and label, and a row for each image"
)
_EXPECTED_PATHS = "expected a first row that names the column path, and a row for each image"
_ITEM_PICTURE_KEYS = (*PICTURE_KEYS, "pixel_values")
"""Keys of the picture in an item of a data set in Python; the first present one counts."""
_PICTURES = {suffix.removeprefix(".") for suffix in SUFFIXES}
_SHARD_KEYS = ("label", "cls", "class", "target")
"""Keys of the label in a `.json` file of a shard; the first present one counts."""
_MAX_SHARDS = 100_000
_MAX_LABEL = 1 << 20
"""Bytes of the largest file of a label in a shard."""
_EXPECTED_SHARDS = (
    "expected uncompressed tar files with a picture and a label, .cls or .json with a label, "
    "under each name"
)


def read_folder(place: str) -> Pictures:
    """Return the pictures of a folder that holds one folder per class, named after it.

    Classes and files are sorted by name, so the labels equal those of torchvision's `ImageFolder`.
    Hidden files and files without the suffix of a picture are ignored and counted in a note. A
    `groups.csv` gives the groups of images, see `groups_beside`. Raises `InputError` for unreadable
    files.
    """
    path = Path(place)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected one folder per class in it")
    children = sorted(path.iterdir())
    folders = [child for child in children if child.is_dir() and not _is_nobodys(child)]
    if not folders:
        raise DataError(f"{path}: no folders in it; {_EXPECTED}")

    left_out: Counter[str] = Counter()
    for child in children:
        if child.is_dir() or child.name == GROUPS:
            continue
        kind = "in no class's folder"
        if _is_nobodys(child):
            kind = "hidden"
        left_out[kind] += 1

    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        children_of_class = sorted(folder.iterdir())
        pictures = [child for child in children_of_class if _is_picture(child)]
        if not pictures:
            raise DataError(f"{folder}: no images in it; {_EXPECTED}{_hint(folder)}")
        files += pictures
        labels += [label] * len(pictures)
        left_out.update(_left_out(children_of_class))

    return Pictures.of_files(
        files,
        labels=labels,
        names=[folder.name for folder in folders],
        name=path.resolve().name,
        whole=str(path),
        notes=_notes(len(files), left_out),
        groups=groups_beside(path, files),
    )


def _hint(folder: Path) -> str:
    """Return the end of a message about the folder of a class without pictures."""
    if any(child.is_dir() for child in folder.iterdir()):
        return f"; if its folders are the classes, name folder:{folder}"
    return ", or remove the folder"


def _left_out(children: list[Path]) -> Counter[str]:
    """Return the numbers of files in the folder of a class that are not read, by kind."""
    left_out: Counter[str] = Counter()
    for child in children:
        if _is_nobodys(child):
            left_out["hidden"] += not child.is_dir()
        elif child.is_dir():
            left_out["in a subfolder"] += sum(not below.is_dir() for below in child.rglob("*"))
        elif not _is_picture(child):
            left_out[child.suffix.lower() or "without a suffix"] += 1
    return left_out


def _notes(count: int, left_out: Counter[str]) -> tuple[str, ...]:
    """Return a note about the files that are not read, if there are any."""
    kinds = [f"{number} {kind}" for kind, number in sorted(left_out.items()) if number]
    if not kinds:
        return ()
    return (f"{count} of {count + left_out.total()} files are read: {', '.join(kinds)}",)


def read_unlabelled(place: str, *, grouped: bool = False) -> Pictures:
    """Return all pictures in a folder and its subfolders, in the order of their paths.

    They are of one class. Hidden files and folders are ignored. A `groups.csv` in the folder gives
    the groups of images if `grouped`. Raises `InputError` for a folder without pictures.
    """
    path = Path(place)
    files = []
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if _is_visible_picture(file, path)]
    if not files:
        raise DataError(
            f"{path}: no pictures in it; expected files in {', '.join(sorted(SUFFIXES))}"
        )
    groups = {}
    if grouped and (path / GROUPS).exists():
        groups = groups_beside(path, files)
    return Pictures.of_files(
        files, whole=str(path), labels=[0] * len(files), name=path.resolve().name, groups=groups
    )


def _is_visible_picture(file: Path, folder: Path) -> bool:
    """Return whether a path below a folder is a picture's file, in no hidden folder."""
    if not (_is_picture(file) and file.is_file()):
        return False
    parents = file.relative_to(folder).parents[:-1]
    return not any(_is_nobodys(parent) for parent in parents)


def _is_nobodys(path: Path) -> bool:
    """Return whether a path is hidden, or a remnant of macOS's archives."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not _is_nobodys(file)


def read_csv(place: str, *, labeled: bool = True) -> Pictures:
    """Return the pictures that a CSV file lists.

    Args:
        place: The path of the file. Its column `path` has paths relative to it; its column `label`
            has names of classes, which are then sorted, or integers from 0. A further column with a
            value in each row gives groups of images.
        labeled: Read the column `label`; if not, it is optional.

    Raises:
        InputError: The file is anything else, or lists a file that cannot be found.
    """
    path = Path(place)
    columns = _csv_columns(path, labeled=labeled)
    places = columns.pop("path")
    labels = list[Any](columns.pop("label", []))
    if not labeled:
        labels = [0] * len(places)
    elif all(_is_whole_number(label) for label in labels):
        labels = [int(label) for label in labels]
    groups = {}
    for title, values in columns.items():
        if title and all(values):
            groups[title] = np.array(values)

    files = [path.parent / place for place in places]
    try:
        return Pictures.of_files(
            [path, *files],
            [EncodedPicture(file) for file in files],
            whole=str(path),
            labels=labels,
            name=path.stem,
            groups=groups,
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: lists a file that cannot be found ({error}); paths are relative to it"
        ) from None


def _csv_columns(path: Path, *, labeled: bool) -> dict[str, list[str]]:
    """Return the cells of a CSV file by column; raises `InputError` without a path or label."""
    needed = ["path"]
    expected = _EXPECTED_PATHS
    if labeled:
        needed = ["path", "label"]
        expected = _EXPECTED_ROWS
    rows = [row for row in csv_rows(path, expected=expected) if row]
    if len(rows) < 2:  # noqa: PLR2004  The titles and one more.
        raise DataError(f"{path}: has no rows; {expected}")
    titles, *rows = rows
    if not set(needed) <= set(titles):
        raise DataError(f"{path}: has {', '.join(titles)}; {expected}")

    columns: dict[str, list[str]] = {}
    for title, *cells in zip_longest(titles, *(row[: len(titles)] for row in rows), fillvalue=""):
        columns[title] = cells
    needed_columns = [columns[title] for title in needed]
    for number, needed_cells in enumerate(zip(*needed_columns, strict=True), start=2):
        if not all(needed_cells):
            raise DataError(f"{path}: row {number} has no {' or no '.join(needed)}; {expected}")
    return columns


def _is_whole_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= 9  # noqa: PLR2004  Fits into 32 bits.


def read_named(spec: str, *, otherwise: str = "", labeled: bool = True) -> Pictures:
    """Return the pictures of a data set in Python.

    A data set with a text `fingerprint` of its content is decoded once, any other in each run.

    Args:
        spec: `package.module:name` of an object, or of a callable that returns one. Its items are
            (picture, label), or dicts with an image and a label. A picture is a PIL image, an array
            (H, W, C) uint8, or a tensor (C, H, W), uint8 or in [0, 1]. Its `classes` name the
            classes, or its `features` as in Hugging Face's data sets.
        otherwise: The end of the message about a missing module.
        labeled: Read the labels; if not, an item may be a picture alone.

    Raises:
        InputError: Its code raises any exception, or it has other items.
    """
    dataset, count = _dataset(spec, otherwise=otherwise)
    labels: list[Any] = [0] * count

    def read(position: int) -> Any:
        item = _called(spec, f"item {position}", lambda: dataset[position])
        if not labeled:
            return _picture(item, f"{spec}: item {position}")
        picture, labels[position] = _pair(item, f"{spec}: item {position}")
        return picture

    names = None
    if labeled:
        labels = [None] * count
        names = _called(spec, "the names of its classes", lambda: _names(dataset))
    fingerprint = getattr(dataset, "fingerprint", None) or getattr(dataset, "_fingerprint", None)
    made_of = None
    notes: tuple[str, ...] = ()
    if isinstance(fingerprint, str):
        made_of = f"{spec} {source_digest(spec)} {fingerprint} {count} {names}"
    else:
        again = "is decoded again in each run; to avoid this, give it a text `fingerprint` of its"
        notes = (f"{spec} {again} content",)
    return Pictures(
        Item.each(read, count, f"{spec}: item"),
        labels=labels,
        names=names,
        name=spec.rpartition(":")[2],
        whole=spec,
        made_of=made_of,
        notes=notes,
        threads=False,
        foreign=True,
    )


def _called(spec: str, what: str, call: Callable[[], Any]) -> Any:
    """Return what a call of the user's code returns; raises `InputError` for any exception."""
    try:
        with foreign_code():
            return call()
    except Exception as error:  # The user's code may raise any exception.
        raise DataError(f"cannot give {what} ({error!r})", setting=f"data {spec}") from error


def _dataset(spec: str, *, otherwise: str) -> tuple[Any, int]:
    """Return the object with items that a specification names, and the number of its items.

    Raises `InputError` for another object, and for one without items.
    """
    verb = "is"
    dataset = imported(spec, setting="data", otherwise=otherwise)
    if callable(dataset) and (isinstance(dataset, type) or not hasattr(dataset, "__getitem__")):
        verb = "gives"
        dataset = _called(spec, "the data set", dataset)

    kind = type(dataset).__name__
    fault = f"{verb} a {kind}"
    if isinstance(dataset, Mapping):
        keys = ", ".join(str(key) for key in dataset)
        fault = f"gives a {kind} with {keys}; name one of them"
    elif hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        count = _called(spec, "its length", lambda: len(dataset))
        if count:
            return dataset, count
        fault = "is empty"
    raise DataError(f"{fault}; {_EXPECTED_ITEMS}", setting=f"data {spec}")


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    """Return the picture and the label of an item; raises `InputError` if it has none of them."""
    if isinstance(item, Mapping):
        picture_key = _first_present(_ITEM_PICTURE_KEYS, item)
        label_key = _first_present(LABEL_KEYS, item)
        if picture_key is None or label_key is None:
            raise DataError(f"{where}: has {', '.join(map(str, item))}; {_EXPECTED_ITEMS}")
        return item[picture_key], _plain(item[label_key])
    if not isinstance(item, tuple | list) or len(item) < 2:  # noqa: PLR2004  Further elements are ignored.
        raise DataError(f"{where}: is a {type(item).__name__}; {_EXPECTED_ITEMS}")
    return item[0], _plain(item[1])


def _plain(label: Any) -> Any:
    """Return a label that is a scalar of NumPy or PyTorch as Python's; others unchanged."""
    if hasattr(label, "item") and getattr(label, "ndim", 0) == 0:
        return label.item()
    return label


def _first_present(keys: tuple[str, ...], item: Mapping[str, Any]) -> str | None:
    return next((key for key in keys if key in item), None)


def _picture(item: Any, where: str) -> Any:
    """Return the picture of an item, with or without a label beside it."""
    if isinstance(item, Mapping):
        key = _first_present(_ITEM_PICTURE_KEYS, item)
        if key is None:
            raise DataError(f"{where}: has {', '.join(map(str, item))}; {_EXPECTED_ITEMS}")
        return item[key]
    if isinstance(item, tuple | list) and item:
        return item[0]
    return item


def _names(dataset: Any) -> list[str] | None:
    """Return the names of the classes that a data set declares; None without any."""
    classes = getattr(dataset, "classes", None)
    if not (isinstance(classes, list | tuple) and classes):
        classes = _names_in_features(getattr(dataset, "features", None))
    if not classes:
        return None
    return [str(name) for name in classes]


def _names_in_features(features: Any) -> Any:
    """Return the names of the classes in the features of a data set of Hugging Face's."""
    if not isinstance(features, Mapping):
        return None
    for key in LABEL_KEYS:
        names = getattr(features.get(key), "names", None)
        if names:
            return names
    return None


def read_webdataset(pattern: str, *, labeled: bool = True) -> Pictures:
    """Return the pictures of the shards that a pattern names, in its order.

    Args:
        pattern: The shards, such as `shards/test-{000..009}.tar`: local files, or URLs. Labels are
            integers from 0 or names, in `.cls` files or under `label` in `.json` files.
        labeled: Read the labels; if not, they are optional.

    Raises:
        InputError: The shards are anything else.
    """
    if pattern.startswith("pipe:"):
        raise DataError(
            f"webdataset:{pattern}: is a command, and none is run; name tar files, or their URLs"
        )
    shards = _shards(pattern)
    if labeled:
        find_facts = partial(found_once, what="samples", find=_members)
    else:
        find_facts = partial(found_once, what="samples without labels", find=_unlabeled_members)
    facts_of_shards = side_by_side(find_facts, shards, threads=_threads(pattern))
    parts = []
    labels = []
    left_out: Counter[str] = Counter()
    for shard, facts in zip(shards, facts_of_shards, strict=True):
        parts += [EncodedPicture(shard, *member) for member in facts["members"]]
        labels += facts["labels"]
        left_out.update(facts["left_out"])

    notes: tuple[str, ...] = ()
    if left_out:
        kinds = [f"{count} .{kind}" for kind, count in sorted(left_out.items())]
        notes = (f"{len(parts)} pictures are read; ignored files: {', '.join(kinds)}",)
    return Pictures.of_files(
        shards,
        parts,
        labels=labels,
        name=_name_of_shards(pattern),
        whole=pattern,
        notes=notes,
    )


def _threads(pattern: str) -> int:
    """Return how many shards are read at once: a server answers while others are waited for."""
    if is_url(pattern):
        return 8
    return 1


def _shards(pattern: str) -> list[File]:
    """Return the files that a pattern names; raises `InputError` for a missing one at a URL."""
    names = _expanded(pattern)
    if is_url(pattern):
        return list(side_by_side(remote_file, names, threads=_threads(pattern)))
    return [Path(name) for name in names]


def _name_of_shards(pattern: str) -> str:
    """Return the name of a data set in shards: that of their files, without numbers."""
    if is_url(pattern):
        pattern = pattern.partition("?")[0]
    file_name = Path(pattern).name.removesuffix(".tar")
    return re.sub(r"\W*\{.*?\}\W*", "", file_name) or "shards"


def _expanded(pattern: str) -> list[str]:
    """Return the names that a pattern stands for.

    It has `{a,b}` for each word, and `{000..009}` for each zero-padded number.
    """
    names = [""]
    for part in re.split(r"(\{[^{}]*\})", pattern):
        words = _words(part)
        if not 0 < len(names) * len(words) <= _MAX_SHARDS:
            raise DataError(
                f"webdataset:{pattern}: {part} is no range of shards, or one of more than "
                f"{_MAX_SHARDS}; expected such as {{000..009}}"
            )
        names = list(map("".join, product(names, words)))
    return names


def _words(part: str) -> list[str]:
    """Return the words that a part of a pattern stands for, at most one more than allowed."""
    if not part.startswith("{"):
        return [part]
    limits = re.fullmatch(r"\{(\d{1,9})\.\.(\d{1,9})\}", part)
    if limits is None:
        return part[1:-1].split(",")
    first, last = limits.groups()
    numbers = range(int(first), int(last) + 1)[: _MAX_SHARDS + 1]
    return [str(number).zfill(len(first)) for number in numbers]


def _unlabeled_members(shard: File) -> dict[str, Any]:
    return _members(shard, labeled=False)


def _members(shard: File, *, labeled: bool = True) -> dict[str, Any]:
    """Return the facts about a shard, plain data.

    They are its pictures, `members`, as (name, offset, size), their `labels`, and the numbers of
    other files by kind, `left_out`.
    """
    import tarfile

    members = []
    labels = []
    with (
        readable(shard, _EXPECTED_SHARDS),
        _open_shard(shard) as file,
        tarfile.open(fileobj=file, mode="r:") as archive,
    ):
        size = file.seek(0, os.SEEK_END)
        samples, left_out = _samples(archive)
        for key, files_by_kind in samples.items():
            pictures = sorted(_PICTURES & set(files_by_kind))
            if len(pictures) != 1:
                raise DataError(f"{shard}: {key} has {len(pictures)} pictures; {_EXPECTED_SHARDS}")
            picture = files_by_kind[pictures[0]]
            if picture.offset_data + picture.size > size:
                raise DataError(f"{shard}: {picture.name} is truncated; copy the shard again")
            members.append((picture.name, picture.offset_data, picture.size))

            read_kinds = {*pictures, "cls", "json"}
            left_out.update(kind for kind in files_by_kind if kind not in read_kinds)
            label: Any = 0
            if labeled:
                label = _member_label(archive, files_by_kind, f"{shard}: {key}")
            labels.append(label)
    return {"members": members, "labels": labels, "left_out": left_out}


def _open_shard(shard: File) -> BinaryIO:
    if isinstance(shard, RemoteFile):
        return shard.opened(blocks=True)
    require_regular(shard)
    return shard.open("rb")


def _samples(
    archive: tarfile.TarFile,
) -> tuple[dict[str, dict[str, tarfile.TarInfo]], Counter[str]]:
    """Return the files of a shard by their common name and by kind, and how many are hidden."""
    samples: dict[str, dict[str, tarfile.TarInfo]] = defaultdict(dict)
    left_out: Counter[str] = Counter()
    for info in archive:
        if not info.isreg():
            continue
        folder, _, name = info.name.rpartition("/")
        key, _, kind = name.partition(".")
        if key and "__MACOSX" not in folder:
            samples[f"{folder}/{key}"][kind.lower()] = info
        else:
            left_out["hidden"] += 1
    return samples, left_out


def _member_label(
    archive: tarfile.TarFile, files_by_kind: dict[str, tarfile.TarInfo], where: str
) -> Any:
    """Return the label of a sample of a shard; raises `InputError` if it has none."""
    for kind in ("cls", "json"):
        if kind not in files_by_kind:
            continue
        member = files_by_kind[kind]
        file = None
        if member.size <= _MAX_LABEL:
            file = archive.extractfile(member)
        if file is None:
            raise DataError(f"{where}.{kind}: is no label; {_EXPECTED_SHARDS}")
        text = file.read().decode("utf-8").strip()
        if kind == "cls":
            return _number_or_text(text)
        label = _label_in(json.loads(text))
        if label is not None:
            return label
    raise DataError(f"{where}: has no label; {_EXPECTED_SHARDS}")


def _number_or_text(text: str) -> int | str:
    if text.isdecimal():
        return int(text)
    return text


def _label_in(content: Any) -> int | str | None:
    """Return the label in the content of a `.json` file: a number, a text, or a table with one."""
    if isinstance(content, int | str):
        return content
    key = _first_present(_SHARD_KEYS, content)
    if key is None or not isinstance(content[key], int | str):
        return None
    label: int | str = content[key]
    return label
