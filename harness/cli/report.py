"""The commands on the record of a run: `report` and `schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from harness.base.errors import some_of
from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.outcome import Outcome


@click.command(
    "report",
    cls=options.CommandWithExample,
    example="report reports/stress.json",
    help="Draw the page and the Markdown summary of a run again, from its record stress.json and "
    "the folder of pictures beside it. Nothing runs, and neither the model nor the data is needed.",
)
@click.argument("record", type=options.FILE)
@options.output_option(
    "DIR", "The folder for stress.html and stress.md with its picture", in_words="RECORD's"
)
@click.option(
    "--figures",
    type=options.FILE,
    metavar="DIR",
    help="Folder for the figures of the page, a file for each (default: none).",
)
@click.option(
    "--figure-format",
    type=click.Choice(["svg", "png"]),
    default="svg",
    help="Format of --figures (default: svg).",
)
@options.json_option
def report_command(
    record: Path,
    output: Path | None,
    figures: Path | None,
    figure_format: Literal["svg", "png"],
    *,
    as_json: bool,
) -> int:
    """Draw the reports of a record again."""
    from harness.base.outputs import REPORT_MARKDOWN, REPORT_PAGE, Inputs, write_together
    from harness.report.redraw import redrawing_in, redrawn
    from harness.report.text import summary_lines
    from harness.run.status import INCONCLUSIVE, PAGE, REPORT, SUMMARY

    outcome, reports = redrawn(record)
    folder = record.parent if output is None else output
    kinds = {PAGE: REPORT_PAGE, SUMMARY: REPORT_MARKDOWN}
    written = {
        name: options.own_output(folder / name, kind, Inputs((record,)))
        for name, kind in kinds.items()
    }
    with redrawing_in(folder, reports[REPORT]):
        write_together({file: reports[name] for name, file in written.items()})
        if outcome is not None and output is not None:
            _copy_picture(outcome, folder)
    lines = (
        [INCONCLUSIVE, f"report: {folder / PAGE}"]
        if outcome is None
        else summary_lines(outcome, folder)
    )
    lines.append(f"summary: {folder / SUMMARY}")
    plain: dict[str, Any] = {"verdict": outcome.verdict if outcome else "error"}
    plain |= {name: str(folder / name) for name in kinds}
    if figures is not None:
        plain["figures"], line = _write_figures(outcome, record, figures, figure_format)
        lines.append(line)
    options.say(plain, lines, as_json=as_json)
    return options.OK


@click.command(
    "schema",
    cls=options.CommandWithExample,
    example="schema > stress.schema.json",
    help="Print the JSON schema of stress.json (draft 2020-12), for tools that read the record of "
    "a run.",
)
def schema_command() -> int:
    """Print the schema of the record."""
    import json

    from harness.run.record_schema import record_schema

    options.tell(*json.dumps(record_schema(), indent=2).split("\n"))
    return options.OK


def _write_figures(
    outcome: Outcome | None, record: Path, folder: Path, form: Literal["svg", "png"]
) -> tuple[list[str], str]:
    """Write the figures of a run into a folder; return their paths and a line about them."""
    from harness.base.outputs import FIGURE, Inputs
    from harness.report.figure_files import figure_files

    if outcome is None or outcome.run.brief:
        return [], "figures: none, because this run has no figures"
    contents, missing = figure_files(outcome, form)
    for name, content in contents.items():
        options.own_output(folder / name, FIGURE, Inputs((record,))).write(content)

    line = f"figures: {len(contents)} in {folder}"
    if missing:
        line += f"; not drawn, as the page explains: {some_of(missing)}"
    return [str(folder / name) for name in contents], line


def _copy_picture(outcome: Outcome, folder: Path) -> None:
    """Write the picture that the summary names into the folder of the summary."""
    from harness.base.outputs import REPORT_PICTURE, Inputs
    from harness.report.text import summary_picture
    from harness.run.shown import named

    if (picture := summary_picture(outcome)) is None:
        return
    images: dict[str, bytes] = {}
    name = named(picture.image, images)
    options.own_output(folder / name, REPORT_PICTURE, Inputs()).write(images[name])
