"""The inputs of a run: their files, their state, and whether the data are those of the checks."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.codes import Code
from harness.base.errors import ChangedError, InputError, printable, some_of
from harness.base.features import families_with_rows
from harness.base.files import read_regular
from harness.base.outputs import Inputs
from harness.base.user_code import is_name
from harness.checks.tables import OF_PROJECT, entries
from harness.data.domain import domain_in_words
from harness.run.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.checks import ChecksFile
    from harness.data import LabelledImages
    from harness.run.request import RunRequest
    from harness.run.settings import ModelSettings


_MAX_BYTES_READ = 256 << 20
"""Bytes of the largest file that is read again.

Size and time stand for a larger one, and for files in folders.
"""
_IN_PARTS = frozenset({".onnx", ".xml"})
"""Suffixes of networks that keep their weights in files of similar names."""
_SETTINGS_OF_FILES = [name for name, setting in SETTINGS.items() if setting.reads]
CONFIGURATION = ("pyproject.toml", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg")


def state_of(inputs: Inputs) -> dict[Path, str]:
    """Return the state of each file among the inputs, by its absolute path.

    That is its SHA-256. For files in folders and the largest ones, it is their inode, size and time
    of change. Code has no state here; it counts once it runs.
    """
    states: dict[Path, str] = {}
    paths = [path.absolute() for path in inputs.paths if path.suffix != ".py"]
    for path in paths:
        if path.is_dir():
            states |= {file: _state(file, read=False) for file in _files_in(path)}
        else:
            states[path] = _state(path)
    return states


def _files_in(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            yield Path(place, name)


def expect_unchanged(before: Mapping[Path, str]) -> None:
    """Raise `InputError` for the first file that was changed, replaced or removed meanwhile."""
    for path, earlier in before.items():
        now = _state(path, read=not earlier.startswith("file"))
        if now != earlier:
            raise ChangedError(
                f"{printable(path)}: changed while the gate ran: it was {earlier}, and is {now} "
                "now; run the gate again when nothing writes to it"
            )


def _state(path: Path, *, read: bool = True) -> str:
    """Return the state of a file: its inode, size and time, or its SHA-256 if it is `read`."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return "no regular file"
        if read and facts.st_size <= _MAX_BYTES_READ:
            content = read_regular(path, max_bytes=_MAX_BYTES_READ)
            return f"SHA-256 {hashlib.sha256(content).hexdigest()[:16]}…"
    except (OSError, ValueError):
        return "no file"
    return f"file {facts.st_ino} of {facts.st_size} bytes, changed at {facts.st_mtime_ns} ns"


def inputs_of_run(request: RunRequest, *, more: Iterable[str | Path] = ()) -> Inputs:
    """Return what a run of the gate reads, and the files that `more` specifications name."""
    settings = [getattr(request, name) for name in _SETTINGS_OF_FILES]
    values = [*request.roles.values(), *settings, *request.checkpoints.values(), *more]
    specs = [value for value in values if isinstance(value, str | Path)]
    return Inputs((*_named_files(specs), *_files_of_project(request.checks_path)))


def inputs_of_command(
    paths: Iterable[str | Path | None],
    settings: ModelSettings | None = None,
    *,
    checks: Path | None = None,
) -> Inputs:
    """Return what a command reads.

    Args:
        paths: of files.
        settings: may name more files.
        checks: the checks file, to which others belong.
    """
    specs: list[str | Path | None] = list(paths)
    if settings is not None:
        specs += [settings.data, settings.transform, settings.model]
    files = list(_named_files(spec for spec in specs if spec))
    if checks is not None:
        files += _files_of_project(checks)
    return Inputs(tuple(files))


def _named_files(specs: Iterable[str | Path]) -> Iterator[Path]:
    """Return the files and folders that specifications name, except folders around this one.

    A specification is a path, perhaps behind a kind and a colon, or a module.
    """
    here = Path.cwd()
    for spec in map(str, specs):
        for name in _possible_names(spec):
            for path in _existing(name):
                if not here.is_relative_to(path.resolve()):
                    yield path


def _possible_names(spec: str) -> list[str]:
    """Return the names of files that a specification may mean."""
    path = spec
    if re.match(r"[a-z][a-z0-9-]*:(?!//)", spec):
        path = spec.partition(":")[2]

    names = [spec, path]
    for text in (spec, path):
        if is_name(text):
            module = text.partition(":")[0].replace(".", "/")
            names += [f"{module}.py", f"{module}/__init__.py"]
    return [name for name in names if name]


def _existing(name: str) -> list[Path]:
    """Return the files of this name that exist: several for shards and for networks in parts."""
    here = Path.cwd()
    with suppress(OSError, ValueError):  # No name that a file can have.
        if "{" in name:  # Shards, such as test-{000..009}.tar.
            pattern = here / re.sub(r"\{[^}]*\}", "*", name)
            return sorted(pattern.parent.glob(pattern.name))
        if (here / name).exists():
            path = Path(name)
            if path.suffix.lower() in _IN_PARTS:
                return [path, *(here / name).parent.glob(f"{path.stem}.*")]
            return [path]
    return []


def _files_of_project(checks: Path) -> Iterator[Path]:
    """Return the checks file and what belongs to it.

    That is stress tests, images of rows, the panel, and the configuration of pytest.
    """
    folder = checks.parent
    yield checks
    yield from sorted(folder.glob("*.py"))
    for family in families_with_rows():
        yield folder / family
    for place in {folder.resolve().parent, Path.cwd()}:
        yield from sorted(place.glob("*.py"))
        for name in CONFIGURATION:
            yield place / name

    recipe = _recipe_in(checks)
    for key, place in (("panel_predictions", folder), ("panel", Path())):
        file_name = recipe.get(key)
        if isinstance(file_name, str):
            yield place / file_name


def _recipe_in(checks: Path) -> dict[str, object]:
    """Return the recipe in a checks file; empty where it cannot be read."""
    # The file's own reader says what is wrong with it.
    with suppress(OSError, ValueError, RecursionError):
        content = read_regular(checks, max_bytes=_MAX_BYTES_READ).decode()
        recipe = tomllib.loads(content).get("recipe")
        if isinstance(recipe, dict):
            return recipe
    return {}


def expect_data_of(checks: ChecksFile, images: LabelledImages) -> None:
    """Raise `InputError` unless these are all images of the checks file, with their groups."""
    from harness.checks.slices import expect_groups_of

    _expect_same_data(checks, images)
    expect_groups_of(checks, images)
    _expect_same_classes(checks, images)


def _expect_same_data(checks: ChecksFile, images: LabelledImages) -> None:
    facts = {
        "name": images.name,
        "split": images.split,
        "n": len(images),
        "sha256": images.sha256,
    }
    for name, fact in facts.items():
        expected = getattr(checks.data, name)
        if fact != expected:
            channels, height, width = images.pixels.shape[1:]
            pipeline = f"; {images.pipeline}" if images.pipeline else ""
            raise InputError(
                f"{checks.path}: made for other data: its [data] {name} is {expected!r}, these "
                f"data have {fact!r} (images of {height}x{width} pixels, channels: "
                f"{channels}{pipeline}). Name the checks file of these data with --checks, or the "
                "data of the checks file with --stress-set data=…. `stress-harness init` writes a "
                "checks file for these data.",
                code=Code.CHECKS,
            )


def _expect_same_classes(checks: ChecksFile, images: LabelledImages) -> None:
    names = checks.data.classes
    where = f"{checks.path}: [data] classes has"
    if names and len(names) != len(images.classes):
        raise InputError(
            f"{where} {len(names)} names, the data have {len(images.classes)} classes; give one "
            "name per class, in the order of the labels",
            code=Code.CHECKS,
        )

    # Other names for the classes are allowed, but not the names of the data in another order.
    pairs = zip(names, images.classes, strict=False)
    moved = [name for name, own in pairs if name != own and name in images.classes]
    if moved:
        raise InputError(
            f"{where} {some_of(moved)} in another place than the data; expected their order, "
            f"{some_of(images.classes)}. Correct the order, or remove classes",
            code=Code.CHECKS,
        )


def expect_domain_of(checks: ChecksFile, images: LabelledImages) -> None:
    """Raise `InputError` for another augmentation range or border than of the checks file.

    Both change the pixels of rotated and shifted images, so thresholds do not carry over.
    """
    expected = checks.data.domain
    if images.domain == expected:
        return
    lines = "; ".join(entries(expected.declared()))
    restore = "remove augmentation and border from [gate]"
    if lines:
        restore = f"write {lines} below [gate]"
    raise InputError(
        f"{checks.path}: its thresholds were made for {domain_in_words(expected)}, and [gate] in "
        f"{OF_PROJECT} has {domain_in_words(images.domain)}. Calibrate all families "
        "(`stress-harness calibrate`), which sets thresholds for these settings, or "
        f"{restore}",
        code=Code.CHECKS,
    )


def expect_profile_of(checks: ChecksFile, profile: str) -> None:
    """Raise `InputError` for a profile that measures other images than the checks file."""
    if checks.data.sample is not None and profile != "quick":
        raise InputError(
            f"{checks.path}: made for the quick profile's sample of {checks.data.measured} images, "
            f"but this is the {profile} profile with all {checks.data.n}. Add --stress-profile "
            "quick, or name another file with --checks.",
            code=Code.CHECKS,
        )
