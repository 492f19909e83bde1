"""The commands `compare`, of two models, and `rank`, of finished runs of the gate."""

from __future__ import annotations

import shlex
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import click

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT = "60s"
"""Time that a comparison may take where nobody says otherwise."""


@click.command(
    "compare",
    cls=options.Command,
    example="compare runs/new.safetensors models/augmented.safetensors",
    help="Compare model A with model B, or with the incumbent: accuracy, confusions, failures and calibration, clean "
    "and posed. Prints a table and writes a page. `rank` ranks any number of finished runs.",
)
@click.argument("checkpoints", type=options.MODEL, nargs=-1, required=True, metavar="A [B]")
@options.model_options
@options.checks_option
@options.page_option("reports/compare.html")
@click.option(
    "--failures",
    type=options.FILE,
    metavar="CSV",
    help="Also write every new, fixed and shared failure, by kind, with what both models predict (default: none).",
)
@click.option(
    "--budget",
    metavar="TIME",
    help="The longest time that it may take, such as 90s or 5m. The plan names samples and parts that are left out "
    "(default: 60s).",
)
@click.option("--full", is_flag=True, help="Compare in full, however long that takes.")
@options.json_option
def compare_command(
    checkpoints: tuple[Path | str, ...],
    checks_path: Path,
    output: Path,
    failures: Path | None,
    budget: str | None,
    *,
    full: bool,
    as_json: bool,
) -> int:
    """Compare two checkpoints by their predictions."""
    began = time.process_time()
    from harness.base.outputs import PAGE, table_kind
    from harness.features.comparison.comparing import compare
    from harness.report.exports import changes_csv
    from harness.report.html import comparison_page
    from harness.report.pictures import source_of
    from harness.report.tables import comparison_lines
    from harness.run.budget import seconds_in
    from harness.run.examples import thumbnails_of
    from harness.run.inputs import inputs_of_command

    first, *others = checkpoints
    if len(others) > 1:
        raise InputError(
            f"compare takes two models, not {len(checkpoints)}; `stress-harness rank` ranks finished runs of several",
            code=Code.USAGE,
        )
    if budget and full:
        raise InputError("--budget and --full contradict each other; name one of them")
    seconds = None if full else seconds_in(budget or DEFAULT)
    settings = options.project_with(checks_path, as_json=as_json).request
    second = others[0] if others else settings.incumbent
    checkpoints = first, second
    inputs = inputs_of_command(checkpoints, settings, checks=checks_path)
    page = options.own_output(output, PAGE, inputs)
    changes = table_kind("a table of changes", "kind,change,image")
    table = failures and options.own_output(failures, changes, inputs.and_more([output]))
    planned = partial(print, sep="\n", file=sys.stderr if as_json else sys.stdout, flush=True)
    done = compare((first, second), settings, budget=seconds, on_planned=lambda plan: planned(*plan.lines), began=began)
    limit = [] if seconds == seconds_in(DEFAULT) else ["--full"] if seconds is None else ["--budget", f"{seconds:g}s"]
    command = ["stress-harness", "compare", *map(str, checkpoints), *limit, *options.given_line()]
    facts = {
        **{model.role: f"{model.path} ({model.sha256[:12]})" for model in done.models},
        "data": f"{done.images.name}, {done.images.split} split, {len(done.images)} images",
        "reproduce": shlex.join(command),
    }
    shown, changed = thumbnails_of(done.images, done.overview), done.changed.as_json()
    thumbnails = {number: source_of(pixels) for number, pixels in shown.items()}
    page.write(comparison_page(done.overview, changed, facts, thumbnails).encode())
    if table:
        table.write(changes_csv(*done.predictions).encode())
    written = [f"failures: {failures}"] * bool(failures) + [f"page: {output}"]
    plain = {**done.overview.as_plain(), "flips": changed, "page": str(output)}
    options.say(plain, [*comparison_lines(done.overview, done.changed), *written], as_json=as_json)
    return options.OK


@click.command(
    "rank",
    cls=options.Command,
    example="rank reports/*/stress.json",
    help="Rank the candidates of finished runs of the gate by their stress.json: by verdict, by failing checks, then "
    "by the smallest margin. Also name the checks that each candidate wins. Nothing runs. The runs must have the same "
    "images, checks file, profile and protocol.",
)
@click.argument("records", type=options.FILE, nargs=-1, required=True, metavar="STRESS_JSON...")
@options.json_option
def rank_command(records: tuple[Path, ...], *, as_json: bool) -> int:
    """Rank finished runs."""
    from harness.features.comparison.ranking import rank, ranking_json, ranking_lines, read_runs

    ranking = rank(read_runs(records))
    options.say(ranking_json(ranking), ranking_lines(ranking), as_json=as_json)
    return options.OK
