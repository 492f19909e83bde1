"""The least poses that break a checkpoint: of one image, with a picture, and of all."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.base.errors import InputError
from harness.base.progress import Progress
from harness.data.images import unit_range
from harness.inference.devices import watched
from harness.inference.search import Breaking, breaking, first_failures
from harness.measures import breaking_severity
from harness.measures.failures import answers_at
from harness.perturb.grids import NO_GEOMETRY, fine_paths, paths_within
from harness.report.figures import as_png
from harness.report.pictures import answered, marked, strip
from harness.report.plots import survival_curves

if TYPE_CHECKING:
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.data.domain import AugmentationRange
    from harness.measures.failures import Answer
    from harness.perturb import Pose
    from harness.run.settings import ModelSettings

_SILENCE_S = 15.0
"""Most seconds between two lines of progress in a log."""
Broken = tuple[dict[str, Any], list[str], bytes | None]
"""A result in plain types, as lines of the terminal, and as a picture (PNG), None without any."""


def break_image(checkpoint: Path | str, settings: ModelSettings, number: int) -> Broken:
    """Find how little breaks one image; raises `InputError` for a number that no image has.

    The picture shows the clean image, and each pose that breaks it. An image that is misclassified
    without any perturbation has none.
    """
    images = settings.all_images()
    classifier = settings.open(checkpoint, images).classifier
    if not 0 <= number < len(images):
        raise InputError(f"--image {number}: the data have images 0 to {len(images) - 1}")
    image = images.take(torch.tensor([number]))

    def answer(*pose: Pose) -> Answer:
        return answers_at(classifier.predict(image, *pose), np.zeros(1, dtype=np.int64))[0]

    clean = answer()
    plain: dict[str, Any] = {"image": number, "true": clean.true, "predicted": clean.predicted}
    if clean.predicted != clean.true:
        wrong = f"image {number} ({clean.true}) is predicted as {clean.predicted}"
        return plain, [f"{wrong} without any change; there is nothing to break"], None
    lines = [f"image {number}: {clean.true}{f', {clean.sure} confidence' if clean.sure else ''}"]
    tiles = [(_pixels(image.pixels), f"image {number}", f"true: {clean.true}\n{marked(clean)}")]
    for path in fine_paths(_range_of(images)).values():
        failure = first_failures(classifier, image, path.poses)
        if failure.right_everywhere[0]:
            plain[path.name] = None
            lines.append(f"  {path.name}: correct up to the limit of {path.limit}")
            continue
        pose = failure.perturbation_of(0)
        found = answer(pose)
        place = {name: getattr(pose, name) for name in ("degrees", "dx", "dy")}
        plain[path.name] = {**place, "prediction": answered(found)}
        lines.append(f"  {path.name}: {pose.in_words()}: {answered(found)}")
        moved = pose(unit_range(image.pixels)).mul(255).round().to(torch.uint8)
        tiles.append((_pixels(moved), pose.in_words(), marked(found)))
    return plain, lines, as_png(strip(tiles))


def _range_of(images: LabelledImages) -> AugmentationRange:
    """Return the augmentation range of the images.

    Raises:
        InputError: For one without rotation and shift.
    """
    if not images.domain.augmentation.moves:
        raise InputError(
            f"{NO_GEOMETRY}, so there is nothing to break; declare one in [gate]",
            setting="augmentation",
        )
    return images.domain.augmentation


def _pixels(images: torch.Tensor) -> np.ndarray:
    """Return the first image, (H, W, C)."""
    return np.asarray(images[0].permute(1, 2, 0).numpy())


def survival(checkpoint: Path | str, settings: ModelSettings) -> Broken:
    """Find for each image the least severity of each path that breaks it.

    The picture draws the survival curves.

    Raises `InputError` where no clean image is classified correctly.
    """
    images, curves = settings.images(), list[Breaking]()
    paths = paths_within(_range_of(images)).values()
    total = sum(len(path.poses) + 1 for path in paths)
    classifier = settings.open(checkpoint, images).classifier
    # The first poses are measured on every image, which takes seconds each: batches show that the
    # work goes on.
    shown = Progress(total=total, unit="pose", desc="rotating and shifting", silence=_SILENCE_S)
    with shown as bar, watched(bar.tick):
        for path in paths:
            begun = bar.n
            moved = partial(lambda begun, now: bar.update(begun + now - bar.n), begun)
            curves.append(breaking(classifier, images, path, on_evaluated=moved))
            moved(len(path.poses) + 1)
    plain, lines = {}, [f"{len(images)} images; shares of those with a correct clean prediction"]
    for curve in curves:
        median, decile = (
            breaking_severity(curve, share_broken=share).value for share in (0.5, 0.1)
        )
        held = float((curve.severity == float("inf")).mean())
        plain[curve.path.name] = {
            "unit": curve.path.unit,
            "median": median,
            "decile": decile,
            "held_to_the_limit": held,
            "survival": {
                f"{at:g}": float(share) for at, share in zip(*curve.survival(), strict=True)
            },
        }
        tenth, half = (curve.path.label(curve.quantile(share)) for share in (0.1, 0.5))
        breaks = f"one in ten fails by {tenth}, half by {half}, {held:.0%} hold up to the limit"
        lines.append(f"  {curve.path.name}: {breaks}")
    return {"images": len(images), "paths": plain}, lines, as_png(survival_curves(tuple(curves)))
