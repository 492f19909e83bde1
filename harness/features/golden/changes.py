"""Changes of the golden set.

Images added and removed, and its declaration in the checks files of its folder.
"""

from __future__ import annotations

import hashlib
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
from harness.checks.edits import with_entries, with_table
from harness.data.image_files import SUFFIXES, as_png
from harness.data.images import labelled_like, pixels_like
from harness.data.pipeline import Pipeline
from harness.features.golden import golden_set as kept
from harness.features.golden.golden_set import GOLDEN, GoldenError, GoldenImage
from harness.inference import open_model
from harness.networks import NetworkOptions
from harness.run.inputs import expect_data_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.checks import ChecksFile
    from harness.data import LabelledImages
    from harness.run.settings import ModelSettings

_Made = Literal["pixels", "picture"]
_DIGITS = 18
"""Digits of the largest number that is looked at."""
_HEAD = f"""\
# Images that must never be wrong again, a check each. `stress-harness golden add | list | remove`
# writes this list, and its SHA-256 into the checks file; after a change by hand, or a merge,
# `golden list --declare` does.

schema = {kept.SCHEMA}
"""
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")
"""Beginnings of the lines that version control writes about a conflict."""


def add(
    checks_path: Path,
    names: Sequence[str],
    model: ModelSettings,
    *,
    reason: str,
    class_name: str | None = None,
) -> tuple[list[GoldenImage], int, list[Path], str]:
    """Add images to the golden set, each with the number of reference models that are correct.

    Names are numbers of test images, pictures, or folders of pictures. `class_name` is the class of
    all of them; by default the label of a test image, or the folder of a picture. Returns the
    images, the number of the whole set, and the files written. The last result says why the
    predictions of the reference models are unknown, empty if they are known. Raises `InputError`
    for an empty reason, and for an image whose pixels, or file, are in the set already.
    """
    if not (said := writable(reason.strip())):
        raise GoldenError(
            "--reason: is empty; say why these images matter, which the report shows when one fails"
        )
    with _alone_with(checks_path):
        checks = read_checks(checks_path)
        images, own = (
            images_for(checks, model),
            cache(lambda: model.whole_pipeline(model.transform_named)),
        )
        old, today = kept.golden_set(checks), datetime.now(UTC).date().isoformat()
        present = kept.labelled_images(checks, images, model).pixels.numpy() if old else ()
        seen: dict[str | bytes, str] = {}
        for image, pixels in zip(old, present, strict=True):
            seen |= dict.fromkeys(
                (image.sha256, pixels.tobytes()), f"{image.id}, {image.class_name}"
            )
        new, made, pictures = list[GoldenImage](), list[np.ndarray](), {}
        found = (each for name in names for each in _found(name, images, class_name))
        for source, content, suffix, label, how in found:
            if (wanted := class_name or label) not in images.classes:
                some = ", ".join(images.classes)
                raise GoldenError(
                    f"{source}: {wanted!r} is none of the classes {some}; name it with --class"
                )
            sha256 = hashlib.sha256(content).hexdigest()
            pixels = pixels_like(
                images, content, Pipeline() if how == "pixels" else own(), where=source
            )
            if twice := seen.get(sha256) or seen.get(pixels.tobytes()):
                raise GoldenError(f"{source}: is golden already, {twice}; leave it out")
            seen |= dict.fromkeys((sha256, pixels.tobytes()), f"{source}, {wanted}")
            name = f"golden-{sha256[:8]}"
            new.append(
                GoldenImage(name, wanted, said, today, writable(source), name + suffix, sha256, how)
            )
            made.append(pixels)
            pictures[name + suffix] = content
        asked = labelled_like(
            images, made, [images.classes.index(image.class_name) for image in new], name=GOLDEN
        )
        new, unknown = _with_reference(new, asked, checks, model)
        return new, len(old) + len(new), _write(checks_path, [*old, *new], pictures), unknown


def _found(
    name: str, images: LabelledImages, class_name: str | None
) -> Iterator[tuple[str, bytes, str, str, _Made]]:
    """Yield the source, content, suffix, label and origin of each image of a name.

    Content and suffix are those of its file.
    """
    if name.isdecimal():
        if len(name) > _DIGITS or (number := int(name)) >= len(images):
            shown = name if len(name) <= _DIGITS else f"{name[:_DIGITS]}…"
            raise GoldenError(
                f"{shown}: there are {len(images)} test images, from 0; a file of this name is "
                f"./{shown}"
            )
        content, label = (
            as_png(images.pixels[number].numpy()),
            images.classes[int(images.labels[number])],
        )
        yield f"image {number} of {images.name}", content, ".png", label, "pixels"
        return
    path, files = Path(name), [Path(name)]
    if path.is_dir():
        pattern = "*/*" if class_name is None else "*"
        files = sorted(file for file in path.glob(pattern) if file.suffix.lower() in SUFFIXES)
    if not files:
        raise GoldenError(
            f"{path}: no pictures in it; expected a folder per class, or pictures themselves and "
            "--class"
        )
    for file in files:
        if (suffix := file.suffix.lower()) not in SUFFIXES:
            known = ", ".join(sorted(SUFFIXES))
            raise GoldenError(f"{file}: expected a number of a test image, or a picture in {known}")
        # The folder of the entry itself, which may be a link to a file elsewhere.
        label, content = (
            writable(file.absolute().parent.name),
            read_regular(file, max_bytes=kept.MAX_BYTES),
        )
        yield file.name, content, suffix, label, "picture"


def _with_reference(
    new: list[GoldenImage], asked: LabelledImages, checks: ChecksFile, model: ModelSettings
) -> tuple[list[GoldenImage], str]:
    """Return the images with the predictions of reference models.

    Without any, the images are unchanged and a reason is returned.
    """
    try:
        correct, panel = np.zeros(len(new), dtype=int), list(reference_models_of(checks))
        for path, sha256 in Progress(
            panel, desc="asking reference models", unit="network", delay=2
        ):
            network = open_model(
                path, asked, network=model.part(NetworkOptions), device=model.device
            )
            if network.sha256 != sha256:
                raise GoldenError(
                    f"{path} is not the network of the panel {checks.recipe.get('panel')}"
                )
            correct += network.predict(asked).correct
    except (InputError, OSError) as error:
        return new, str(error)
    return [
        replace(each, reference=(int(right), len(panel)))
        for each, right in zip(new, correct, strict=True)
    ], ""


def remove(checks_path: Path, ids: Sequence[str]) -> tuple[int, list[Path]]:
    """Remove images by their ids; return how many are left and the files written.

    Raises `InputError` for an unknown id.
    """
    with _alone_with(checks_path):
        golden = {image.id: image for image in kept.golden_set(read_checks(checks_path))}
        if unknown := [name for name in ids if name not in golden]:
            raise GoldenError(
                f"{unknown[0]}: no golden image of {checks_path} has this id; `golden list` names "
                "them"
            )
        left = [image for name, image in golden.items() if name not in ids]
        written = _write(checks_path, left, {})
        for name in ids:
            (checks_path.parent / GOLDEN / golden[name].file).unlink(missing_ok=True)
        return len(left), written


def declare(checks_path: Path) -> tuple[int, list[Path], list[str]]:
    """Declare the list in the checks files, after it was merged or edited by hand.

    Returns the number of images, the checks files written, and pictures not on the list. The images
    themselves are not looked at: `remove` gives up those of a declared set. Raises `InputError` for
    an empty list.
    """
    with _alone_with(checks_path):
        path = checks_path.parent / GOLDEN / kept.LIST
        golden = kept.images_in(read_regular(path, max_bytes=kept.MAX_BYTES), path)
        if not golden:
            raise GoldenError(
                f"{path}: names no image; restore it from version control. To end the golden set, "
                "delete the file and take [golden] out of the checks files."
            )
        written = _write(checks_path, golden, {})
    pictures = {file.name for file in path.parent.iterdir() if file.suffix.lower() in SUFFIXES}
    return len(golden), written, sorted(pictures - {image.file for image in golden})


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
    """Return the checks files of the folder, each once.

    None could be read without declaring its golden set.

    One may be no TOML, in the middle of a merge. A link is resolved to its target, and so stays a
    link.
    """
    found = {checks.resolve(): checks}
    for path in sorted(checks.parent.glob("*.toml")):
        if path.is_file() and _is_checks_file(path.read_text("utf-8", "replace")):
            found.setdefault(path.resolve(), path)
    return [end if path.is_symlink() else path for end, path in found.items()]


def _is_checks_file(text: str) -> bool:
    """Return whether a text has the schema and the table [data] of a checks file.

    It may be no TOML.
    """
    lines = [line.replace(" ", "").replace("\t", "") for line in text.split("\n")]
    has_schema = any(line.startswith("schema=") for line in lines)
    return has_schema and any(line.startswith("[data]") for line in lines)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def _write(
    checks: Path, golden: Sequence[GoldenImage], pictures: Mapping[str, bytes]
) -> list[Path]:
    """Write the list, new pictures by name, and declarations; return the files except pictures.

    Declarations come last: a reader in between finds a set that is not the declared one, which is
    an error. Raises `ChecksError`, and writes nothing, for a list that cannot be read back.
    """
    folder, content, table = checks.parent / GOLDEN, _HEAD.encode(), dict[str, Any]()
    files = {folder / name: picture for name, picture in pictures.items()}
    for image in golden:
        row = {
            "class" if name == "class_name" else name: said
            for name, said in as_plain(image).items()
            if said != []
        }
        content += f"\n[[image]]\n{tomlkit.dumps(row)}".encode()
    if golden:
        kept.images_in(content, folder / kept.LIST)
        files[folder / kept.LIST] = content
        table = {"sha256": hashlib.sha256(content).hexdigest(), "n": len(golden)}
    for path in _declaring_files(checks):
        files[path] = _declaring(path, table).encode()
    write_all_or_none(files)
    if not golden:
        (folder / kept.LIST).unlink(missing_ok=True)
    return [path for path in files if path.name not in pictures]


def _declaring(path: Path, declaration: Mapping[str, Any]) -> str:
    """Return the text of a checks file with this declaration; comments in its table stay.

    Raises `ChecksError` for a file that is not valid TOML, also without its table [golden].
    """
    mended = "correct it, or finish the merge, then `golden list --declare`"
    text = path.read_bytes().decode()
    content = _parsed(text)
    if content is None:  # Two declarations of merged branches are no valid TOML.
        text = _without_declarations(text)
        content = _parsed(text)
    if content is None:
        raise ChecksError(f"{path}: not valid TOML with its table [golden]; {mended}")

    if declaration and GOLDEN in content:
        declaring = with_entries(text, GOLDEN, declaration)
    elif declaration:
        declaring = with_table(text, GOLDEN, tomlkit.dumps({GOLDEN: declaration}), behind="data")
    else:
        declaring = with_table(text, GOLDEN, "")
    others = {name: value for name, value in content.items() if name != GOLDEN}
    expected = {**others, GOLDEN: declaration} if declaration else others
    if _parsed(declaring) != expected:
        raise ChecksError(f"{path}: its other tables would change; {mended}")
    return declaring


def _without_declarations(text: str) -> str:
    """Return a text in the middle of a merge without its tables [golden].

    Their comments stay.
    """
    lines: list[str] = []
    in_table = False
    for line in text.split("\n"):
        if line.startswith("["):
            in_table = line.startswith(f"[{GOLDEN}]")
            if in_table and lines and lines[-1].startswith(_CONFLICT):
                lines.pop()
        is_entry = "=" in line or line.startswith((f"[{GOLDEN}]", *_CONFLICT))
        is_comment = line.lstrip().startswith("#")
        if not in_table or is_comment or not is_entry:
            lines.append(line)
    return "\n".join(lines)
