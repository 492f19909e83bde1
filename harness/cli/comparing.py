"""The command that holds models side by side: compare, two by their answers, more by the gate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError, printable
from harness.cli.gating import PASSED_ON, add_checks_option
from harness.cli.models import add_model_options, settings_of
from harness.cli.status import OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.measures.flips import Flips
    from harness.run.overview import Overview, Rate


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    command = add(
        "compare",
        _compare,
        "Hold one checkpoint against another: accuracy at rest and under pose, confusions, calibration, attention, as "
        "a page of its own and a table here. Three or more are ranked by the gate, which is run on each: by verdict, "
        "by what fails, then by how near the nearest threshold is, with where each wins." + PASSED_ON,
        "compare runs/new.safetensors models/augmented.safetensors",
    )
    command.set_defaults(passes_on=True)
    command.add_argument("checkpoint", type=Path, metavar="A", help="the checkpoint that it is about")
    command.add_argument("reference", type=Path, metavar="B", help="the checkpoint that it is held against")
    command.add_argument(
        "others", type=Path, nargs="*", metavar="C", help="more checkpoints: all are ranked by the gate"
    )
    add_model_options(command)
    add_checks_option(command)
    command.add_argument(
        "--output",
        type=Path,
        default=Path("reports/compare.html"),
        metavar="HTML",
        help="the page (default: reports/compare.html)",
    )
    command.add_argument(
        "--failures",
        type=Path,
        metavar="CSV",
        help="also write every new, fixed and shared failure, by kind, with what both models say of the image",
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def _compare(options: argparse.Namespace) -> int:
    from harness.base import write_atomically
    from harness.measures.failures import failure_changes, kinds_for
    from harness.measures.flips import flips
    from harness.report.exports import changes_csv
    from harness.report.html import comparison_page
    from harness.run.examples import spoken_of, thumbnails_of

    if options.others:
        from harness.cli.ranking import compare_many

        return compare_many(options, [options.checkpoint, options.reference, *options.others])
    if options.options:
        raise InputError(
            "what follows -- is for the gate, which ranks three checkpoints or more; two are informational"
        )
    images = settings_of(options).images()
    models = _models(options, images)
    overview = _overview(models, images)
    first, second = models
    mine, theirs = models[first].predict(images), models[second].predict(images)
    changed = flips(mine, theirs)
    facts = {
        **{name: f"{model.path} ({model.sha256[:12]})" for name, model in models.items()},
        "data": f"{images.name}, {images.split} split, {len(images)} images",
        "reproduce": f"stress-harness compare {options.checkpoint} {options.reference} --data {options.stress_data}",
    }
    pictures = thumbnails_of(images, spoken_of(overview))
    write_atomically(options.output, comparison_page(overview, changed.as_json(), facts, pictures).encode())
    if options.failures:
        by_kind = [failure_changes(mine, theirs, kind) for kind in kinds_for(mine)]
        write_atomically(options.failures, changes_csv(by_kind).encode())
    if options.json:
        print(json.dumps({**overview.as_plain(), "flips": changed.as_json(), "page": str(options.output)}))
        return OK
    print("\n".join(map(printable, _lines(overview, changed))))
    if options.failures:
        print(f"failures: {options.failures}")
    print(f"page: {options.output}")
    return OK


def _models(options: argparse.Namespace, images: LabelledImages) -> dict[str, RoleModel]:
    """Load both checkpoints, named by their files, or by A and B where the names are the same."""
    paths = (options.checkpoint, options.reference)
    names = [path.stem for path in paths]
    if names[0] == names[1]:
        names = ["A", "B"]
    first, second = (settings_of(options).open(path, images) for path in paths)
    if first.model_sha256 == second.model_sha256:
        raise InputError(f"{paths[0]} and {paths[1]} hold the same network; there is nothing to compare")
    return {name: replace(model, role=name) for name, model in zip(names, (first, second), strict=True)}


def _overview(models: dict[str, RoleModel], images: LabelledImages) -> Overview:
    from harness.base.progress import Progress
    from harness.data import sample_up_to
    from harness.run.overview import measure_overview
    from harness.run.session import PROBE_SAMPLES

    probe = sample_up_to(images, PROBE_SAMPLES)
    with Progress(total=None, unit="step", desc="comparing", delay=2) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return measure_overview(
            models,
            images,
            survival=dict.fromkeys(models, probe),
            robust=dict.fromkeys(models, probe),
            on_measured=advance,
        )


def _lines(overview: Overview, changed: Flips) -> list[str]:
    """Return the comparison as a table for the terminal."""
    from harness.measures import Unit
    from harness.measures.statistics import related
    from harness.report.failures import kinds_rows
    from harness.report.text import aligned
    from harness.run.overview import Clean, Looking, Moved, RobustAccuracy

    first, second = overview.models
    rows: list[tuple[str, ...]] = [("", first.name, second.name, "difference")]

    def add(title: str, mine: Rate | None, theirs: Rate | None, *, of_sample: bool = False) -> None:
        if mine and theirs:
            change = Unit.DIFFERENCE.format(mine.value - theirs.value)
            title += f" (of {mine.n} images)" if of_sample and mine.n < overview.n else ""
            rows.append((title, Unit.SHARE.format(mine.value), Unit.SHARE.format(theirs.value), change))

    add("right on images as they are", first[Clean].accuracy, second[Clean].accuracy)
    for name, mine, theirs in zip(overview.classes, first[Clean].per_class, second[Clean].per_class, strict=True):
        add(f"  {name}", mine, theirs)
    add("right at the corners of ±10°, ±2 px", first[Moved].corners, second[Moved].corners, of_sample=True)
    robust = (first[RobustAccuracy].robust_accuracy, second[RobustAccuracy].robust_accuracy)
    add("right at every pose within them", *robust, of_sample=True)
    counts = (first[Clean].confident_errors, second[Clean].confident_errors)
    rows.append(("mistakes over 90% confidence", *map(str, counts), f"{counts[0] - counts[1]:+d} images"))
    gaps = (first[Clean].calibration_error, second[Clean].calibration_error)
    rows.append(("expected calibration error", *(f"{gap:.3f}" for gap in gaps), f"{gaps[0] - gaps[1]:+.3f}"))
    looks = (first[Looking].on_object_overall, second[Looking].on_object_overall)
    if looks[0] and looks[1]:
        lifts = (looks[0].lift, looks[1].lift)
        texts = (f"{lift:.2f}" for lift in lifts)
        rows.append(("attention on the object, lift", *texts, f"{lifts[0] - lifts[1]:+.2f}"))
    lines = aligned(rows)
    lines.append(
        f"of {overview.n} images as they are, {second.name} had {len(changed.lost)} right that {first.name} fails on, "
        f"and {len(changed.gained)} the other way round (McNemar p {related(changed.p_value)})"
    )
    return [*lines, "", *aligned(_as_text(kinds_rows(overview)))]


def _as_text(table: tuple[Sequence[str], Sequence[Sequence[object]]]) -> list[list[str]]:
    titles, rows = table
    return [list(titles), *([str(cell) for cell in row] for row in rows)]
