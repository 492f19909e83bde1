"""Acceptance: a checkpoint, or an artifact that equals its original, becomes the incumbent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.codes import Code
from harness.base.errors import ChangedError, IncumbentError, InputError
from harness.base.files import hash_of_file, locked, write_atomically
from harness.base.outputs import CHECKPOINT, INCUMBENT_DECLARATION, ONNX, Inputs, Output
from harness.checks.declaration import (
    declaration_of,
    declaration_path,
    pending_of,
    read_declaration,
)
from harness.checks.roles import INCUMBENT, ROLES
from harness.data.options import DataOptions
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.networks.declared import load_model
from harness.report.redraw import outcome_in
from harness.run.inputs import expect_unchanged, inputs_of_run, state_of
from harness.run.request import OWN, RunRequest, request_of
from harness.run.status import REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.checks.declaration import Declaration
    from harness.run.result import RunResult


@dataclass(frozen=True)
class AcceptRequest:
    """A checkpoint that is to become the incumbent.

    Attributes:
        checkpoint: The file of the candidate.
        checks_path: The checks file that judges it, with the stress tests in the same folder.
        incumbent: The file to write.
        force: Whether the verdicts fail and partial, and a pass of the quick profile, are accepted.
        provisional: Whether thresholds of one or two reference models are accepted.
        original: The model that the candidate was made from. The run must show that both are equal.
        gate_options: Further options of the run.
    """

    checkpoint: Path
    checks_path: Path = OWN
    incumbent: Path = Path("models/incumbent.safetensors")
    force: bool = False
    provisional: bool = False
    original: Path | str | None = None
    gate_options: tuple[str, ...] = ()

    @property
    def as_file(self) -> bool:
        """Return whether the incumbent is a copy of the file, which has no record to write into."""
        return self.checkpoint.suffix.lower() == ".onnx"

    @property
    def written(self) -> Path:
        """Return the file to write: `incumbent`, with the suffix .onnx for an ONNX file."""
        return self.incumbent.with_suffix(".onnx") if self.as_file else self.incumbent

    def refused(self, why: str) -> InputError:
        """Return the error for a checkpoint that cannot become the incumbent."""
        return InputError(f"{self.checkpoint}: not accepted, {why}", code=Code.NOT_ACCEPTED)


@dataclass(frozen=True)
class _Replaced:
    """The model that the candidate is to replace.

    Attributes:
        path: Its file, None if no model is accepted yet.
        role: The incumbent of the run: the file, "none", or None for the shipped model.
        declared: Its declaration; None if no file declares one.
    """

    path: Path | None
    role: Path | str | None
    declared: Declaration | None

    @property
    def lost(self) -> bool:
        """Return whether the declared file is missing or is another file by now."""
        declared = self.declared
        if declared is None or self.path is None:
            return False
        return declared.found != declared.sha256


def accept(request: AcceptRequest, *, judge: Callable[[RunRequest], RunResult]) -> tuple[str, bool]:
    """Run the gate and, if the verdict allows it, write the incumbent and its declaration.

    The run compares the candidate with the declared incumbent, or else with the file to replace.
    It compares with no model if none is accepted yet and the data have no shipped model, or if the
    declared file is lost and `request.force` is set.

    Args:
        request: The checkpoint and what may be accepted.
        judge: Runs the gate.

    Returns:
        Why the checkpoint is not accepted (empty if it is), and whether only force accepts it.

    Raises:
        InputError: If the run is inconclusive, or a file changes meanwhile.
    """
    place = declaration_path(request.incumbent)

    # Two acceptances at a time would compare with the same incumbent.
    with locked(request.incumbent):
        declared = read_declaration(place)
        _settle_interrupted(request.incumbent, declared)

        settings = request_of(request.gate_options, root=Path.cwd())
        replaced = _replaced(request, declared, settings)
        run = _run_request(request, replaced)

        read = inputs_of_run(run.but(roles={**run.roles, INCUMBENT: "none"}))
        weights = Output(request.written, ONNX if request.as_file else CHECKPOINT, read)
        declaration = Output(place, INCUMBENT_DECLARATION, read)
        weights.expect_own()
        declaration.expect_own()

        if request.as_file:
            _expect_whole(request, settings.model, replaced.role)
        if declared is not None and replaced.lost and not request.force:
            reason = declared.refusal(declared.found)
            raise IncumbentError(
                f"{reason}; --force accepts {request.checkpoint} without comparing"
            )

        judged_by = (request.checks_path, request.written, replaced.path, request.original)
        files = tuple(path for path in judged_by if isinstance(path, Path))
        state_before = state_of(Inputs(files))

        result = judge(run)
        report = _conclusive_report(request, result)
        why, forced = _refusal(request, report, lost=replaced.lost)
        if not why:
            _write(request, report, state_before, declaration, forced=forced)
        return why, forced


def _settle_interrupted(incumbent: Path, declared: Declaration | None) -> None:
    """Complete an acceptance that was interrupted after its declaration; undo an earlier one."""
    for weights in (incumbent, incumbent.with_suffix(".onnx")):
        pending = pending_of(weights)
        if not pending.exists():
            continue

        is_declared = (
            declared is not None
            and declared.weights == weights
            and hash_of_file(pending) == declared.sha256
        )
        if is_declared:
            pending.replace(weights)
        else:
            pending.unlink()


def _replaced(
    request: AcceptRequest, declared: Declaration | None, settings: RunRequest
) -> _Replaced:
    """Return the model that the candidate is to replace."""
    path = request.incumbent if request.incumbent.exists() else None
    if declared is not None:
        path = declared.weights

    incumbent = _Replaced(path, path, declared)
    if incumbent.lost:
        return replace(incumbent, role="none")
    if path is not None:
        return incumbent

    shipped_data = settings.part(DataOptions) == DataOptions()
    shipped_model = ROLES[INCUMBENT].default(Path("models"), shipped_data=shipped_data)
    return replace(incumbent, role=None if shipped_model else "none")


def _run_request(request: AcceptRequest, replaced: _Replaced) -> RunRequest:
    """Return the run that judges the checkpoint."""
    models = {
        "candidate": request.checkpoint,
        "original": request.original,
        INCUMBENT: replaced.role,
    }
    return RunRequest(
        roles={role: model for role, model in models.items() if model is not None},
        checks=request.checks_path,
        reports=Path.cwd() / "reports",
        tests=(str(request.checks_path.parent),),
        options=request.gate_options,
        root=Path.cwd(),
    )


def _conclusive_report(request: AcceptRequest, result: RunResult) -> Mapping[str, Any]:
    """Return the report of a run, or raise `InputError` if the run cannot decide."""
    report = result.report or {"verdict": "error"}
    if report["verdict"] == "error" or result.exit_status not in {0, 1}:
        raise request.refused(f"the gate is inconclusive (exit status {result.exit_status})")

    try:
        outcome_in(report, lambda _: b"", where=str(result.reports / REPORT))
    except (InputError, LookupError, TypeError) as error:
        raise request.refused(f"its run left no valid record: {error}") from None

    for check in report.get("self_checks", ()):
        if check["status"] == "fail":
            raise request.refused(f"self-check {check['name']} fails: {check['detail']}")
    return report


def _expect_whole(request: AcceptRequest, builder: str | None, replaced: Path | str | None) -> None:
    """Raise `InputError` for an ONNX file that cannot be an incumbent of its own.

    It needs an original, unless all models of the repository are ONNX files. And its weights must
    be inside: a copy of a file that keeps them elsewhere would be no model.
    """
    replaces_onnx = replaced == "none" or str(replaced).lower().endswith(".onnx")
    if request.original is None and (builder or not replaces_onnx):
        other = f"the incumbent {replaced or 'that ships'} is no ONNX file"
        if builder:
            other = f"the setting model names {builder}"
        raise request.refused(
            f"{other}. Accept it with the model that it was made from; name that: --original MODEL"
        )

    model = load_model(request.checkpoint)
    if model.sha256 != hash_of_file(request.checkpoint):
        raise request.refused(
            f"{model.note}, and an incumbent is one file; export it with its weights inside "
            "(external_data=False)"
        )


def _refusal(request: AcceptRequest, report: Mapping[str, Any], *, lost: bool) -> tuple[str, bool]:
    """Return why a judged checkpoint is not accepted, and whether only force accepts it."""
    verdict = report["verdict"]
    quick = report.get("profile") == "quick"
    unproved = request.original is not None and not _is_equal_to_original(report)
    forced = verdict != "pass" or quick or lost or unproved

    stopped = report.get("stopped")
    if stopped:
        why = f"the verdict is {verdict}; the run {stopped}. --force needs a run without stop"
        return why, forced

    if forced and not request.force:
        if unproved and verdict == "pass":
            return (
                f"no check shows that it is equal to {request.original}; "
                "`stress-harness init --families equivalence` adds them"
            ), forced
        of_quick = " of the quick profile, which leaves much out" if quick else ""
        return f"the verdict is {verdict}{of_quick}; --force accepts it all the same", forced

    if report.get("provisional") and not (request.provisional or request.force):
        return (
            "the verdict is provisional: its thresholds rest on one or two reference models; "
            "calibrate with three or more, or say --provisional"
        ), forced
    return "", forced


def _is_equal_to_original(report: Mapping[str, Any]) -> bool:
    """Return whether a check shows that the candidate equals its original, and none objects."""
    statuses = {
        check.get("status") for check in report["checks"] if check.get("family") == "equivalence"
    }
    return "pass" in statuses and statuses.isdisjoint({"fail", "inconclusive", "error"})


def _write(
    request: AcceptRequest,
    report: Mapping[str, Any],
    state_before: Mapping[Path, str],
    declaration: Output,
    *,
    forced: bool,
) -> None:
    """Write the incumbent, with the record of its acceptance, and its declaration."""
    if request.as_file:
        content = request.checkpoint.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
    else:
        network = request_of(request.gate_options, root=Path.cwd())
        checkpoint = load_checkpoint(request.checkpoint, builder=network.builder(), choice=network)
        sha256 = checkpoint.sha256

    if sha256 != report["candidate"]["sha256"]:
        raise ChangedError(
            f"{request.checkpoint}: not accepted, since it changed while the gate ran; run it again"
        )
    try:
        expect_unchanged(state_before)
    except ChangedError as error:
        raise ChangedError(f"{request.checkpoint}: not accepted; {error.message}") from None

    acceptance = _record_of_acceptance(request, report, sha256, forced=forced)

    # The declaration decides: the file beside it is either the declared one or one rename away.
    pending = pending_of(request.written)
    if request.as_file:
        write_atomically(pending, content)
    else:
        classes = tuple(report["data"]["classes"])
        record = checkpoint.record or Record(checkpoint.architecture, {}, classes)
        save_checkpoint(pending, checkpoint.model, replace(record, acceptance=acceptance))

    # A checkpoint keeps its own record; an ONNX file has none to write into.
    in_declaration = request.as_file or request.original is not None
    declared = declaration_of(
        request.written,
        sha256=str(hash_of_file(pending)),
        date=acceptance["date"],
        acceptance=acceptance if in_declaration else None,
    )
    declaration.write(declared)
    pending.replace(request.written)


def _record_of_acceptance(
    request: AcceptRequest, report: Mapping[str, Any], sha256: str, *, forced: bool
) -> dict[str, Any]:
    """Return the record of an acceptance: the run, its checks and its data."""
    acceptance: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": report.get("profile"),
        "verdict": report["verdict"],
        "forced": forced,
    }
    if report.get("provisional"):
        acceptance["provisional"] = True

    acceptance["checks_sha256"] = report["checks_sha256"]
    acceptance["data_sha256"] = report["data"]["sha256"]
    acceptance["candidate_sha256"] = sha256
    if request.original is not None and report["original"]:
        original = report["original"]
        acceptance["original"] = original["path"]
        acceptance["original_sha256"] = original["sha256"]

    acceptance["checks"] = [
        check["id"] for check in report["checks"] if check.get("threshold") is not None
    ]
    return acceptance
