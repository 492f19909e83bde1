"""Poses that break a model, as pictures, as JSON and as lines of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.example_pictures import answered, as_png, marked, strip
from harness.report.figures import as_png as figure_as_png
from harness.report.figures import survival_curves

if TYPE_CHECKING:
    from harness.run.breaking import BrokenImage, Survival


def broken_image_png(done: BrokenImage) -> bytes:
    """Return a picture of the clean image and of each pose that breaks it, as PNG."""
    clean = done.clean
    tiles = [(done.pixels, f"image {done.number}", f"true: {clean.true}\n{marked(clean)}")]
    tiles += [(each.pixels, each.pose.in_words(), marked(each.answer)) for _, each in done.by if each]
    return as_png(strip(tiles))


def broken_image_json(done: BrokenImage) -> dict[str, Any]:
    """Return the poses that break an image in plain types; None for a path without one."""
    said: dict[str, Any] = {"image": done.number, "true": done.clean.true, "predicted": done.clean.predicted}
    for path, each in done.by:
        said[path.name] = each and {
            **{name: getattr(each.pose, name) for name in ("degrees", "dx", "dy")},
            "prediction": answered(each.answer),
        }
    return said


def broken_image_lines(done: BrokenImage) -> list[str]:
    """Return the poses that break an image as lines of the terminal."""
    clean = done.clean
    if not done.by:
        return [
            f"image {done.number} ({clean.true}) is predicted as {clean.predicted} without any change; "
            "there is nothing to break"
        ]
    sure = f", {clean.sure} confidence" if clean.sure else ""
    lines = [f"image {done.number}: {clean.true}{sure}"]
    for path, each in done.by:
        where = (
            f"{each.pose.in_words()}: {answered(each.answer)}" if each else f"correct up to the limit of {path.limit}"
        )
        lines.append(f"  {path.name}: {where}")
    return lines


def survival_png(done: Survival) -> bytes:
    """Return the survival curves as PNG."""
    return figure_as_png(survival_curves(done.curves))


def survival_lines(done: Survival) -> list[str]:
    """Return the survival along each path as lines of the terminal."""
    lines = [f"{done.images} images; shares of those with a correct clean prediction"]
    for curve in done.curves:
        decile, median = (curve.path.label(curve.quantile(share)) for share in (0.1, 0.5))
        held = done.paths[curve.path.name]["held_to_the_limit"]
        lines.append(
            f"  {curve.path.name}: one in ten fails by {decile}, half by {median}, {held:.0%} hold up to the limit"
        )
    return lines
