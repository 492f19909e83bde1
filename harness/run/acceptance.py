"""Acceptance of a checkpoint: if it passes the gate, it is the incumbent from then on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.files import hash_of_file, locked
from harness.base.outputs import CHECKPOINT, Output
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.run.inputs import inputs_of_run
from harness.run.request import RunRequest, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from harness.run.execute import RunResult


@dataclass(frozen=True)
class AcceptRequest:
    """A checkpoint to make the `incumbent`, gated by a checks file and the stress tests in its folder.

    `force` accepts the verdicts fail and partial, too, and a pass of the quick profile. `provisional` accepts
    thresholds of one or two reference models. `gate_options` are further options of the run.
    """

    checkpoint: Path
    checks_path: Path = Path("stress_tests/checks.toml")
    incumbent: Path = Path("models/incumbent.safetensors")
    force: bool = False
    provisional: bool = False
    gate_options: tuple[str, ...] = ()
    root: Path = Path()

    def __post_init__(self) -> None:
        """Raise `InputError` for a file without weights of its own."""
        if self.checkpoint.suffix.lower() == ".onnx":
            raise InputError(
                f"{self.checkpoint}: not accepted, an incumbent is a checkpoint with weights; accept the one that the "
                "ONNX file was exported from, or name the file with --incumbent where the gate runs"
            )

    @property
    def run(self) -> RunRequest:
        """Return the run that decides."""
        return RunRequest(
            roles={"candidate": self.checkpoint, **({"incumbent": self.incumbent} if self.incumbent.exists() else {})},
            checks=self.checks_path,
            reports=self.root / "reports",
            tests=(str(self.checks_path.parent),),
            options=self.gate_options,
            root=self.root,
        )


@dataclass(frozen=True)
class Acceptance:
    """Whether a checkpoint was `accepted`, by which verdict, and whether that took `force` or is `provisional`."""

    verdict: str
    quick: bool
    provisional: bool
    accepted: bool = False

    @property
    def forced(self) -> bool:
        """Return whether only force accepts this verdict."""
        return self.verdict != "pass" or self.quick


def accept(request: AcceptRequest, *, judge: Callable[[RunRequest], RunResult]) -> Acceptance:
    """Run the gate by `judge`, and write the incumbent if the verdict allows it.

    Raises `InputError` for an inconclusive run, and for files that change meanwhile.
    """
    others = {role: path for role, path in request.run.roles.items() if role != "incumbent"}
    read = inputs_of_run(replace(request.run, roles={**others, "incumbent": "none"}))
    Output(request.incumbent, CHECKPOINT, read).expect_own()
    # Two acceptances at a time would compare with the same incumbent, and read each other's reports.
    with locked(request.run.reports_folder), locked(request.incumbent):
        return _accept_alone(request, judge)


def _accept_alone(request: AcceptRequest, judge: Callable[[RunRequest], RunResult]) -> Acceptance:
    incumbent, checks = hash_of_file(request.incumbent), hash_of_file(request.checks_path)
    result = judge(request.run)
    report = result.report or {"verdict": "error"}
    if report["verdict"] == "error" or result.exit_status not in {0, 1}:
        raise InputError(
            f"{request.checkpoint}: not accepted, the gate could not judge it (exit status {result.exit_status})"
        )
    done = Acceptance(report["verdict"], report["profile"] == "quick", report.get("provisional", False))
    if done.forced and not request.force:
        return done
    if done.provisional and not (request.provisional or request.force):
        return done
    _write(request, done, report, incumbent=incumbent, checks=checks)
    return replace(done, accepted=True)


def _write(
    request: AcceptRequest, done: Acceptance, report: Mapping[str, Any], *, incumbent: str | None, checks: str | None
) -> None:
    """Write the incumbent; raises `InputError` for files that are not those of the run, by their hashes before it."""
    network = request_of(request.gate_options, tests=request.checks_path.parent).network_options
    checkpoint = load_checkpoint(request.checkpoint, builder=network.builder(), choice=network.choice())
    if checkpoint.sha256 != report["candidate"]["sha256"]:
        raise InputError(f"{request.checkpoint}: not accepted, since it changed while the gate ran; run it again")
    if report["checks_sha256"] != checks:
        raise InputError(f"{request.checks_path}: changed while the gate ran; run it again")
    if hash_of_file(request.incumbent) != incumbent:
        raise InputError(
            f"{request.checkpoint}: not accepted, since {request.incumbent} changed while the gate ran, so that the "
            "checkpoint was held against another; run it again"
        )
    record = checkpoint.record or Record(checkpoint.architecture, {}, tuple(report["data"]["classes"]))
    acceptance = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": report["profile"],
        "verdict": done.verdict,
        "forced": done.forced,
        **({"provisional": True} if done.provisional else {}),
        "checks_sha256": report["checks_sha256"],
        "data_sha256": report["data"]["sha256"],
        "candidate_sha256": checkpoint.sha256,
        "checks": [check["id"] for check in report["checks"]],
    }
    save_checkpoint(request.incumbent, checkpoint.model, replace(record, acceptance=acceptance))
