"""The inputs of a run: their files, their state before and after it, and whether the data are those of the checks."""

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


_READ_AGAIN = 256 << 20
"""Bytes of the largest file that is read again. Size and time stand for a larger one, and for files in folders."""
_IN_PARTS = frozenset({".onnx", ".xml"})
"""Suffixes of networks that keep their weights in files of similar names."""
_READ = [name for name, each in SETTINGS.items() if each.reads]
CONFIGURATION = ("pyproject.toml", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg")


def state_of(inputs: Inputs) -> dict[Path, str]:
    """Return the state of each file among the inputs, by its absolute path, except code, which counts once it runs.

    That is its SHA-256. For files in folders and the largest ones, it is their inode, size and time of change.
    """
    found: dict[Path, str] = {}
    for path in (each.absolute() for each in inputs.paths if each.suffix != ".py"):
        if path.is_dir():
            for place, folders, names in os.walk(path):
                folders[:] = [name for name in folders if name != "__pycache__"]
                found.update(
                    (file, _state(file, read=False))
                    for file in (Path(place, name) for name in names)
                )
        else:
            found[path] = _state(path)
    return found


def expect_unchanged(before: Mapping[Path, str]) -> None:
    """Raise `InputError` for the first file that is not as it was: changed, replaced or gone."""
    for path, was in before.items():
        if (now := _state(path, read=not was.startswith("file"))) != was:
            raise ChangedError(
                f"{printable(path)}: changed while the gate ran: it was {was}, and is {now} now; run the gate again "
                "when nothing writes to it"
            )


def _state(path: Path, *, read: bool = True) -> str:
    """Return the state of a file; one that is not `read` is known by its inode, size and time."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return "no regular file"
        if read and found.st_size <= _READ_AGAIN:
            return f"SHA-256 {hashlib.sha256(read_regular(path, max_bytes=_READ_AGAIN)).hexdigest()[:16]}…"
    except (OSError, ValueError):
        return "no file"
    return f"file {found.st_ino} of {found.st_size} bytes, changed at {found.st_mtime_ns} ns"


def inputs_of_run(request: RunRequest, *, more: Iterable[str | Path] = ()) -> Inputs:
    """Return what a run of the gate reads, and the files that `more` specifications name."""
    named = [*request.roles.values(), *(getattr(request, name) for name in _READ)]
    specs = [
        value
        for value in (*named, *request.checkpoints.values(), *more)
        if isinstance(value, str | Path)
    ]
    return Inputs((*_named(specs), *_of_project(request.checks_path)))


def inputs_of_command(
    paths: Iterable[str | Path | None],
    settings: ModelSettings | None = None,
    *,
    checks: Path | None = None,
) -> Inputs:
    """Return what a command reads: the files at `paths`, those that its settings name, and those of the checks file."""
    specs: list[str | Path | None] = list(paths)
    if settings is not None:
        specs += [settings.data, settings.transform, settings.model]
    return Inputs(
        (*_named(spec for spec in specs if spec), *(_of_project(checks) if checks else ()))
    )


def _named(specs: Iterable[str | Path]) -> Iterator[Path]:
    """Return the files and folders that specifications name: paths, perhaps behind a kind and a colon, and modules."""
    here = Path.cwd()
    for spec in map(str, specs):
        path = spec.partition(":")[2] if re.match(r"[a-z][a-z0-9-]*:(?!//)", spec) else spec
        modules = [
            name.partition(":")[0].replace(".", "/") for name in (spec, path) if is_name(name)
        ]
        files = [f"{each}{end}" for each in modules for end in (".py", "/__init__.py")]
        for name in filter(None, (spec, path, *files)):
            found: list[Path] = []
            with suppress(OSError, ValueError):  # No name that a file can have.
                if "{" in name:  # Shards, such as test-{000..009}.tar.
                    pattern = here / re.sub(r"\{[^}]*\}", "*", name)
                    found = sorted(pattern.parent.glob(pattern.name))
                elif (here / name).exists():
                    found = [Path(name)]
                    if found[0].suffix.lower() in _IN_PARTS:
                        found += (here / name).parent.glob(f"{found[0].stem}.*")
            yield from (each for each in found if not here.is_relative_to(each.resolve()))


def _of_project(checks: Path) -> Iterator[Path]:
    """Return the checks file and what belongs to it: stress tests, images of rows, the panel and the configuration."""
    folder = checks.parent
    yield from (
        checks,
        *sorted(folder.glob("*.py")),
        *(folder / name for name in families_with_rows()),
    )
    for place in {folder.resolve().parent, Path.cwd()}:
        yield from (*sorted(place.glob("*.py")), *(place / name for name in CONFIGURATION))
    recipe: object = None
    with suppress(
        OSError, ValueError, RecursionError
    ):  # The file's own reader says what is wrong with it.
        recipe = tomllib.loads(read_regular(checks, max_bytes=_READ_AGAIN).decode()).get("recipe")
    for key, place in (("panel_predictions", folder), ("panel", Path())):
        if isinstance(recipe, dict) and isinstance(name := recipe.get(key), str):
            yield place / name


def expect_data_of(checks: ChecksFile, images: LabelledImages) -> None:
    """Raise `InputError` unless these are all the images that the checks file was made for, with their groups."""
    made_for, where = checks.data, f"{checks.path}: [data] classes has"
    for name in ("name", "split", "n", "sha256"):
        found, expected = (
            len(images) if name == "n" else getattr(images, name),
            getattr(made_for, name),
        )
        if found != expected:
            channels, height, width = images.pixels.shape[1:]
            made = f"; {images.pipeline}" if images.pipeline else ""
            raise InputError(
                f"{checks.path}: made for other data: its [data] {name} is {expected!r}, these data have "
                f"{found!r} (images of {height}x{width} pixels, channels: {channels}{made}). Name the checks file of "
                "these data with --checks, or the data of the checks file with --stress-set data=…. `stress-harness "
                "init` writes a checks file for these data.",
                code=Code.CHECKS,
            )
    from harness.checks.slices import expect_groups_of

    expect_groups_of(checks, images)
    if made_for.classes and len(made_for.classes) != len(images.classes):
        raise InputError(
            f"{where} {len(made_for.classes)} names, the data have {len(images.classes)} classes; give one name per "
            "class, in the order of the labels",
            code=Code.CHECKS,
        )
    known = zip(made_for.classes, images.classes, strict=False)
    if moved := [name for name, own in known if name != own and name in images.classes]:
        raise InputError(
            f"{where} {some_of(moved)} in another place than the data; expected their order, "
            f"{some_of(images.classes)}. Correct the order, or remove classes",
            code=Code.CHECKS,
        )


def expect_domain_of(checks: ChecksFile, images: LabelledImages) -> None:
    """Raise `InputError` for another augmentation range, or border, than the checks file was made for.

    Both change the pixels of rotated and shifted images, so thresholds do not carry over.
    """
    found, expected = images.domain, checks.data.domain
    if found != expected:
        lines = "; ".join(entries(expected.declared()))
        restore = (
            f"write {lines} below [gate]" if lines else "remove augmentation and border from [gate]"
        )
        raise InputError(
            f"{checks.path}: its thresholds were made for {domain_in_words(expected)}, and [gate] in {OF_PROJECT} has "
            f"{domain_in_words(found)}. Calibrate all families (`stress-harness calibrate`), which sets thresholds for "
            f"these settings, or {restore}",
            code=Code.CHECKS,
        )


def expect_profile_of(checks: ChecksFile, profile: str) -> None:
    """Raise `InputError` for a profile that measures other images than the checks file was made for."""
    if checks.data.sample is not None and profile != "quick":
        raise InputError(
            f"{checks.path}: made for the quick profile's sample of {checks.data.measured} images, but this is the "
            f"{profile} profile with all {checks.data.n}. Add --stress-profile quick, or name another file with "
            "--checks.",
            code=Code.CHECKS,
        )
