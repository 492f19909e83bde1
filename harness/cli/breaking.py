"""The command that finds how little it takes: break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError, printable
from harness.cli.models import add_model_options, settings_of
from harness.cli.status import NEGATIVE, OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from harness.data import LabelledImages
    from harness.inference import Classifier
    from harness.inference.search import Breaking
    from harness.measures.failures import Answer
    from harness.perturb import Pose


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    command = add(
        "break",
        _break,
        "Find the smallest rotation, shift and both at once that make a checkpoint fail on a test image, with a "
        "picture; without --image, how many images survive how much, as a curve.",
        "break models/augmented.safetensors --image 123",
    )
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    command.add_argument("--image", type=int, metavar="N", help="the test image's number, from 0")
    add_model_options(command)
    command.add_argument(
        "--output", type=Path, metavar="PNG", help="the picture (default: reports/break-N.png, or reports/survival.png)"
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def _break(options: argparse.Namespace) -> int:
    # One image goes by its number among all.
    images = settings_of(options).images() if options.image is None else settings_of(options).all_images()
    classifier = settings_of(options).open(options.checkpoint, images).classifier
    if options.image is None:
        return _survival(options, classifier, images)
    return _break_one(options, classifier, images)


def _break_one(options: argparse.Namespace, classifier: Classifier, images: LabelledImages) -> int:
    import numpy as np
    import torch

    from harness.base import write_atomically
    from harness.data.images import unit_range
    from harness.inference.search import first_failures
    from harness.measures.failures import answers_at
    from harness.perturb import IDENTITY, Pose
    from harness.perturb.grids import fine_paths
    from harness.report.example_pictures import answered, as_png, marked, strip

    number = options.image
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
        print(json.dumps({**found, "picture": None}) if options.json else printable(said))
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
    output = options.output or Path(f"reports/break-{number}.png")
    write_atomically(output, as_png(strip(tiles)))
    if options.json:
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


def _survival(options: argparse.Namespace, classifier: Classifier, images: LabelledImages) -> int:
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
    output = options.output or Path("reports/survival.png")
    picture = BytesIO()
    survival_curves(curves).savefig(picture, dpi=100, format="png")
    write_atomically(output, picture.getvalue())
    if options.json:
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
