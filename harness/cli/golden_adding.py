"""Images added to the golden set: found, made like those at hand, and shown to healthy retrains."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.cli.status import OK
from harness.data.options import DATA_SETTINGS, DataOptions
from harness.data.pipeline import Pipeline
from harness.errors import InputError, printable, writable
from harness.networks import NetworkOptions
from harness.networks.options import NETWORK_SETTINGS
from harness.store.settings import add_settings, values_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.gates import GatesFile
    from harness.gates.golden import GoldenImage

_MAX_DIGITS = 18
"""Of the number of a test image; no data have as many."""


@dataclass(frozen=True)
class _New:
    """A picture to add: the content of its file and how that ends, the class that it is of, and where it came from."""

    content: bytes
    suffix: str
    class_name: str
    source: str
    made: Literal["pixels", "picture"]

    @property
    def sha256(self) -> str:
        """Return that of its file."""
        return hashlib.sha256(self.content).hexdigest()


def add_images(options: argparse.Namespace) -> int:
    """Add the images that the options name to the golden set, and say how many healthy retrains get each right."""
    from harness.gates import read_gates
    from harness.gates.declaring import alone_with, write_golden

    if not options.reason.strip():
        raise InputError("--reason: is empty; say why these images must be right, as it is shown when one is not")
    with alone_with(options.gates):
        gates = read_gates(options.gates)
        images, data, network = data_of(options, gates)
        new = [each for name in options.images for each in _found(name, images, options.class_name)]
        asked = _made(new, gates, images, data, network)
        right, unknown = _healthy(gates, asked, network, options.device)
        kept = list(gates.golden)
        for at, each in enumerate(new):
            kept.append(_golden(each, options.reason.strip(), {image.id for image in kept}, right[at] if right else ()))
        added = kept[len(gates.golden) :]
        pictures = {image.file: each.content for image, each in zip(added, new, strict=True)}
        written = write_golden(options.gates, kept, pictures)
    for image in added:
        print(printable(f"{image.id}: {image.source}, {image.class_name}; {_said_of(image, unknown)}"))
    print(printable(f"{len(kept)} golden images, a gate each; written: {', '.join(map(str, written))}"))
    return OK


def _made(
    new: Sequence[_New], gates: GatesFile, images: LabelledImages, data: DataOptions, network: NetworkOptions
) -> LabelledImages:
    """Return the new images made like those at hand.

    Raises `InputError` for one whose pixels, or file, are in the set already.
    """
    from harness.data.image_files import labelled_like, pixels_like
    from harness.run.golden import golden_images

    present, pipeline = golden_images(gates, images, data, network.transform), data.whole_pipeline(network.transform)
    names = [f"{image.id}, {image.class_name}" for image in gates.golden]
    files = [image.sha256 for image in gates.golden]
    pixels = [] if present is None else list(present.pixels.numpy())
    for each in new:
        how = Pipeline() if each.made == "pixels" else pipeline
        made = pixels_like(images, each.content, how, where=each.source)
        for name, file, other in zip(names, files, pixels, strict=True):
            if file == each.sha256 or np.array_equal(made, other):
                raise InputError(f"{each.source}: is golden already, {name}; leave it out")
        names.append(f"{each.source}, {each.class_name}")
        files.append(each.sha256)
        pixels.append(made)
    labels = [images.classes.index(each.class_name) for each in new]
    return labelled_like(images, pixels[len(gates.golden) :], labels, name="golden")


def _golden(new: _New, reason: str, taken: set[str], healthy: tuple[int, int] | tuple[()]) -> GoldenImage:
    from harness.gates.golden import GoldenImage

    name = next(name for length in (8, 16, 64) if (name := f"golden-{new.sha256[:length]}") not in taken)
    return GoldenImage(
        id=name,
        class_name=new.class_name,
        reason=writable(reason),
        date=datetime.now(UTC).date().isoformat(),
        source=writable(new.source),
        file=name + new.suffix,
        sha256=new.sha256,
        made=new.made,
        healthy=healthy,
    )


def _said_of(image: GoldenImage, unknown: str) -> str:
    if not image.healthy:
        return f"how many retrained reference models get it right is not known ({unknown})"
    right, retrains = image.healthy
    if right == retrains:
        return image.agreed
    return f"only {image.agreed}: this gate fails about {1 - right / retrains:.0%} of retrains"


def data_of(options: argparse.Namespace, gates: GatesFile) -> tuple[LabelledImages, DataOptions, NetworkOptions]:
    """Return the images that the gates file was made for, how they are read, and what is said of networks."""
    from harness.run.made_for import expect_data_of
    from harness.run.pytest_configuration import added_options

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_settings(parser.add_argument, (*DATA_SETTINGS, *NETWORK_SETTINGS))
    given = values_in(parser.parse_known_args([*added_options(options.gates.parent), *options.options])[0])
    data, network = DataOptions.of(given), NetworkOptions.of(given)
    images = data.load(network.transform)
    expect_data_of(gates, images)
    if gates.data.classes:
        images = replace(images, classes=gates.data.classes)
    return images, data, network


def _found(name: str, images: LabelledImages, class_name: str | None) -> list[_New]:
    """Return what an argument names: a test image by its number, a picture, or those of a folder."""
    from harness.data.image_files import SUFFIXES, as_png

    def class_of(said: str, where: str) -> str:
        if (wanted := class_name or said) not in images.classes:
            raise InputError(
                f"{where}: {wanted!r} is none of the classes {', '.join(images.classes)}; name it with --class"
            )
        return wanted

    if name.isdecimal():
        if len(name) > _MAX_DIGITS or (number := int(name)) >= len(images):
            said = name if len(name) <= _MAX_DIGITS else f"{name[:_MAX_DIGITS]}…"
            raise InputError(f"{said}: there are {len(images)} test images, from 0; a file of this name is ./{said}")
        label = class_of(images.classes[int(images.labels[number])], name)
        content = as_png(images.pixels[number].numpy())
        return [_New(content, ".png", label, f"image {number} of {images.name}", "pixels")]
    path = Path(name)
    if not path.is_dir():
        files = [path]
    elif class_name is not None:
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    else:
        files = sorted(file for file in path.glob("*/*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{path}: no pictures in it; expected a folder per class, or pictures themselves and --class")
    # The folder in which it is found, though it may be a link to a file elsewhere.
    return [_picture(file, class_of(writable(file.absolute().parent.name), str(file))) for file in files]


def _picture(file: Path, class_name: str) -> _New:
    from harness.data.image_files import SUFFIXES
    from harness.gates.golden import MAX_PICTURE_BYTES
    from harness.store.files import read_regular

    if (suffix := file.suffix.lower()) not in SUFFIXES:
        raise InputError(f"{file}: expected a number of a test image, or a picture in {', '.join(sorted(SUFFIXES))}")
    return _New(read_regular(file, max_bytes=MAX_PICTURE_BYTES), suffix, class_name, file.name, "picture")


def _healthy(
    gates: GatesFile, asked: LabelledImages, network: NetworkOptions, device: str
) -> tuple[list[tuple[int, int]], str]:
    """Return how many networks of the panel get each image right, and of how many; or why nobody knows."""
    from harness.calibration.panel import read_panel
    from harness.inference import open_model
    from harness.store.progress import Progress

    if not (named := gates.recipe.get("panel")):
        return [], "the gates file names no panel"
    try:
        members = read_panel(Path(str(named)), gates).members
        right = np.zeros(len(asked), dtype=np.int64)
        for member in Progress(members, desc="asking retrained reference models", unit="network", delay=2):
            model = open_model(Path(member.path), asked, network=network, device=device)
            if model.sha256 != member.sha256:
                raise InputError(f"{member.path} is not the network of the panel {named}")
            right += model.predict(asked).correct
    except (InputError, OSError) as error:
        return [], str(error)
    return [(int(count), len(members)) for count in right], ""
