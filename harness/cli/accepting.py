"""The command that makes a checkpoint the incumbent, if it passes the gate: accept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.files import hash_of_file
from harness.cli.gate import run_gate
from harness.cli.gating import PASSED_ON, add_checks_option, network_of, refuse_own
from harness.cli.status import NEGATIVE, OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    accept = add(
        "accept",
        _accept,
        "Run the gate on a checkpoint and, if it passes, make it the currently shipped model (incumbent), against "
        "which later candidates are held." + PASSED_ON,
        "accept runs/new.safetensors",
    )
    accept.set_defaults(passes_on=True)
    accept.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    accept.add_argument(
        "--force", action="store_true", help="accept it though the verdict is fail or partial; the file records that"
    )
    accept.add_argument(
        "--provisional",
        action="store_true",
        help="accept it though its thresholds rest on one or two reference models; the file records that",
    )
    accept.add_argument(
        "--incumbent",
        type=Path,
        default=Path("models/incumbent.safetensors"),
        metavar="FILE",
        help="the file to write (default: models/incumbent.safetensors)",
    )
    add_checks_option(accept)


def _accept(options: argparse.Namespace) -> int:
    from harness.base import locked

    if options.checkpoint.suffix.lower() == ".onnx":
        raise InputError(
            f"{options.checkpoint}: not accepted, an incumbent is a checkpoint with weights; accept the one that the "
            "ONNX file was exported from, or name the file with --incumbent where the gate runs"
        )
    reports = Path.cwd() / "reports"
    # Two that are accepted at once would be held against the same incumbent, and read one another's reports.
    with locked(reports), locked(options.incumbent):
        return _accept_alone(options, reports)


def _accept_alone(options: argparse.Namespace, reports: Path) -> int:
    from dataclasses import replace

    from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint

    before, checks_before = hash_of_file(options.incumbent), hash_of_file(options.checks)
    refuse_own(options.options, "--candidate", "--checks", "--incumbent", "--stress-reports")
    arguments = [
        *(str(options.checks.parent), "--checks", str(options.checks)),
        *("--candidate", str(options.checkpoint), "--stress-reports", str(reports)),
        *(("--incumbent", str(options.incumbent)) if options.incumbent.exists() else ()),
        *options.options,
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
    network = network_of(options)
    checkpoint = load_checkpoint(options.checkpoint, builder=network.builder(), choice=network.choice())
    if checkpoint.sha256 != report["candidate"]["sha256"]:
        raise InputError(f"{options.checkpoint}: not accepted, since it changed while the gate ran; run it again")
    if report["checks_sha256"] != checks_before:
        raise InputError(f"{options.checks}: changed while the gate ran; run it again")
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
