"""Acceptance of a checkpoint: if it passes the gate, it is the incumbent from then on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.files import hash_of_file, locked
from harness.base.outputs import CHECKPOINT, INCUMBENT_DECLARATION, Output
from harness.checks.declaration import (
    Declaration,
    declaration_of,
    declaration_path,
    pending_of,
    read_declaration,
)
from harness.checks.roles import INCUMBENT, ROLES
from harness.data.options import DataOptions
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
    def declared(self) -> Declaration | None:
        """Return the incumbent that is declared beside the file to write; None where none is."""
        return read_declaration(declaration_path(self.incumbent))

    @property
    def compared(self) -> Path | None:
        """Return the model to compare with: the declared one, else the file that would be replaced; None for none."""
        if (declared := self.declared) is not None:
            return declared.weights
        return self.incumbent if self.incumbent.exists() else None

    @property
    def run(self) -> RunRequest:
        """Return the run that decides.

        It compares with none where none is accepted yet and the data have no shipped model, and by force where the
        declared one is missing or another file.
        """
        roles: dict[str, Path | str] = {"candidate": self.checkpoint}
        compared, declared = self.compared, self.declared
        if compared is None:
            asked = request_of(self.gate_options, tests=self.checks_path.parent)
            shipped = ROLES[INCUMBENT].default(self.root / "models", shipped_data=asked.data_options == DataOptions())
            roles |= {} if shipped else {INCUMBENT: "none"}
        elif declared is not None and declared.found != declared.sha256:
            roles[INCUMBENT] = "none"
        else:
            roles[INCUMBENT] = compared
        return RunRequest(
            roles=roles,
            checks=self.checks_path,
            reports=self.root / "reports",
            tests=(str(self.checks_path.parent),),
            options=self.gate_options,
            root=self.root,
        )


@dataclass(frozen=True)
class Acceptance:
    """Acceptance of a checkpoint: `accepted` or not, by which verdict, and whether that is `provisional`.

    It is `uncompared` where the declared incumbent is missing or another file.
    """

    verdict: str
    quick: bool
    provisional: bool
    uncompared: bool = False
    accepted: bool = False

    @property
    def forced(self) -> bool:
        """Return whether only force accepts this verdict."""
        return self.verdict != "pass" or self.quick or self.uncompared


def accept(request: AcceptRequest, *, judge: Callable[[RunRequest], RunResult]) -> Acceptance:
    """Run the gate by `judge`, and write the incumbent and its declaration if the verdict allows it.

    Raises `InputError` for an inconclusive run, and for files that change meanwhile.
    """
    weights, declaration = _outputs(request)
    weights.expect_own()
    declaration.expect_own()
    # Two acceptances at a time would compare with the same incumbent, and read each other's reports.
    with locked(request.run.reports_folder), locked(request.incumbent):
        return _accept_alone(request, judge)


def _accept_alone(request: AcceptRequest, judge: Callable[[RunRequest], RunResult]) -> Acceptance:
    _complete(request)
    declared, compared = request.declared, request.compared
    if (uncompared := declared is not None and declared.found != declared.sha256 and compared is not None) and (
        declared is not None and not request.force
    ):
        raise InputError(f"{declared.refusal(declared.found)}; --force accepts {request.checkpoint} without comparing")
    before = {path: hash_of_file(path) for path in (request.incumbent, compared) if path is not None}
    checks = hash_of_file(request.checks_path)
    result = judge(request.run)
    report = result.report or {"verdict": "error"}
    if report["verdict"] == "error" or result.exit_status not in {0, 1}:
        raise InputError(
            f"{request.checkpoint}: not accepted, the gate could not judge it (exit status {result.exit_status})"
        )
    done = Acceptance(report["verdict"], report["profile"] == "quick", report.get("provisional", False), uncompared)
    if done.forced and not request.force:
        return done
    if done.provisional and not (request.provisional or request.force):
        return done
    _write(request, done, report, before=before, checks=checks)
    return replace(done, accepted=True)


def _write(
    request: AcceptRequest,
    done: Acceptance,
    report: Mapping[str, Any],
    *,
    before: Mapping[Path, str | None],
    checks: str | None,
) -> None:
    """Write the incumbent; raises `InputError` for files that are not those of the run, by their hashes before it."""
    network = request_of(request.gate_options, tests=request.checks_path.parent).network_options
    checkpoint = load_checkpoint(request.checkpoint, builder=network.builder(), choice=network.choice())
    if checkpoint.sha256 != report["candidate"]["sha256"]:
        raise InputError(f"{request.checkpoint}: not accepted, since it changed while the gate ran; run it again")
    if report["checks_sha256"] != checks:
        raise InputError(f"{request.checks_path}: changed while the gate ran; run it again")
    if changed := [path for path, sha256 in before.items() if hash_of_file(path) != sha256]:
        raise InputError(
            f"{request.checkpoint}: not accepted, since {changed[0]} changed while the gate ran, so that the "
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
    # The declaration decides: what lies beside it is either what it declares, or one renaming away from it.
    pending = pending_of(request.incumbent)
    save_checkpoint(pending, checkpoint.model, replace(record, acceptance=acceptance))
    sha256 = hash_of_file(pending)
    assert sha256 is not None
    declaration = declaration_of(request.incumbent, sha256=sha256, date=acceptance["date"])
    _outputs(request)[1].write(declaration)
    pending.replace(request.incumbent)


def _outputs(request: AcceptRequest) -> tuple[Output, Output]:
    """Return what an acceptance writes: the weights of the incumbent, and its declaration."""
    others = {role: path for role, path in request.run.roles.items() if role != INCUMBENT}
    read = inputs_of_run(replace(request.run, roles={**others, INCUMBENT: "none"}))
    return (
        Output(request.incumbent, CHECKPOINT, read),
        Output(declaration_path(request.incumbent), INCUMBENT_DECLARATION, read),
    )


def _complete(request: AcceptRequest) -> None:
    """Complete an acceptance that was interrupted after its declaration; one interrupted before leaves no trace."""
    declared, pending = request.declared, pending_of(request.incumbent)
    if not pending.exists():
        return
    if declared is not None and declared.weights == request.incumbent and hash_of_file(pending) == declared.sha256:
        pending.replace(request.incumbent)
    else:
        pending.unlink()
