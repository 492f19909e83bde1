"""Changes of the golden set: images added and removed, and its declaration in the checks files of its folder."""

from __future__ import annotations

import hashlib
import re
import tomllib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tomlkit

from harness.base.errors import InputError, writable
from harness.base.files import locked, read_regular, write_all_or_none
from harness.base.progress import Progress
from harness.base.records import as_plain
from harness.calibration.panel import reference_models_of
from harness.checks import ChecksError, read_checks
from harness.checks.tables import with_table
from harness.data.image_files import SUFFIXES, as_png
from harness.data.images import labelled_like, pixels_like
from harness.data.pipeline import Pipeline
from harness.features.golden.golden_set import (
    GOLDEN,
    LIST,
    MAX_BYTES,
    MAX_PICTURE_BYTES,
    SCHEMA,
    GoldenError,
    GoldenImage,
    golden_set,
    images_in,
    labelled_images,
)
from harness.networks import NetworkOptions
from harness.run.inputs import expect_data_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.checks import ChecksFile
    from harness.data import LabelledImages
    from harness.run.settings import ModelSettings

_Made = Literal["pixels", "picture"]
_DIGITS = 18
"""Digits of a number that messages show."""
_TEST = Path(__file__).with_name("stress_tests") / "test_golden.py"
_HEAD = f"""\
# Images that must never be wrong again, a check each. `stress-harness golden add | list | remove` writes this list,
# and its SHA-256 into the checks file; after a change by hand, or a merge, `golden list --declare` does.

schema = {SCHEMA}
"""
_TABLE = re.compile(r"(?m)^\n?(?:<{7}.*\n)?\[golden\]\n((?:[^\[\n][^\n]*(?:\n|\Z)|\n)*)")
_ENTRY = re.compile(r"(?m)^(?:[ \t]*\w+[ \t]*=|<{7}|={7}|>{7}).*(?:\n|\Z)")
"""An entry, or a conflict marker of version control."""


def add(
    checks_path: Path, names: Sequence[str], model: ModelSettings, *, reason: str, class_name: str | None = None
) -> tuple[list[GoldenImage], int, list[Path], str]:
    """Add images to the golden set, each with the number of reference models that predict it correctly.

    Names are numbers of test images, pictures, or folders of pictures. `class_name` is the class of all of them; by
    default the label of a test image, or the folder of a picture. Returns the images, the number of the whole set, the
    files written, and why the predictions of the reference models are unknown, empty if they are known. Raises
    `InputError` for an empty reason, and for an image whose pixels, or file, are in the set already.
    """
    if not reason.strip():
        raise GoldenError("--reason: is empty; say why these images matter, which the report shows when one fails")
    with _alone_with(checks_path):
        checks = read_checks(checks_path)
        images, own = images_for(checks, model), cache(lambda: model.whole_pipeline(model.transform_named))
        old, new, pictures = golden_set(checks), dict[str, GoldenImage](), {}
        made = list(labelled_images(checks, images, model).pixels.numpy()) if old else []
        known = [(image.id, image) for image in old]
        found = (each for name in names for each in _found(name, images, class_name))
        for source, content, suffix, label, how in found:
            if (wanted := class_name or label) not in images.classes:
                known_ones = ", ".join(images.classes)
                raise GoldenError(f"{source}: {wanted!r} is none of the classes {known_ones}; name it with --class")
            sha256 = hashlib.sha256(content).hexdigest()
            pixels = pixels_like(images, content, Pipeline() if how == "pixels" else own(), where=source)
            for (name, other), theirs in zip(known, made, strict=True):
                if other.sha256 == sha256 or np.array_equal(pixels, theirs):
                    raise GoldenError(f"{source}: is golden already, {name}, {other.class_name}; leave it out")
            taken = {image.id for _, image in known}
            free = next(name for digits in (8, 16, 64) if (name := f"golden-{sha256[:digits]}") not in taken)
            said, today = (writable(reason.strip()), datetime.now(UTC).date().isoformat())
            image = GoldenImage(free, wanted, said, today, writable(source), free + suffix, sha256, how)
            known.append((source, image))
            made.append(pixels)
            new[free], pictures[image.file] = image, content
        added = [*new.values()]
        classes = [images.classes.index(image.class_name) for image in added]
        asked = labelled_like(images, made[len(old) :], classes, name=GOLDEN)
        added, unknown = _with_reference(added, asked, checks, model)
        return added, len(known), _write(checks_path, [*old, *added], pictures), unknown


def _found(name: str, images: LabelledImages, class_name: str | None) -> Iterator[tuple[str, bytes, str, str, _Made]]:
    """Yield of each image of a name the source, content and suffix of its file, its label, and what it is made of."""
    if name.isdecimal():
        if len(name.lstrip("0")) > len(str(len(images))) or (number := int(name)) >= len(images):
            shown = name if len(name) <= _DIGITS else f"{name[:_DIGITS]}…"
            raise GoldenError(f"{shown}: there are {len(images)} test images, from 0; a file of this name is ./{shown}")
        content, label = as_png(images.pixels[number].numpy()), images.classes[int(images.labels[number])]
        yield f"image {number} of {images.name}", content, ".png", label, "pixels"
        return
    path, files = Path(name), [Path(name)]
    if path.is_dir():
        pattern = "*/*" if class_name is None else "*"
        files = sorted(file for file in path.glob(pattern) if file.suffix.lower() in SUFFIXES)
    if not files:
        raise GoldenError(f"{path}: no pictures in it; expected a folder per class, or pictures themselves and --class")
    for file in files:
        if (suffix := file.suffix.lower()) not in SUFFIXES:
            known = ", ".join(sorted(SUFFIXES))
            raise GoldenError(f"{file}: expected a number of a test image, or a picture in {known}")
        # The folder of the entry itself, which may be a link to a file elsewhere.
        label, content = writable(file.absolute().parent.name), read_regular(file, max_bytes=MAX_PICTURE_BYTES)
        yield file.name, content, suffix, label, "picture"


def _with_reference(
    added: Sequence[GoldenImage], asked: LabelledImages, checks: ChecksFile, model: ModelSettings
) -> tuple[list[GoldenImage], str]:
    """Return the images with the predictions of reference models, or unchanged with why these are unknown."""
    from harness.inference import open_model

    try:
        correct, panel = [], list(reference_models_of(checks))
        for path, sha256 in Progress(panel, desc="asking reference models", unit="network", delay=2):
            network = open_model(path, asked, network=model.part(NetworkOptions), device=model.device)
            if network.sha256 != sha256:
                raise GoldenError(f"{path} is not the network of the panel {checks.recipe.get('panel')}")
            correct.append(network.predict(asked).correct)
    except (InputError, OSError) as error:
        return [*added], str(error)
    counts = np.array(correct, dtype=int).reshape(-1, len(asked)).sum(axis=0).tolist()
    return [replace(image, reference=(right, len(panel))) for image, right in zip(added, counts, strict=True)], ""


def remove(checks_path: Path, ids: Sequence[str]) -> tuple[int, list[Path]]:
    """Remove images by their ids; return how many are left and the files written.

    Raises `InputError` for an unknown id.
    """
    with _alone_with(checks_path):
        golden = golden_set(read_checks(checks_path))
        if unknown := [name for name in ids if name not in {image.id for image in golden}]:
            raise GoldenError(f"{unknown[0]}: no golden image of {checks_path} has this id; `golden list` names them")
        left, removed = ([image for image in golden if (image.id in ids) is gone] for gone in (False, True))
        written = _write(checks_path, left, {})
        for image in removed:
            (checks_path.parent / GOLDEN / image.file).unlink(missing_ok=True)
        return len(left), written


def declare(checks_path: Path) -> tuple[int, list[Path], list[str]]:
    """Declare the list in the checks files, after it was merged or edited by hand.

    Returns the number of images, the checks files written, and pictures not on the list. The images themselves are not
    looked at: `remove` gives up those of a declared set. Raises `InputError` for an empty list.
    """
    with _alone_with(checks_path):
        path = checks_path.parent / GOLDEN / LIST
        golden = images_in(read_regular(path, max_bytes=MAX_BYTES), path)
        if not golden:
            raise GoldenError(
                f"{path}: names no image; restore it from version control. To end the golden set, delete the file and "
                "take [golden] out of the checks files."
            )
        written = _write(checks_path, golden, {})
    named = {image.file for image in golden}
    pictures = [file.name for file in sorted(path.parent.iterdir()) if file.suffix.lower() in SUFFIXES]
    return len(golden), written, [name for name in pictures if name not in named]


def images_for(checks: ChecksFile, model: ModelSettings) -> LabelledImages:
    """Return the images that a checks file was made for; raises `InputError` for other data."""
    images = model.load(model.transform_named)
    expect_data_of(checks, images)
    return replace(images, classes=checks.data.classes) if checks.data.classes else images


@contextmanager
def _alone_with(checks: Path) -> Iterator[None]:
    """Lock the golden set and the checks files that declare it until the block ends."""
    with ExitStack() as stack:
        for path in (checks.parent / GOLDEN, *_declaring_files(checks)):
            stack.enter_context(locked(path))
        yield


def _declaring_files(checks: Path) -> list[Path]:
    """Return the checks files of the folder, each once: none could be read without declaring its golden set.

    A link is resolved to its target, and so stays a link when the file is written.
    """
    found = {checks.resolve(): checks}
    for path in sorted(checks.parent.glob("*.toml")):
        text = path.read_text("utf-8", "replace") if path.is_file() else ""
        # Perhaps it is in the middle of a merge, and no TOML.
        if (table := _parsed(text)) is None:
            mine = all(re.search(rf"(?m)^{wanted}", text) for wanted in (r"schema\b", r"\[data\]"))
        else:
            mine = {"schema", "data"} <= table.keys()
        if mine:
            found.setdefault(path.resolve(), path)
    return [end if path.is_symlink() else path for end, path in found.items()]


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def _write(checks: Path, golden: Sequence[GoldenImage], pictures: Mapping[str, bytes]) -> list[Path]:
    """Write the list, new pictures by name, declarations and a missing test; return the files except pictures.

    Declarations come last: a reader in between finds a set that is not the declared one, which is an error. Raises
    `ChecksError`, and writes nothing, for a list that cannot be read back.
    """
    folder, content = checks.parent / GOLDEN, _HEAD.encode()
    for image in golden:
        row = {"class" if name == "class_name" else name: said for name, said in as_plain(image).items() if said != []}
        content += f"\n[[image]]\n{tomlkit.dumps(row)}".encode()
    if len(content) > MAX_BYTES:
        raise ChecksError(f"{folder / LIST}: has {len(content)} bytes, the limit is {MAX_BYTES}; shorten the reasons")
    images_in(content, folder / LIST)
    files = {folder / name: picture for name, picture in pictures.items()}
    if golden:
        files[folder / LIST] = content
        if not (test := checks.parent / _TEST.name).exists():
            files[test] = _TEST.read_bytes()
    table = {GOLDEN: {"sha256": hashlib.sha256(content).hexdigest(), "n": len(golden)}} if golden else {}
    for path in _declaring_files(checks):
        files[path] = _with_table(path.read_text("utf-8"), table, path).encode()
    write_all_or_none(files)
    if not golden:
        (folder / LIST).unlink(missing_ok=True)
    return [path for path in files if path.name not in pictures]


def _with_table(text: str, table: Mapping[str, Any], path: Path) -> str:
    """Return the text of a checks file with this table as its declaration, or without one if it is empty.

    Raises `ChecksError` for a file that is no TOML, and where the declaration does not fit into it.
    """
    without = _TABLE.sub(lambda found: _ENTRY.sub("", found[1]), text)  # A person wrote the comments: they stay.
    made = with_table(without, GOLDEN, tomlkit.dumps(table), behind="data")
    before = _parsed(text) or _parsed(without)  # Two declarations of merged branches are no valid TOML.
    if before is None:
        raise ChecksError(f"{path}: not valid TOML; correct it, or finish the merge, then `golden list --declare`")
    before.pop(GOLDEN, None)
    if _parsed(made) != {**before, **table}:
        raise ChecksError(f"{path}: its [golden] cannot be written; write it by hand: {tomlkit.dumps(table).strip()!r}")
    return made
