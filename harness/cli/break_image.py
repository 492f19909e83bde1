"""The command `break`: the smallest rotation and shift that a checkpoint fails on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.base.errors import InputError, printable
from harness.cli.options import (
    FILE,
    NEGATIVE,
    OK,
    Command,
    chosen_model_settings,
    json_option,
    model_settings,
    setting_options,
)

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Classifier
    from harness.inference.search import Breaking
    from harness.measures.failures import Answer
    from harness.perturb import Pose


@click.command(
    "break",
    cls=Command,
    example="break models/augmented.safetensors --image 123",
    help="Find the smallest rotation, shift and both at once that make a checkpoint fail on a test image, with a "
    "picture. Without --image: how many images survive how much, as a curve.",
)
@click.argument("checkpoint", type=FILE)
@click.option("--image", type=int, metavar="N", help="The test image's number, from 0 (default: all images).")
@setting_options(*model_settings())
@click.option(
    "--output",
    type=FILE,
    metavar="PNG",
    help="The picture (default: reports/break-N.png, or reports/survival.png).",
)
@json_option
def break_command(checkpoint: Path, image: int | None, output: Path | None, *, as_json: bool) -> int:
    """Find how little it takes."""
    settings = chosen_model_settings()
    # An image is found by its number among all.
    images = settings.images() if image is None else settings.all_images()
    classifier = settings.open(checkpoint, images).classifier
    if image is None:
        return _survival(classifier, images, output or Path("reports/survival.png"), as_json=as_json)
    return _break_one(image, classifier, images, output or Path(f"reports/break-{image}.png"), as_json=as_json)


def _break_one(number: int, classifier: Classifier, images: LabelledImages, output: Path, *, as_json: bool) -> int:
    import numpy as np
    import torch

    from harness.base import write_atomically
    from harness.data.images import unit_range
    from harness.inference.search import first_failures
    from harness.measures.failures import answers_at
    from harness.perturb import IDENTITY, Pose
    from harness.perturb.grids import fine_paths
    from harness.report.example_pictures import answered, as_png, marked, strip

    if not 0 <= number < len(images):
        raise InputError(f"--image {number}: the data have images 0 to {len(images) - 1}")
    image = images.take(torch.tensor([number]))

    def asked(pose: Pose) -> Answer:
        return answers_at(classifier.predict(image, pose), np.zeros(1, dtype=np.int64))[0]

    clean = asked(IDENTITY)
    pixels = image.pixels[0].permute(1, 2, 0).numpy()
    tiles = [(pixels, f"image {number}", f"true: {clean.true}\n{marked(clean)}")]
    found: dict[str, object] = {"image": number, "true": clean.true, "predicted": clean.predicted}
    if clean.predicted != clean.true:
        said = f"image {number} ({clean.true}) is taken for {clean.predicted} as it is; there is nothing to break"
        print(json.dumps({**found, "picture": None}) if as_json else printable(said))
        return NEGATIVE
    for path in fine_paths():
        failure = first_failures(classifier, image, path.poses)
        if failure.right_everywhere[0]:
            found[path.name] = None
            continue
        pose = failure.perturbation_of(0)
        broken = asked(pose)
        found[path.name] = {"degrees": pose.degrees, "dx": pose.dx, "dy": pose.dy, "prediction": answered(broken)}
        seen = pose(unit_range(image.pixels)).mul(255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
        tiles.append((seen, pose.in_words(), marked(broken)))
    write_atomically(output, as_png(strip(tiles)))
    if as_json:
        print(json.dumps({**found, "picture": str(output)}))
        return OK
    print(printable(f"image {number}: {clean.true}, {clean.confidence:.0%} confidence"))
    for path in fine_paths():
        hit = found[path.name]
        where = f"right up to the limit of {path.limit}"
        if isinstance(hit, dict):
            where = f"{Pose(hit['degrees'], hit['dx'], hit['dy']).in_words()}: {hit['prediction']}"
        print(printable(f"  {path.name}: {where}"))
    print(f"picture: {output}")
    return OK


def _survival(classifier: Classifier, images: LabelledImages, output: Path, *, as_json: bool) -> int:
    from io import BytesIO

    from harness.base import write_atomically
    from harness.base.progress import Progress
    from harness.inference.search import breaking
    from harness.measures import breaking_severity
    from harness.perturb.grids import PATHS
    from harness.report.figures import survival_curves

    curves: list[Breaking] = []
    with Progress(
        total=sum(len(path.poses) + 1 for path in PATHS.values()), unit="pose", desc="turning and moving"
    ) as bar:
        done = 0

        def advance(poses: int) -> None:
            bar.update(done + poses - bar.n)

        for path in PATHS.values():
            curves.append(breaking(classifier, images, path, on_evaluated=advance))
            done += len(path.poses) + 1
            advance(0)
    results = {
        curve.path.name: {
            "unit": curve.path.unit,
            "median": breaking_severity(curve, share_broken=0.5).value,
            "decile": breaking_severity(curve, share_broken=0.1).value,
            "held_to_the_limit": float((curve.severity == float("inf")).mean()),
            "survival": {f"{at:g}": float(share) for at, share in zip(*curve.survival(), strict=True)},
        }
        for curve in curves
    }
    picture = BytesIO()
    survival_curves(curves).savefig(picture, dpi=100, format="png")
    write_atomically(output, picture.getvalue())
    if as_json:
        print(json.dumps({"images": len(images), "paths": results, "picture": str(output)}))
        return OK
    print(f"{len(images)} images; of those right as they are")
    for curve in curves:
        decile, median = (curve.path.label(curve.quantile(share)) for share in (0.1, 0.5))
        held = results[curve.path.name]["held_to_the_limit"]
        print(
            f"  {curve.path.name}: one in ten fails by {decile}, half by {median}, {held:.0%} are right up to the limit"
        )
    print(f"picture: {output}")
    return OK
