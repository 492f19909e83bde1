"""The command `report`: the page and the summary of a run, drawn again from its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "report",
    cls=options.Command,
    example="report reports/stress.json",
    help="Draw the page and the Markdown summary of a run again, from its record stress.json and the folder of "
    "pictures beside it. Nothing runs, and neither the model nor the data is needed.",
)
@click.argument("record", type=options.FILE)
@options.output_option("DIR", "The folder for stress.html and stress.md", in_words="RECORD's")
@options.json_option
def report_command(record: Path, output: Path | None, *, as_json: bool) -> int:
    """Draw the reports of a record again."""
    from harness.base.outputs import REPORT_MARKDOWN, REPORT_PAGE, Inputs
    from harness.report.redraw import redrawn
    from harness.report.text import summary_lines
    from harness.run.status import INCONCLUSIVE, PAGE, SUMMARY

    outcome, reports = redrawn(record)
    folder = record.parent if output is None else output
    kinds = {PAGE: REPORT_PAGE, SUMMARY: REPORT_MARKDOWN}
    for name, kind in kinds.items():
        options.own_output(folder / name, kind, Inputs((record,))).write(reports[name])
    lines = [INCONCLUSIVE, f"report: {folder / PAGE}"] if outcome is None else summary_lines(outcome, folder)
    plain = {"verdict": outcome.verdict if outcome else "error", **{name: str(folder / name) for name in kinds}}
    options.say(plain, [*lines, f"summary: {folder / SUMMARY}"], as_json=as_json)
    return options.OK
