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
from harness.checks.declaration import Declaration, declaration_of, declaration_path, pending_of, read_declaration
from harness.checks.equivalence import EQUIVALENCE
from harness.checks.roles import INCUMBENT, ROLES
from harness.data.options import DataOptions
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.networks.declared import load_model
from harness.run.inputs import expect_unchanged, inputs_of_run, state_of
from harness.run.request import OWN, RunRequest, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.run.execute import RunResult


class NotAcceptedError(InputError):
    """A checkpoint that cannot become the incumbent, whatever its checks say."""

    code = Code.NOT_ACCEPTED


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
    root: Path = Path()

    @property
    def as_file(self) -> bool:
        """Return whether the incumbent is a copy of the file, which has no record to write into."""
        return self.checkpoint.suffix.lower() == ".onnx"

    @property
    def written(self) -> Path:
        """Return the file to write: `incumbent`, with the suffix of an ONNX file for a copy of one."""
        return self.incumbent.with_suffix(".onnx") if self.as_file else self.incumbent

    @property
    def options(self) -> RunRequest:
        """Return the settings of the run."""
        return request_of(self.gate_options, root=self.root)


@dataclass(frozen=True)
class Acceptance:
    """A checkpoint is `accepted`, or not for a `reason`; `forced` says that only force accepts its verdict."""

    accepted: bool
    forced: bool
    reason: str = ""


def accept(request: AcceptRequest, *, judge: Callable[[RunRequest], RunResult]) -> Acceptance:
    """Run the gate by `judge`, and write the incumbent and its declaration if the verdict allows it.

    Raises `InputError` for an inconclusive run, and for files that change meanwhile.
    """
    run, _ = _run(request, read_declaration(declaration_path(request.incumbent)))
    read = inputs_of_run(run.but(roles={**run.roles, INCUMBENT: "none"}))
    declaration = Output(declaration_path(request.incumbent), INCUMBENT_DECLARATION, read)
    for output in (Output(request.written, ONNX if request.as_file else CHECKPOINT, read), declaration):
        output.expect_own()
    if request.as_file:
        _expect_whole(request, run.roles.get(INCUMBENT))
    # Two acceptances at a time would compare with the same incumbent; the reports are kept apart by `judge`.
    with locked(request.incumbent):
        return _accept_alone(request, judge, declaration)


def _run(request: AcceptRequest, declared: Declaration | None) -> tuple[RunRequest, Path | None]:
    """Return the run that decides, and the model that it compares with: the declared one, else the one to replace.

    It compares with no incumbent where none is accepted yet and the data have no shipped model. With `force`, it does
    so also where the declared file is missing or another.
    """
    compared = declared.weights if declared is not None else request.incumbent if request.incumbent.exists() else None
    roles: dict[str, Path | str] = {"candidate": request.checkpoint}
    roles |= {} if request.original is None else {"original": request.original}
    if compared is None:
        own = request.options.part(DataOptions) == DataOptions()
        roles |= {} if ROLES[INCUMBENT].default(request.root / "models", shipped_data=own) else {INCUMBENT: "none"}
    else:
        roles[INCUMBENT] = "none" if declared is not None and declared.found != declared.sha256 else compared
    run = RunRequest(
        roles=roles,
        checks=request.checks_path,
        reports=request.root / "reports",
        tests=(str(request.checks_path.parent),),
        options=request.gate_options,
        root=request.root,
    )
    return run, compared


def _expect_whole(request: AcceptRequest, replaced: Path | str | None) -> None:
    """Raise `InputError` for an ONNX file without an original, unless all models of the repository are ONNX files.

    Also for one that keeps weights in other files: a copy of it alone would be no model.
    """
    built = request.options.model
    if request.original is None and (
        built is not None or not (replaced == "none" or str(replaced).lower().endswith(".onnx"))
    ):
        other = f"the incumbent {replaced or 'that ships'} is no ONNX file"
        raise NotAcceptedError(
            f"{request.checkpoint}: not accepted, {f'the setting model names {built}' if built else other}. Accept it "
            "with the model that it was made from; name that: --original MODEL"
        )
    if (found := load_model(request.checkpoint)).sha256 != hash_of_file(request.checkpoint):
        raise NotAcceptedError(
            f"{request.checkpoint}: not accepted, {found.note}, and an incumbent is one file; export it with its "
            "weights inside (external_data=False)"
        )


def _accept_alone(request: AcceptRequest, judge: Callable[[RunRequest], RunResult], declaration: Output) -> Acceptance:
    declared = read_declaration(declaration.path)
    for place in (request.incumbent, request.incumbent.with_suffix(".onnx")):
        # An acceptance that was interrupted after its declaration is completed; one before leaves no trace.
        if (pending := pending_of(place)).exists():
            if declared is not None and declared.weights == place and hash_of_file(pending) == declared.sha256:
                pending.replace(place)
            else:
                pending.unlink()
    run, compared = _run(request, declared)
    uncompared = declared is not None and compared is not None and declared.found != declared.sha256
    if declared is not None and uncompared and not request.force:
        raise IncumbentError(
            f"{declared.refusal(declared.found)}; --force accepts {request.checkpoint} without comparing"
        )
    judged_by = (request.checks_path, request.written, compared, request.original)
    before = state_of(Inputs(tuple(path for path in judged_by if isinstance(path, Path))))
    result = judge(run)
    report = result.report or {"verdict": "error"}
    verdict, profile = report["verdict"], report.get("profile")
    if verdict == "error" or result.exit_status not in {0, 1}:
        raise NotAcceptedError(
            f"{request.checkpoint}: not accepted, the gate is inconclusive (exit status {result.exit_status})"
        )
    statuses = {check.get("status") for check in report["checks"] if check.get("family") == EQUIVALENCE}
    unproved = request.original is not None and not (
        "pass" in statuses and statuses.isdisjoint({"fail", "inconclusive", "error"})
    )
    forced = verdict != "pass" or profile == "quick" or uncompared or unproved
    if forced and not request.force:
        quick = " of the quick profile, which leaves much out" if profile == "quick" else ""
        said = f"the verdict is {verdict}{quick}; --force accepts it all the same"
        if unproved and verdict == "pass":
            adds = "`stress-harness init --families equivalence` adds them"
            said = f"no check shows that it is equal to {request.original}; {adds}"
        return Acceptance(accepted=False, forced=True, reason=said)
    if report.get("provisional") and not (request.provisional or request.force):
        said = (
            "the verdict is provisional: its thresholds rest on one or two reference models; calibrate with three or "
            "more, or say --provisional"
        )
        return Acceptance(accepted=False, forced=False, reason=said)
    sha256, write = _writer(request, report)
    if sha256 != report["candidate"]["sha256"]:
        raise ChangedError(f"{request.checkpoint}: not accepted, since it changed while the gate ran; run it again")
    try:
        expect_unchanged(before)
    except ChangedError as error:
        raise ChangedError(f"{request.checkpoint}: not accepted; {error.message}") from None
    original = {} if request.original is None else report["original"]
    acceptance: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": profile,
        "verdict": verdict,
        "forced": forced,
        **({"provisional": True} if report.get("provisional") else {}),
        "checks_sha256": report["checks_sha256"],
        "data_sha256": report["data"]["sha256"],
        "candidate_sha256": sha256,
        **({"original": original["path"], "original_sha256": original["sha256"]} if original else {}),
        "checks": [check["id"] for check in report["checks"] if check.get("threshold") is not None],
    }
    # The declaration decides: what lies beside it is either what it declares, or one renaming away from it.
    write(pending := pending_of(request.written), acceptance)
    declaration.write(
        declaration_of(
            request.written,
            sha256=str(hash_of_file(pending)),
            date=acceptance["date"],
            acceptance=acceptance if request.as_file or original else None,
        )
    )
    pending.replace(request.written)
    return Acceptance(accepted=True, forced=forced)


def _writer(request: AcceptRequest, report: Mapping[str, Any]) -> tuple[str, Callable[[Path, dict[str, Any]], None]]:
    """Return the SHA-256 of the checkpoint, and what writes it with the record of its acceptance; a file is copied."""
    if request.as_file:
        content = request.checkpoint.read_bytes()
        return hashlib.sha256(content).hexdigest(), lambda path, _: write_atomically(path, content)
    network = request.options
    checkpoint = load_checkpoint(request.checkpoint, builder=network.builder(), choice=network)
    record = checkpoint.record or Record(checkpoint.architecture, {}, tuple(report["data"]["classes"]))
    return checkpoint.sha256, lambda path, acceptance: save_checkpoint(
        path, checkpoint.model, replace(record, acceptance=acceptance)
    )
