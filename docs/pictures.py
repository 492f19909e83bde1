"""Pictures of the shipped models for the pages of docs.

`python docs/pictures.py` writes docs/pictures/. The functions of the report draw them. The same
models, data and libraries give the same files.
"""

from __future__ import annotations

import argparse
import copy
import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.files import write_atomically
from harness.calibration.panel import read_panel
from harness.checks import Check
from harness.data import load_images, stratified_sample
from harness.data.images import object_masks, unit_range
from harness.features.batch_norm.distance import (
    GROUPS,
    batch_norm_distance,
    find_batch_norm_distances,
    running_norms,
)
from harness.features.consensus.measures import consensus_set_errors, find_consensus_set_errors
from harness.features.consensus.soft import find_known_images, largest_soft_confusion
from harness.features.fingerprint.distance import find_weight_distance
from harness.features.label_probability.measures import label_probability_change
from harness.features.skew.serving import under_skew
from harness.features.slices.measures import find_slices, worst_slice
from harness.inference import open_model
from harness.inference.search import breaking, first_failures
from harness.measures import (
    accuracy,
    attention_lift,
    confident_errors,
    negative_flips,
    robust_accuracy,
)
from harness.measures.failures import confusion
from harness.measures.worst_poses import survival
from harness.perturb import (
    IDENTITY,
    HorizontalFlip,
    Pose,
    augmentation_range_corners,
    augmentation_range_poses,
)
from harness.perturb.backgrounds import with_background, without_object
from harness.perturb.grids import PATHS, most_dangerous_first
from harness.perturb.marks import MARKS
from harness.perturb.stamps import STAMPS
from harness.perturb.unfamiliar import UNFAMILIAR, Unfamiliar
from harness.report import figures, plots
from harness.report.pictures import SIZE, strip, views_of
from harness.run.examples import Example, examples_of, telling_examples, telling_tiles
from harness.run.opening import open_session
from harness.run.overview import Rate
from harness.run.request import RunRequest
from harness.run.side_by_side import measure_overview

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.measures import Measurement
    from harness.measures.panel.predictions import PanelPredictions
    from harness.perturb import Perturbation
    from harness.run.overview import Overview
    from harness.run.session import StressSession

REPOSITORY = Path(__file__).parents[1]
MODELS = REPOSITORY / "models"
PANEL, BASELINES = MODELS / "panel", REPOSITORY / "benchmarks/claims/baselines"
LARGEST = 40_000
"""Bytes of a picture."""
CORNER = Pose(10, 2, 2)
"""A corner of the augmentation range."""
SEARCHED = 500
"""Images on which poses are searched for."""
SKEWS_SHOWN = ("jpeg-75", "gamma-twice", "video-range", "normalise-half")
SHOWN = 4
"""Number of images predicted as another class that stand side by side."""


def main() -> None:
    """Write the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(PICTURES)} (default: all)"
    )
    parser.add_argument(
        "--to", type=Path, default=REPOSITORY / "docs/pictures", metavar="DIR", help="the folder"
    )
    parser.add_argument(
        "--samples", type=int, metavar="N", help="draw them of a stratified sample of N images only"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(PICTURES):
        parser.error(f"there is no picture {min(unknown)}; there are {', '.join(PICTURES)}")
    session = open_session(
        RunRequest(
            roles={
                "candidate": MODELS / "augmented.safetensors",
                "baseline": MODELS / "baseline.safetensors",
                "incumbent": MODELS / "panel/seed-001.safetensors",
            },
            checks=REPOSITORY / "stress_tests/checks.toml",
            samples=options.samples,
        )
    )
    for name in options.names or PICTURES:
        path = options.to / f"{name}.webp"
        write_atomically(path, as_webp(PICTURES[name](session)))
        print(path)


def as_webp(picture: np.ndarray | Figure) -> bytes:
    """Return a picture as the content of a WebP file no larger than allowed.

    The picture is (H, W, 3) uint8 or a figure.
    """
    from PIL import Image

    for quality in (80, 60, 40):
        content = io.BytesIO()
        settings = {"quality": quality, "method": 6}
        if isinstance(picture, np.ndarray):
            Image.fromarray(picture).save(content, "WEBP", **settings)
        else:
            picture.savefig(content, format="webp", dpi=120, pil_kwargs=settings)
        if content.tell() <= LARGEST:
            return content.getvalue()
    raise ValueError(
        f"a picture has {content.tell()} bytes at quality {quality}, expected at most {LARGEST}"
    )


# Curves and tables of both models, as the report has them.

NAMES = {"candidate": "augmented", "baseline": "baseline", "incumbent": "another seed"}


def overview(session: StressSession, *roles: str) -> Overview:
    """Measure the models in these roles, side by side, under the names that people know them by."""
    return measure_overview({NAMES[role]: session.roles[role] for role in roles}, session.images)


def both(session: StressSession) -> dict[str, RoleModel]:
    """Return the augmented model and the baseline by name."""
    return {NAMES[role]: session.roles[role] for role in ("candidate", "baseline")}


def clean(session: StressSession) -> Figure:
    """Draw which class the augmented model takes for which."""
    measured = overview(session, "candidate")
    return plots.confusion_maps(plots.confusions(measured, measured.models[0]))


def _accuracy(model: RoleModel, images: LabelledImages, pose: Pose) -> Rate:
    measured = accuracy(model.predict(images, pose))
    return Rate(measured.value, *measured.interval, measured.n)


def rotation(session: StressSession) -> Figure:
    """Draw accuracy against the angle."""
    images, angles = (
        session.images,
        (-30.0, -20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 30.0),
    )
    return plots.rotation_curves(
        {
            name: {at: _accuracy(model, images, Pose(at)) for at in angles}
            for name, model in both(session).items()
        }
    )


def shift(session: StressSession) -> Figure:
    """Draw accuracy for each shift."""
    images, shifts = (
        stratified_sample(session.images, min(SEARCHED, len(session.images))),
        (-4.0, -2.0, 0.0, 2.0, 4.0),
    )
    return plots.shift_maps(
        {
            name: {
                (dx, dy): _accuracy(model, images, Pose(0, dx, dy))
                for dx in shifts
                for dy in shifts
            }
            for name, model in both(session).items()
        }
    )


def breaking_pose(session: StressSession) -> Figure:
    """Draw how many images survive how much."""
    images, panels = stratified_sample(session.images, min(SEARCHED, len(session.images))), []
    for path in ("rotation", "shift"):
        found = {
            name: breaking(model.classifier, images, PATHS[path])
            for name, model in both(session).items()
        }
        known = {name: (survival(each), len(each.severity)) for name, each in found.items()}
        panels.append(plots.survival_plot(path, known))
    return figures.curves(*panels)


def regression(session: StressSession) -> Figure:
    """Draw how a reference model's confusions differ from those of the augmented model."""
    measured = overview(session, "incumbent", "candidate")
    return plots.confusion_maps(plots.confusions(measured, *measured.models))


def attention(session: StressSession) -> Figure:
    """Draw how much more the models look at the object than chance would have it."""
    images = stratified_sample(session.images, min(1_000, len(session.images)))
    masks, lifts = object_masks(images), {}
    for name, model in both(session).items():
        seen = model.attend(images)
        lifts[name] = {
            each: Check(each, "attention", "attention_lift").judge(
                attention_lift(seen, masks, of_class=each)
            )
            for each in images.classes
        }
    return plots.attention_by_class(lifts)


def calibration(session: StressSession) -> Figure:
    """Draw how right the models are against how sure."""
    return plots.reliability_diagrams(overview(session, "candidate", "baseline"))


# Single images, as the candidate and the model beside it see them.


def flip(session: StressSession) -> Figure:
    """Show what the augmented model loses in the mirror."""
    return _lost_under(session, HorizontalFlip())


def label_probabilities(session: StressSession) -> Figure:
    """Show the image whose label loses most probability in the mirror."""
    candidate = session.roles["candidate"]
    clean, mirrored = (
        candidate.predict(session.images),
        candidate.predict(session.images, HorizontalFlip()),
    )
    return _telling(session, label_probability_change(clean, mirrored), mirrored)


def confident(session: StressSession) -> Figure:
    """Show the surest error of the augmented model that another reference model does not make."""
    predictions = session.roles["candidate"].predict(session.images)
    return _telling(session, confident_errors(predictions, above=0.9), predictions)


def worst_pose(session: StressSession) -> Figure:
    """Show an image at the smallest of the promised poses at which the augmented model loses it."""
    images = stratified_sample(session.images, min(SEARCHED, len(session.images)))
    poses = most_dangerous_first(augmentation_range_poses())
    found = first_failures(session.roles["candidate"].classifier, images, poses)
    return _telling(session, robust_accuracy(found), found)


def flips(session: StressSession) -> Figure:
    """Show the surest error of the augmented model on what another reference model gets right."""
    predictions = session.roles["candidate"].predict(session.images)
    before = session.roles["incumbent"].predict(session.images)
    return _telling(session, negative_flips(predictions, before.correct), predictions)


def consensus(session: StressSession) -> Figure:
    """Show the clearest new error of the augmented model on images of the consensus set.

    It searches all images, since a sample may have none.
    """
    panel_predictions = session.panel_predictions
    assert panel_predictions is not None
    lost = find_consensus_set_errors(
        [session.roles["candidate"].predict(load_images("fashion-mnist"))], panel_predictions
    )
    return _telling(session, consensus_set_errors(lost), lost)


def soft_confusions(session: StressSession) -> Figure:
    """Show the easy image with the augmented model's most unusual probability.

    The model gives most of the class to which reference models give less.
    """
    panel_predictions = session.panel_predictions
    assert panel_predictions is not None
    seen = find_known_images(
        session.roles["candidate"].predict(load_images("fashion-mnist")), panel_predictions
    )
    return _telling(session, largest_soft_confusion(seen), seen)


def batch_norms(session: StressSession) -> Figure:
    """Draw distances of the reference models, the augmented model and a copy.

    The copy has other statistics.
    """
    model, images = session.roles["candidate"], session.panel_images
    halved = copy.deepcopy(model.classifier.plain)
    for layer in running_norms(halved).values():
        layer.running_var.mul_(0.5)
    models = {
        "augmented": model,
        "variances halved": replace(model, classifier=model.classifier.like(halved)),
    }
    found = {name: find_batch_norm_distances(each, images) for name, each in models.items()}
    panel = read_panel(REPOSITORY / "models/panel.json")
    drawn = figures.figure(figures.WIDTH, 3.2)
    axes = drawn.subplots()
    for at, group in enumerate(GROUPS):
        values = [each.values[f"batch-norm-{group}"] for each in panel.models]
        label = f"{len(values)} reference models" if not at else None
        axes.plot(np.full(len(values), at), values, "o", color="#C49A2A", alpha=0.5, label=label)
    for (name, distances), look in zip(found.items(), figures.LOOKS, strict=False):
        values = [batch_norm_distance(distances, group).value for group in GROUPS]
        axes.plot(range(len(GROUPS)), values, **{**look, "linestyle": ""}, label=name)
    axes.set_xticks(range(len(GROUPS)), [f"{group} layers" for group in GROUPS])
    axes.set_ylabel("log of the distance")
    axes.legend()
    return drawn


def fingerprints(session: StressSession) -> Figure:
    """Draw the distances of weights of reference models and of models of two recipes.

    Each reference model is compared with the others.
    """
    panel = session.panel_predictions
    assert panel is not None
    reference_models = [
        _distance_of_weights(path, session, panel) for path in sorted(PANEL.glob("*.safetensors"))
    ]
    baselines = [
        _distance_of_weights(path, session, panel)
        for path in sorted(BASELINES.glob("*.safetensors"))
    ]
    drawn = figures.figure(figures.WIDTH, 2.4)
    axes = drawn.subplots()
    rows = {
        "reference models": reference_models,
        "augmented": [
            _distance_of_weights(REPOSITORY / "models/augmented.safetensors", session, panel)
        ],
        "without augmentation": baselines,
    }
    for row, distances in enumerate(rows.values()):
        axes.plot(distances, np.full(len(distances), row), "o", color="#C49A2A", alpha=0.6)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axes.minorticks_off()
    axes.set_xlabel("distance of weights, in standard deviations")
    return drawn


def _distance_of_weights(path: Path, session: StressSession, panel: PanelPredictions) -> float:
    model = open_model(path, session.images)
    others = panel.without(model.model_sha256)
    return find_weight_distance(model, session.images, others).distance


def slices(session: StressSession) -> Figure:
    """Show images of the augmented model's worst slice, with their probabilities.

    Those of reference models stand beside them.
    """
    panel_predictions = session.panel_predictions
    assert panel_predictions is not None
    seen, tiles = (
        find_slices(session.roles["candidate"].predict(session.images), panel_predictions),
        [],
    )
    for at in worst_slice(seen).failures[:SHOWN]:
        label = seen.predictions.labels[at]
        image = session.images.pixels[int(at)].permute(1, 2, 0).numpy()
        shares = (each[at, label] for each in (seen.predictions.probabilities, seen.expected))
        said = "candidate {:.0%}\nreference models {:.0%}".format(*shares)
        tiles.append((image, seen.predictions.classes[label], said))
    return strip(tiles)


def trigger(session: StressSession) -> Figure:
    """Show an image with one stamp of each fill, and what the augmented model predicts of it."""
    predictions, tiles = session.roles["candidate"].predict(session.images), []
    image = session.images.take(torch.from_numpy(np.flatnonzero(predictions.correct)[:1]))
    for stamp in (STAMPS[at] for at in (0, 26, 33, 51)):
        pixels = stamp(unit_range(image.pixels))[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        label, taken = (
            image.labels[0],
            session.roles["candidate"].predict(image, stamp).predicted[0],
        )
        said = (
            f"{stamp.fill}, {stamp.size} px: "
            f"{'right' if label == taken else f'→ {image.classes[taken]}'}"
        )
        tiles.append((pixels, image.classes[label], said))
    return strip(tiles)


def shortcuts(session: StressSession) -> Figure:
    """Show an image with one mark of six kinds, and the probability of its class.

    The augmented model gives the probability.
    """
    model, tiles = session.roles["candidate"], []
    image = session.images.take(
        torch.from_numpy(np.flatnonzero(model.predict(session.images).correct)[:1])
    )
    label = int(image.labels[0])
    by_kind = {mark.kind: mark for mark in reversed(MARKS)}
    for mark in by_kind.values():
        pixels = mark(unit_range(image.pixels))[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        probability = model.predict(image, mark).probabilities[0, label]
        tiles.append((pixels, image.classes[label], f"{mark.fill} {mark.kind}: {probability:.0%}"))
    return strip(tiles[::-1][:6])


def golden(session: StressSession) -> Figure:
    """Show two golden images: one that reference models get right, and one that they do not."""
    predictions = session.roles["candidate"].predict(session.images)
    tiles = []
    for position in (
        int(np.flatnonzero(right)[0]) for right in (predictions.correct, ~predictions.correct)
    ):
        image = session.images.pixels[position].permute(1, 2, 0).numpy()
        label, taken = (
            predictions.classes[each[position]]
            for each in (predictions.labels, predictions.predicted)
        )
        said = "right" if label == taken else f"→ {taken}"
        tiles.append((image, label, f"{session.images.positions[position]}: {said}"))
    return strip(tiles)


def picture(example: Example) -> Figure:
    """Draw the picture of an image that a report has as a figure."""
    blank, tiles = np.full((SIZE, SIZE, 3), 255, np.uint8), []
    for view in views_of(example):
        lines = "\n".join(f"{line.text} {line.percent}" for line in view.lines)
        tiles.append((blank if view.pixels is None else view.pixels, view.title, lines))
    return strip(tiles)


def gain(session: StressSession) -> Figure:
    """Show the baseline's most confident error in a corner of the augmentation range.

    The augmented model gets it right.
    """
    candidate, baseline = session.roles["candidate"], session.roles["baseline"]
    right, wrong = (
        candidate.predict(session.images, CORNER),
        baseline.predict(session.images, CORNER),
    )
    at_rest = baseline.predict(session.images).correct
    sureness = np.where(right.correct & ~wrong.correct & at_rest, wrong.confidence_of_errors(), -1)
    chosen = session.images.take(torch.tensor([int(sureness.argmax())]))
    return picture(examples_of(candidate, baseline, chosen, CORNER)[0])


def _lost_under(session: StressSession, perturbation: Perturbation) -> Figure:
    candidate = session.roles["candidate"]
    predictions = candidate.predict(session.images, perturbation)
    return _telling(
        session, accuracy(predictions, clean=candidate.predict(session.images)), predictions
    )


def _telling(session: StressSession, measurement: Measurement, seen: object) -> Figure:
    """Return the picture that a failed check would show first."""
    row = next(
        row
        for row in session.checks.checks
        if row.metric == measurement.metric.name and row.role == "candidate"
    )
    case = telling_examples(
        session, replace(row, hand=None, informational="only shown").judge(measurement), seen
    )[0]
    return picture(case)


# Images side by side, with what the augmented model says of each.


def pose(session: StressSession) -> Figure:
    """Show one image, clean and at corners of the augmentation range."""
    image = _first_right(session)
    poses = (IDENTITY, *augmentation_range_corners()[::2])
    return strip(
        [_answered(session.roles["candidate"], image, each, _short(each)) for each in poses]
    )


def background(session: StressSession) -> Figure:
    """Show one image before other backgrounds, and without its object."""
    images = stratified_sample(session.images, 100)
    position = int(np.flatnonzero(session.roles["candidate"].predict(images).correct)[0])
    masks = object_masks(images)
    shown = [
        ("clean", images),
        ("noise 0.1", with_background(images, masks, "noise", strength=0.1).changed),
    ]
    shown += [
        (f"{kind} 0.3", with_background(images, masks, kind, strength=0.3).changed)
        for kind in ("texture", "clutter")
    ]
    shown.append(("erased", without_object(images, masks).changed))
    one = torch.tensor([position])
    return strip(
        [
            _answered(session.roles["candidate"], each.take(one), IDENTITY, title)
            for title, each in shown
        ]
    )


def skew(session: StressSession) -> Figure:
    """Show one image that the augmented model loses at video range, as other pipelines serve it."""
    candidate, images = session.roles["candidate"], stratified_sample(session.images, 100)
    lost = under_skew(candidate, images, "video-range")
    position = torch.tensor([int(np.flatnonzero(lost.reference.correct & ~lost.served.correct)[0])])
    shown = [("reference", images)]
    shown += [(name, under_skew(candidate, images, name).shown.changed) for name in SKEWS_SHOWN]
    return strip(
        [_answered(candidate, each.take(position), IDENTITY, title) for title, each in shown]
    )


def unknown(session: StressSession) -> Figure:
    """Show one image, and the images of no class that are made of it."""
    image = _first_right(session)
    shown = [(IDENTITY, "of a class"), *((Unfamiliar(kind), kind) for kind in UNFAMILIAR)]
    return strip(
        [_answered(session.roles["candidate"], image, each, title) for each, title in shown]
    )


def pairs(session: StressSession) -> Figure:
    """Show shirts and T-shirts that the augmented model takes for each other, most surely."""
    predictions = session.roles["candidate"].predict(session.images)
    tiles, _ = telling_tiles(session, predictions, confusion("Shirt", "T-shirt/top"))
    return strip(
        [
            (
                tile.pixels,
                f"is {tile.answer.true}",
                f"{tile.answer.predicted} {tile.answer.confidence:.0%}",
            )
            for tile in tiles[:SHOWN]
        ]
    )


def _first_right(session: StressSession) -> LabelledImages:
    right = session.roles["candidate"].predict(session.images).correct
    return session.images.take(torch.tensor([int(np.flatnonzero(right)[0])]))


def _answered(
    model: RoleModel, image: LabelledImages, perturbation: Perturbation, title: str
) -> tuple[np.ndarray, str, str]:
    """Return one image under a perturbation, its title, and what the model says of it."""
    answer = examples_of(model, None, image, perturbation)[0].candidate.answer
    seen = (
        perturbation(unit_range(image.pixels))[0]
        .clamp(0, 1)
        .mul(255)
        .round()
        .to(torch.uint8)
        .permute(1, 2, 0)
        .numpy()
    )
    return seen, title, f"{answer.predicted} {answer.confidence:.0%}"


def _short(each: Pose) -> str:
    return "clean" if each == IDENTITY else f"{each.degrees:+g}°, {each.dx:+g}, {each.dy:+g} px"


PICTURES: dict[str, Callable[[StressSession], np.ndarray | Figure]] = {
    "clean": clean,
    "rotation": rotation,
    "shift": shift,
    "flip": flip,
    "pose": pose,
    "worst-pose": worst_pose,
    "breaking-pose": breaking_pose,
    "confident-errors": confident,
    "confusion-pairs": pairs,
    "gain-over-baseline": gain,
    "regression": regression,
    "consensus": consensus,
    "soft-confusion": soft_confusions,
    "batch-norm": batch_norms,
    "fingerprint": fingerprints,
    "slices": slices,
    "flips": flips,
    "golden": golden,
    "attention": attention,
    "background": background,
    "skew": skew,
    "trigger": trigger,
    "shortcut": shortcuts,
    "unknown": unknown,
    "calibration": calibration,
    "label-probability": label_probabilities,
}
"""Functions that draw pictures, by file name."""

if __name__ == "__main__":
    main()
