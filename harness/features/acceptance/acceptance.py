"""Acceptance of a checkpoint, or of an artifact equal to its original: it passes the gate, and is the incumbent."""

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

    from harness.run.result import RunResult


@dataclass(frozen=True)
class AcceptRequest:
    """A checkpoint to make the `incumbent`, gated by a checks file and the stress tests in its folder.

    `force` accepts the verdicts fail and partial, too, and a pass of the quick profile. `provisional` accepts
    thresholds of one or two reference models. `original` is the model that it was made from; the run must show that
    both are equal. `gate_options` are further options of the run.
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
        """Return the file to write: `incumbent`, with the suffix of an ONNX file for a copy of one."""
        return self.incumbent.with_suffix(".onnx") if self.as_file else self.incumbent

    def refused(self, why: str) -> InputError:
        """Return the error for a checkpoint that cannot become the incumbent, whatever its checks say."""
        return InputError(f"{self.checkpoint}: not accepted, {why}", code=Code.NOT_ACCEPTED)


def accept(request: AcceptRequest, *, judge: Callable[[RunRequest], RunResult]) -> tuple[str, bool]:
    """Run the gate by `judge`, and write the incumbent and its declaration if the verdict allows it.

    The run compares with the declared incumbent, or else the one to replace. It compares with none where none is
    accepted yet and the data have no shipped model. With `force`, it does so also where the declared file is another.
    Return why the checkpoint is not accepted, empty if it is, and whether only force accepts it. Raises `InputError`
    for an inconclusive run, and for files that change meanwhile.
    """
    place = declaration_path(request.incumbent)
    with locked(
        request.incumbent
    ):  # Two acceptances at a time would compare with the same incumbent.
        declared = read_declaration(place)
        for path in (request.incumbent, request.incumbent.with_suffix(".onnx")):
            # An acceptance that was interrupted after its declaration is completed; one before leaves no trace.
            if (pending := pending_of(path)).exists():
                if (
                    declared is not None
                    and declared.weights == path
                    and hash_of_file(pending) == declared.sha256
                ):
                    pending.replace(path)
                else:
                    pending.unlink()
        compared = (
            declared.weights
            if declared
            else request.incumbent
            if request.incumbent.exists()
            else None
        )
        lost = declared is not None and compared is not None and declared.found != declared.sha256
        settings = request_of(request.gate_options, root=Path.cwd())
        replaced = "none" if lost else compared
        if replaced is None:
            default = ROLES[INCUMBENT].default(
                Path("models"), shipped_data=settings.part(DataOptions) == DataOptions()
            )
            replaced = None if default else "none"
        named = {"candidate": request.checkpoint, "original": request.original, INCUMBENT: replaced}
        run = RunRequest(
            roles={role: model for role, model in named.items() if model is not None},
            checks=request.checks_path,
            reports=Path.cwd() / "reports",
            tests=(str(request.checks_path.parent),),
            options=request.gate_options,
            root=Path.cwd(),
        )
        read = inputs_of_run(run.but(roles={**run.roles, INCUMBENT: "none"}))
        declaration = Output(place, INCUMBENT_DECLARATION, read)
        for output in (
            Output(request.written, ONNX if request.as_file else CHECKPOINT, read),
            declaration,
        ):
            output.expect_own()
        if request.as_file:
            _expect_whole(request, settings.model, replaced)
        if declared is not None and lost and not request.force:
            why = declared.refusal(declared.found)
            raise IncumbentError(f"{why}; --force accepts {request.checkpoint} without comparing")
        judged_by = (request.checks_path, request.written, compared, request.original)
        before = state_of(Inputs(tuple(path for path in judged_by if isinstance(path, Path))))
        result = judge(run)
        report = result.report or {"verdict": "error"}
        if report["verdict"] == "error" or result.exit_status not in {0, 1}:
            raise request.refused(f"the gate is inconclusive (exit status {result.exit_status})")
        _expect_agreement(request, report, result.reports)
        if unsound := [
            check for check in report.get("self_checks", ()) if check["status"] == "fail"
        ]:
            raise request.refused(f"self-check {unsound[0]['name']} fails: {unsound[0]['detail']}")
        why, forced = _refusal(request, report, lost=lost)
        if not why:
            _write(request, report, before, declaration, forced=forced)
        return why, forced


def _expect_whole(request: AcceptRequest, built: str | None, replaced: Path | str | None) -> None:
    """Raise `InputError` for an ONNX file without an original, unless all models of the repository are ONNX files.

    Also for one that keeps weights in other files: a copy of it alone would be no model.
    """
    if request.original is None and (
        built or not (replaced == "none" or str(replaced).lower().endswith(".onnx"))
    ):
        other = (
            f"the setting model names {built}"
            if built
            else f"the incumbent {replaced or 'that ships'} is no ONNX file"
        )
        raise request.refused(
            f"{other}. Accept it with the model that it was made from; name that: --original MODEL"
        )
    if (found := load_model(request.checkpoint)).sha256 != hash_of_file(request.checkpoint):
        raise request.refused(
            f"{found.note}, and an incumbent is one file; export it with its weights inside (external_data=False)"
        )


def _expect_agreement(request: AcceptRequest, report: Mapping[str, Any], folder: Path) -> None:
    """Raise `InputError` for a record that is incomplete, or contradicts itself."""
    try:
        outcome_in(report, lambda _: b"", where=str(folder / REPORT))
    except (InputError, LookupError, TypeError) as error:
        raise request.refused(f"its run left no valid record: {error}") from None


def _refusal(request: AcceptRequest, report: Mapping[str, Any], *, lost: bool) -> tuple[str, bool]:
    """Return why a judged checkpoint is not accepted, empty if it is, and whether only force accepts it."""
    verdict, quick = report["verdict"], report.get("profile") == "quick"
    statuses = {
        check.get("status") for check in report["checks"] if check.get("family") == "equivalence"
    }
    unproved = request.original is not None and not (
        "pass" in statuses and statuses.isdisjoint({"fail", "inconclusive", "error"})
    )
    forced, why = verdict != "pass" or quick or lost or unproved, ""
    if stopped := report.get("stopped"):
        return (
            f"the verdict is {verdict}; the run {stopped}. --force needs a run without stop",
            forced,
        )
    if forced and not request.force:
        of_quick = " of the quick profile, which leaves much out" if quick else ""
        why = f"the verdict is {verdict}{of_quick}; --force accepts it all the same"
        if unproved and verdict == "pass":
            adds = "`stress-harness init --families equivalence` adds them"
            why = f"no check shows that it is equal to {request.original}; {adds}"
    elif report.get("provisional") and not (request.provisional or request.force):
        why = (
            "the verdict is provisional: its thresholds rest on one or two reference models; calibrate with three or "
            "more, or say --provisional"
        )
    return why, forced


def _write(
    request: AcceptRequest,
    report: Mapping[str, Any],
    before: Mapping[Path, str],
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
        expect_unchanged(before)
    except ChangedError as error:
        raise ChangedError(f"{request.checkpoint}: not accepted; {error.message}") from None
    original = None if request.original is None else report["original"]
    acceptance: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": report.get("profile"),
        "verdict": report["verdict"],
        "forced": forced,
        **({"provisional": True} if report.get("provisional") else {}),
        "checks_sha256": report["checks_sha256"],
        "data_sha256": report["data"]["sha256"],
        "candidate_sha256": sha256,
        **(
            {"original": original["path"], "original_sha256": original["sha256"]}
            if original
            else {}
        ),
        "checks": [check["id"] for check in report["checks"] if check.get("threshold") is not None],
    }
    # The declaration decides: what lies beside it is either what it declares, or one renaming away from it.
    pending = pending_of(request.written)
    if request.as_file:
        write_atomically(pending, content)
    else:
        record = checkpoint.record or Record(
            checkpoint.architecture, {}, tuple(report["data"]["classes"])
        )
        save_checkpoint(pending, checkpoint.model, replace(record, acceptance=acceptance))
    kept = acceptance if request.as_file or original else None
    sha256 = str(hash_of_file(pending))
    declaration.write(
        declaration_of(request.written, sha256=sha256, date=acceptance["date"], acceptance=kept)
    )
    pending.replace(request.written)
