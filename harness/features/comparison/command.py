"""The commands `compare`, of two models, and `rank`, of finished runs of the gate."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "compare",
    cls=options.CommandWithExample,
    example="compare runs/new.safetensors models/augmented.safetensors",
    help="Compare model A with model B, or with the incumbent: accuracy, confusions, failures and "
    "calibration, clean and posed. Prints a table and writes a page. `rank` ranks any number of "
    "finished runs.",
)
@click.argument("checkpoints", type=options.MODEL, nargs=-1, required=True, metavar="A [B]")
@options.model_options
@options.checks_option
@options.page_option("reports/compare.html")
@click.option(
    "--failures",
    type=options.FILE,
    metavar="CSV",
    help="Also write every new, fixed and shared failure, by kind, with what both models predict "
    "(default: none).",
)
@options.json_option
def compare_command(
    checkpoints: tuple[Path | str, ...],
    checks_path: Path,
    output: Path,
    failures: Path | None,
    *,
    as_json: bool,
) -> int:
    """Compare two checkpoints by their predictions."""
    from harness.base.outputs import PAGE, table_kind
    from harness.features.comparison.comparison import compare
    from harness.report.exports import changes_csv
    from harness.report.html import comparison_page
    from harness.report.pictures import source_of
    from harness.report.tables import comparison_lines
    from harness.run.examples import thumbnails_of
    from harness.run.inputs import inputs_of_command

    if len(checkpoints) > 2:  # noqa: PLR2004
        raise InputError(
            f"compare takes two models, not {len(checkpoints)}; `stress-harness rank` ranks "
            "finished runs of several",
            code=Code.USAGE,
        )
    settings = options.project_with(checks_path, as_json=as_json).request
    first = checkpoints[0]
    second = checkpoints[1] if len(checkpoints) > 1 else settings.incumbent
    both = (first, second)

    inputs = inputs_of_command(both, settings, checks=checks_path)
    page = options.own_output(output, PAGE, inputs)
    table = None
    if failures:
        kind = table_kind("a table of changes", "kind,change,image")
        table = options.own_output(failures, kind, inputs.and_more([output]))

    comparison = compare(both, settings)
    images = comparison.images
    command_line = ["stress-harness", "compare", *map(str, both), *options.given_line()]
    facts = {
        **{model.role: f"{model.path} ({model.sha256[:12]})" for model in comparison.models},
        "data": f"{images.name}, {images.split} split, {len(images)} images",
        "reproduce": shlex.join(command_line),
    }

    shown = thumbnails_of(images, comparison.overview)
    thumbnails = {number: source_of(pixels) for number, pixels in shown.items()}
    changed = comparison.changed.as_json()
    page.write(comparison_page(comparison.overview, changed, facts, thumbnails).encode())

    lines = list(comparison_lines(comparison.overview, comparison.changed))
    if table:
        table.write(changes_csv(*comparison.predictions).encode())
        lines.append(f"failures: {failures}")
    lines.append(f"page: {output}")

    plain = {**comparison.overview.as_plain(), "flips": changed, "page": str(output)}
    options.say(plain, lines, as_json=as_json)
    return options.OK


@click.command(
    "rank",
    cls=options.CommandWithExample,
    example="rank reports/*/stress.json",
    help="Rank the candidates of finished runs of the gate by their stress.json: by verdict, then "
    "by the number of other candidates that each beats. A candidate beats another if it leads more "
    "of their checks, each by at least a standard deviation of the reference models. Also name the "
    "checks that each candidate wins. Nothing runs. The runs must have the same images, checks "
    "file, profile and protocol.",
)
@click.argument("records", type=options.FILE, nargs=-1, required=True, metavar="STRESS_JSON...")
@options.json_option
def rank_command(records: tuple[Path, ...], *, as_json: bool) -> int:
    """Rank finished runs."""
    from harness.features.comparison.ranking import rank, read_runs

    ranking = rank(read_runs(records))
    options.say(ranking.as_json(), ranking.lines, as_json=as_json)
    return options.OK
