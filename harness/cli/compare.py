"""The command `compare`: two checkpoints by their predictions, more by the gate."""

from __future__ import annotations

import json
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from harness.base.errors import InputError, printable
from harness.cli.options import (
    FILE,
    MODEL,
    OK,
    REPORTS,
    Command,
    checks_option,
    for_gate,
    given_line,
    json_option,
    model_options,
    passed_on,
    project_with,
    refuse_own,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.comparison import ComparisonPlan

DEFAULT = "60s"
"""Time that a comparison of two may take where nobody says otherwise."""


@click.command(
    "compare",
    cls=Command,
    passes_on=True,
    example="compare runs/new.safetensors models/augmented.safetensors",
    help="Compare a checkpoint with another, by default the incumbent, in accuracy, clean and posed, confusions, "
    "failures and calibration. Prints a table and writes a page. The gate runs on each of three or more, and ranks "
    "them by verdict, by failing checks, then by the smallest margin. The page names the rows that each wins.",
)
@click.argument("checkpoints", type=MODEL, nargs=-1, required=True, metavar="A [B [C...]]")
@model_options
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
@click.option(
    "--budget",
    metavar="TIME",
    help="The longest time that a comparison of two may take, such as 90s or 5m. The plan names samples and parts "
    "that are left out (default: 60s).",
)
@click.option("--full", is_flag=True, help="Compare two checkpoints in full, however long that takes.")
@json_option
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
    """Compare checkpoints."""
    if budget and full:
        raise InputError("--budget and --full contradict each other; name one of them")
    if len(checkpoints) > 2:  # noqa: PLR2004  Two are compared by their predictions.
        if budget or full:
            named = "--budget" if budget else "--full"
            raise InputError(f"{named}: is for two checkpoints; the gate ranks more (-- --stress-budget TIME)")
        if failures:
            raise InputError("--failures: tells two checkpoints apart, image by image; name two")
        return _compare_many(checkpoints, checks_path, output, as_json=as_json)
    if passed_on():
        said = "options after -- are for the gate, which ranks three checkpoints or more, not two; leave them out"
        raise InputError(said)
    from harness.run.budget import seconds_in

    seconds = None if full else seconds_in(budget or DEFAULT)
    return _compare_two(checkpoints, checks_path, output, failures, seconds, as_json=as_json)


def _print_plan(plan: ComparisonPlan, *, file: TextIO) -> None:
    for line in plan.lines:
        print(line, file=file, flush=True)


def _reproduce(paths: Sequence[Path | str], *more: str) -> str:
    """Return the command that makes the same comparison again."""
    passed = ["--", *passed_on()] if passed_on() else []
    return shlex.join(["stress-harness", "compare", *map(str, paths), *more, *given_line(), *passed])


def _compare_two(
    checkpoints: tuple[Path | str, ...],
    checks_path: Path,
    output: Path,
    failures: Path | None,
    budget: float | None,
    *,
    as_json: bool,
) -> int:
    """Compare two checkpoints by their predictions."""
    began = time.process_time()
    from harness.base.outputs import PAGE, Output, table_kind
    from harness.report.exports import changes_csv
    from harness.report.html import comparison_page
    from harness.report.tables import comparison_lines
    from harness.run.budget import seconds_in
    from harness.run.comparison import ComparisonRequest, compare
    from harness.run.inputs import inputs_of_command

    candidate, *others = checkpoints
    project = project_with(checks_path, as_json=as_json)
    other = next(iter(others), None)
    request = ComparisonRequest(candidate, other, project.request, budget)
    inputs = inputs_of_command(request.paths, request.model)
    page = Output(output, PAGE, inputs, within=REPORTS)
    changes = table_kind("a table of changes", "kind,change,image")
    table = failures and Output(failures, changes, inputs.and_more([output]), within=REPORTS)
    page.expect_own()
    if table:
        table.expect_own()
    done = compare(request, on_planned=partial(_print_plan, file=sys.stderr if as_json else sys.stdout), began=began)
    limit = [] if budget == seconds_in(DEFAULT) else ["--full"] if budget is None else ["--budget", f"{budget:g}s"]
    facts = {**done.facts, "reproduce": _reproduce(request.paths, *limit)}
    changed = done.changed.as_json()
    page.write(comparison_page(done.overview, changed, facts, done.thumbnails).encode())
    if table:
        table.write(changes_csv(done.failure_changes()).encode())
    if as_json:
        print(json.dumps({**done.overview.as_plain(), "flips": changed, "page": str(output)}))
        return OK
    print("\n".join(map(printable, comparison_lines(done.overview, done.changed))))
    if failures:
        print(f"failures: {failures}")
    print(f"page: {output}")
    return OK


def _compare_many(paths: tuple[Path | str, ...], checks_path: Path, output: Path, *, as_json: bool) -> int:
    """Rank the checkpoints by the gate, print the ranking, and write its page."""
    from harness.base.outputs import PAGE, Output
    from harness.report.ranking import ranking_lines, ranking_page, ranking_rows
    from harness.run.inputs import inputs_of_command
    from harness.run.ranking import RankingRequest, rank
    from harness.run.request import joined

    refuse_own("--candidate", "--checks", "--stress-reports")
    model = project_with(checks_path, as_json=as_json).request
    page = Output(output, PAGE, inputs_of_command(paths, model, checks=checks_path), within=REPORTS)
    page.expect_own()
    candidates = rank(RankingRequest(paths, checks_path, model, tuple(joined(for_gate()))))
    facts = {
        **{one.name: f"{one.path} ({one.sha256[:12]})" for one in candidates},
        "checks": str(checks_path),
        "reproduce": _reproduce(paths, "--checks", str(checks_path)),
    }
    page.write(ranking_page(candidates, facts).encode())
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
