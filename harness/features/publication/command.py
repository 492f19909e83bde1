"""The commands `attest`, `card` and `badge`: the record of a run, in the forms of others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path

_WRITTEN = "The file to write"
_BESIDE_RECORD = "{}, in RECORD's folder"


@click.command(
    "attest",
    cls=options.CommandWithExample,
    example="attest reports/stress.json --output new.intoto.json",
    help="Write the verdict of a run as an in-toto statement with the predicate test-result, for "
    "signing. Its subject is the model's file. A run without a whole verdict, or a file that "
    "has changed since, gives none (exit status 1).",
)
@click.argument("record", type=options.FILE)
@options.output_option("JSON", _WRITTEN, in_words=_BESIDE_RECORD.format("stress.intoto.json"))
@click.option(
    "--model",
    type=options.FILE,
    metavar="FILE",
    help="The model's file, where it is now (default: that of the run).",
)
def attest_command(record: Path, output: Path | None, model: Path | None) -> int:
    """Write a statement."""
    from harness.base.outputs import Inputs
    from harness.features.publication.attestation import STATEMENT, statement
    from harness.report.redraw import outcome_at

    path = output or record.with_name("stress.intoto.json")
    written = options.own_output(path, STATEMENT, Inputs(tuple(filter(None, (record, model)))))
    made = None
    try:
        outcome, content = outcome_at(record)
        made, why = statement(outcome, content, model)
    finally:
        if made is None:
            written.remove()  # One of an earlier run would be signed in its place.
    if made is None:
        options.tell(f"{record}: no attestation, {why}")
        return options.NEGATIVE
    written.write((json.dumps(made, indent=1) + "\n").encode())
    options.tell(f"{made['predicate']['result']}: {path}")
    return options.OK


@click.command(
    "card",
    cls=options.CommandWithExample,
    example="card reports/stress.json --into README.md",
    help="Print the verdict of a run as a section of a model card, or write it into one: "
    "model-index for Hugging Face, and a table. Only text between the marks of this command "
    "is replaced.",
)
@click.argument("record", type=options.FILE)
@click.option(
    "--into", type=options.FILE, metavar="FILE", help="The model card (default: print the section)."
)
def card_command(record: Path, into: Path | None) -> int:
    """Write a section of a model card."""
    from harness.base.outputs import Inputs
    from harness.features.publication.card import CARD, inserted, model_index, section, text_of
    from harness.report.redraw import outcome_at

    outcome, _ = outcome_at(record)
    if outcome is None or outcome.verdict not in {"pass", "fail"} or outcome.run.stopped:
        options.tell(f"{record}: no model card, the run has no whole verdict")
        return options.NEGATIVE
    card = inserted(text_of(into), model_index(outcome), section(outcome), where=str(into))
    if into is None:
        options.tell(*card.removesuffix("\n").split("\n"))
    else:
        options.own_output(into, CARD, Inputs((record,))).write(card.encode())
        options.tell(f"written into {into}")
    return options.OK


@click.command(
    "badge",
    cls=options.CommandWithExample,
    example="badge reports/stress.json",
    help="Write the verdict of a run as the endpoint of a badge of shields.io.",
)
@click.argument("record", type=options.FILE)
@options.output_option("JSON", _WRITTEN, in_words=_BESIDE_RECORD.format("stress-badge.json"))
def badge_command(record: Path, output: Path | None) -> int:
    """Write a badge."""
    from harness.base.outputs import Inputs, OutputKind
    from harness.report.redraw import outcome_at

    colors = {
        "pass": "brightgreen",
        "fail": "red",
        "partial": "yellow",
        "inconclusive": "lightgrey",
    }
    outcome, _ = outcome_at(record)
    verdict = (
        "inconclusive" if outcome is None or outcome.verdict == "error" else str(outcome.verdict)
    )
    path = output or record.with_name("stress-badge.json")
    badge = {
        "schemaVersion": 1,
        "label": "stress tests",
        "message": verdict,
        "color": colors[verdict],
    }
    kind = OutputKind(
        "a badge", rb'\s*\{\s*"schemaVersion"\s*:\s*1\s*,\s*"label"\s*:\s*"stress tests"'
    )
    options.own_output(path, kind, Inputs((record,))).write(json.dumps(badge).encode())
    options.tell(f"{verdict}: {path}")
    return options.OK
