"""The command `compare`: two checkpoints by their predictions, more by the gate."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.base.errors import InputError, printable
from harness.cli.options import (
    FILE,
    OK,
    Command,
    checks_option,
    chosen_model_settings,
    json_option,
    model_settings,
    passed_on,
    project_options,
    refuse_own,
    setting_options,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.measures.flips import Flips
    from harness.run.model_settings import ModelSettings
    from harness.run.overview import Overview, Rate


@click.command(
    "compare",
    cls=Command,
    passes_on=True,
    example="compare runs/new.safetensors models/augmented.safetensors",
    help="Compare a checkpoint with another, by default the incumbent: accuracy, clean and posed, confusions, "
    "calibration, attention, as a page of its own and a table here. Three or more are ranked by the gate, which is run "
    "on each: by verdict, by failing checks, then by the smallest margin, with where each wins.",
)
@click.argument("checkpoints", type=FILE, nargs=-1, required=True, metavar="A [B [C...]]")
@setting_options(*model_settings())
@checks_option
@click.option(
    "--output",
    type=FILE,
    default=Path("reports/compare.html"),
    metavar="HTML",
    help="The page (default: reports/compare.html).",
)
@click.option(
    "--failures",
    type=FILE,
    metavar="CSV",
    help="Also write every new, fixed and shared failure, by kind, with what both models predict (default: none).",
)
@json_option
def compare_command(
    checkpoints: tuple[Path, ...], checks_path: Path, output: Path, failures: Path | None, *, as_json: bool
) -> int:
    """Compare checkpoints."""
    if len(checkpoints) > 2:  # noqa: PLR2004  Two are compared by their predictions.
        if failures:
            raise InputError("--failures: tells two checkpoints apart, image by image; name two")
        return _compare_many(checkpoints, checks_path, output, as_json=as_json)
    if passed_on():
        raise InputError("what follows -- is for the gate, which ranks three checkpoints or more; two are not gated")
    candidate, other = checkpoints if len(checkpoints) > 1 else (checkpoints[0], _incumbent())
    return _compare_two(candidate, other, output, failures, as_json=as_json)


def _incumbent() -> Path:
    """Return the last accepted checkpoint, or the shipped one for the shipped data."""
    from harness.checks.roles import ROLES
    from harness.data.options import DataOptions

    shipped_data = values()["data"] == DataOptions().spec
    if (found := ROLES["incumbent"].default(Path("models"), shipped_data=shipped_data)) is None:
        raise InputError("there is no incumbent yet to compare with: `stress-harness accept` makes one; or name two")
    return found


def _reproduce(paths: Sequence[Path], *more: str) -> str:
    """Return the command that makes the same comparison again."""
    from harness.base.settings import option_of_command, options_of

    own = [part for each in options_of(values(), model_settings(), option_of_command) for part in each]
    for_gate = ["--", *passed_on()] if passed_on() else []
    return shlex.join(["stress-harness", "compare", *map(str, paths), *more, *own, *for_gate])


def _compare_two(candidate: Path, other: Path, output: Path, failures: Path | None, *, as_json: bool) -> int:
    """Compare two checkpoints by their predictions."""
    from harness.base import write_atomically
    from harness.measures.failures import failure_changes, kinds_for
    from harness.measures.flips import flips
    from harness.report.exports import changes_csv
    from harness.report.html import comparison_page
    from harness.run.examples import spoken_of, thumbnails_of

    settings = chosen_model_settings()
    images = settings.images()
    models = _models((candidate, other), settings, images)
    overview = _overview(models, images)
    first, second = models
    mine, theirs = models[first].predict(images), models[second].predict(images)
    changed = flips(mine, theirs)
    facts = {
        **{name: f"{model.path} ({model.sha256[:12]})" for name, model in models.items()},
        "data": f"{images.name}, {images.split} split, {len(images)} images",
        "reproduce": _reproduce((candidate, other)),
    }
    pictures = thumbnails_of(images, spoken_of(overview))
    write_atomically(output, comparison_page(overview, changed.as_json(), facts, pictures).encode())
    if failures:
        by_kind = [failure_changes(mine, theirs, kind) for kind in kinds_for(mine)]
        write_atomically(failures, changes_csv(by_kind).encode())
    if as_json:
        print(json.dumps({**overview.as_plain(), "flips": changed.as_json(), "page": str(output)}))
        return OK
    print("\n".join(map(printable, _lines(overview, changed))))
    if failures:
        print(f"failures: {failures}")
    print(f"page: {output}")
    return OK


def _compare_many(paths: tuple[Path, ...], checks_path: Path, output: Path, *, as_json: bool) -> int:
    """Rank the checkpoints by the gate, print the ranking, and write its page."""
    from harness.base import write_atomically
    from harness.base.settings import options_of
    from harness.report.ranking import ranking_lines, ranking_page, ranking_rows
    from harness.run.ranking import RankingRequest, rank
    from harness.run.request import joined
    from harness.run.settings import option_of_pytest

    gate_settings = [setting for setting in model_settings() if setting.group != "backend"]
    refuse_own("--candidate", "--checks", "--stress-reports")
    passed = (
        tuple(part for option in options_of(values(), gate_settings, option_of_pytest) for part in option) + passed_on()
    )
    # What the project's configuration says of the network, and what is said here.
    _, network = project_options(checks_path, passed)
    candidates = rank(RankingRequest(paths, checks_path, network, tuple(joined(passed))))
    facts = {
        **{one.name: f"{one.path} ({one.sha256[:12]})" for one in candidates},
        "checks": str(checks_path),
        "reproduce": _reproduce(paths, "--checks", str(checks_path)),
    }
    write_atomically(output, ranking_page(candidates, facts).encode())
    if as_json:
        titles, *rows = ranking_rows(candidates)
        told = [
            {
                **dict(zip(titles, row, strict=True)),
                "path": one.path,
                "failing": one.failing,
                "failed_tests": one.failed_tests,
                "margins": one.margins,
            }
            for row, one in zip(rows, candidates, strict=True)
        ]
        print(json.dumps({"ranking": told, "page": str(output)}))
        return OK
    print("\n".join(map(printable, ranking_lines(candidates))))
    print(f"page: {output}")
    return OK


def _models(paths: tuple[Path, Path], settings: ModelSettings, images: LabelledImages) -> dict[str, RoleModel]:
    """Load both checkpoints, named by their files, or by A and B where the names are the same."""
    names = [path.stem for path in paths]
    if names[0] == names[1]:
        names = ["A", "B"]
    first, second = (settings.open(path, images) for path in paths)
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
