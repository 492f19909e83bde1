"""The command `accept`: it makes a checkpoint the incumbent, if it passes the gate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from harness.base.errors import InputError
from harness.base.files import hash_of_file
from harness.cli.gate import run_gate
from harness.cli.options import FILE, NEGATIVE, OK, Command, checks_option, passed_on, project_options, refuse_own


@dataclass(frozen=True)
class _Acceptance:
    """A checkpoint to accept: the files it goes into and is gated by, and verdicts that suffice besides pass."""

    checkpoint: Path
    checks_path: Path
    incumbent: Path
    force: bool
    provisional: bool


@click.command(
    "accept",
    cls=Command,
    passes_on=True,
    example="accept runs/new.safetensors",
    help="Run the gate on a checkpoint and, if it passes, make it the incumbent, which later candidates are compared "
    "with.",
)
@click.argument("checkpoint", type=FILE)
@click.option("--force", is_flag=True, help="Accept it though the verdict is fail or partial; the file records that.")
@click.option(
    "--provisional",
    is_flag=True,
    help="Accept it though its thresholds rest on one or two reference models; the file records that.",
)
@click.option(
    "--incumbent",
    type=FILE,
    default=Path("models/incumbent.safetensors"),
    metavar="FILE",
    help="The file to write (default: models/incumbent.safetensors).",
)
@checks_option
def accept_command(checkpoint: Path, incumbent: Path, checks_path: Path, *, force: bool, provisional: bool) -> int:
    """Gate a checkpoint and accept it."""
    from harness.base import locked

    options = _Acceptance(checkpoint, checks_path, incumbent, force, provisional)

    if options.checkpoint.suffix.lower() == ".onnx":
        raise InputError(
            f"{options.checkpoint}: not accepted, an incumbent is a checkpoint with weights; accept the one that the "
            "ONNX file was exported from, or name the file with --incumbent where the gate runs"
        )
    reports = Path.cwd() / "reports"
    # Two that are accepted at once would be held against the same incumbent, and read one another's reports.
    with locked(reports), locked(options.incumbent):
        return _accept_alone(options, reports)


def _accept_alone(options: _Acceptance, reports: Path) -> int:
    from dataclasses import replace

    from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint

    before, checks_before = hash_of_file(options.incumbent), hash_of_file(options.checks_path)
    refuse_own("--candidate", "--checks", "--incumbent", "--stress-reports")
    arguments = [
        *(str(options.checks_path.parent), "--checks", str(options.checks_path)),
        *("--candidate", str(options.checkpoint), "--stress-reports", str(reports)),
        *(("--incumbent", str(options.incumbent)) if options.incumbent.exists() else ()),
        *passed_on(),
    ]
    status = run_gate(arguments)
    try:
        report = json.loads((reports / "stress.json").read_bytes())
    except OSError:
        report = {"verdict": "error"}
    verdict = report["verdict"]
    if verdict == "error" or status not in {0, 1}:
        raise InputError(f"{options.checkpoint}: not accepted, the gate could not judge it (exit status {status})")
    quick = report["profile"] == "quick"
    forced = verdict != "pass" or quick
    if forced and not options.force:
        of_profile = " of the quick profile, which leaves much out" if quick else ""
        print(
            f"{options.checkpoint}: not accepted, the verdict is {verdict}{of_profile}; --force accepts it all the same"
        )
        return NEGATIVE
    provisional = report.get("provisional", False)
    if provisional and not (options.provisional or options.force):
        print(
            f"{options.checkpoint}: not accepted, the verdict is provisional: its thresholds rest on one or two "
            "reference models; calibrate with three or more, or say --provisional"
        )
        return NEGATIVE
    _, network = project_options(options.checks_path, passed_on())
    checkpoint = load_checkpoint(options.checkpoint, builder=network.builder(), choice=network.choice())
    if checkpoint.sha256 != report["candidate"]["sha256"]:
        raise InputError(f"{options.checkpoint}: not accepted, since it changed while the gate ran; run it again")
    if report["checks_sha256"] != checks_before:
        raise InputError(f"{options.checks_path}: changed while the gate ran; run it again")
    if hash_of_file(options.incumbent) != before:
        raise InputError(
            f"{options.checkpoint}: not accepted, since {options.incumbent} changed while the gate ran, so that the "
            "checkpoint was held against another; run it again"
        )
    record = checkpoint.record or Record(checkpoint.architecture, {}, tuple(report["data"]["classes"]))
    acceptance = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": report["profile"],
        "verdict": verdict,
        "forced": forced,
        **({"provisional": True} if provisional else {}),
        "checks_sha256": report["checks_sha256"],
        "data_sha256": report["data"]["sha256"],
        "candidate_sha256": checkpoint.sha256,
        "checks": [check["id"] for check in report["checks"]],
    }
    save_checkpoint(options.incumbent, checkpoint.model, replace(record, acceptance=acceptance))
    by_force = " by force" if forced else ""
    print(
        f"{options.checkpoint}: accepted{by_force}, {options.incumbent} is the currently shipped model (incumbent) now"
    )
    return OK
