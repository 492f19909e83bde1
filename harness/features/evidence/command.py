"""The command `evidence`: which clauses the record of a run covers."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options

_RECORD = Path("reports/stress.json")


@click.command(
    "evidence",
    cls=options.CommandWithExample,
    example="evidence reports/stress.json",
    help="Say which clauses of the EU AI Act and of ISO/IEC standards on testing the record of a "
    "run has evidence for (default: reports/stress.json), and which it does not cover. Writes "
    "Markdown, and JSON beside it. It is no assessment of conformity. Exit status 1 means "
    "that the run has no verdict, or that it contradicts the declared accuracy.",
)
@click.argument("record", type=options.FILE, default=_RECORD)
@options.output_option("MD", "The page to write", in_words="evidence.md, in RECORD's folder")
@options.json_option
def evidence_command(record: Path, output: Path | None, *, as_json: bool) -> int:
    """Assess the record of a run."""
    import json

    from harness.base.codes import Code
    from harness.base.errors import InputError
    from harness.base.outputs import Inputs, write_together
    from harness.features.evidence import documents
    from harness.features.evidence.assessment import assessment_of
    from harness.report.redraw import outcome_at, reading_record

    page = output or record.with_name("evidence.md")
    if page.suffix != ".md":
        raise InputError(f"{page}: expected the name of a Markdown file (.md)", code=Code.USAGE)
    outcome, content = outcome_at(record)
    inputs = Inputs((record,))
    markdown_file = options.own_output(page, documents.MARKDOWN, inputs)
    json_file = options.own_output(page.with_suffix(".json"), documents.JSON, inputs)

    plain = json.loads(content)
    file = documents.RecordFile(record.name, content)
    # Nothing has validated the content of a refusal.
    with reading_record(record):
        assessment = assessment_of(outcome, plain)
        markdown = documents.as_markdown(assessment, plain, file)
        document = documents.as_json(assessment, plain, file)
    write_together({markdown_file: markdown, json_file: document})

    counts = {status: assessment.count(status) for status in documents.STATUSES}
    lines = [f"verdict of the run: {plain['headline']}"]
    clauses = f"of {len(assessment.rows)} clauses"
    lines += [f"{count} {clauses}: {status}" for status, count in counts.items()]
    lines += [f"limit: {limit}" for limit in assessment.limits]
    if assessment.claim is not None:
        lines.append(f"accuracy {assessment.claim.in_words}")
    lines.append(f"written: {page}, {json_file.path}")
    printed = {"verdict": plain["verdict"], "clauses": counts, "page": str(page)}
    options.say(printed, lines, as_json=as_json)

    has_verdict = outcome is not None and outcome.verdict != "error"
    is_contradicted = assessment.claim is not None and assessment.claim.ruling == "contradicted"
    return options.OK if has_verdict and not is_contradicted else options.NEGATIVE
