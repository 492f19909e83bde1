"""Acceptance of a checkpoint, or of an artifact equal to its original: it passes the gate, and is the incumbent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.codes import Code
from harness.base.errors import ChangedError, IncumbentError, InputError
from harness.base.files import hash_of_file, locked, write_atomically
from harness.base.outputs import CHECKPOINT, INCUMBENT_DECLARATION, ONNX, Output
from harness.checks.declaration import (
    Declaration,
    declaration_of,
    declaration_path,
    pending_of,
    read_declaration,
)
from harness.checks.equivalence import EQUIVALENCE
from harness.checks.roles import INCUMBENT, ROLES
from harness.checks.tables import hash_of_checks
from harness.data.options import DataOptions
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.networks.declared import load_model
from harness.run.inputs import inputs_of_run
from harness.run.request import OWN, RunRequest, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from harness.run.execute import RunResult

    _Write = Callable[[Path, dict[str, Any]], None]


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

        It compares with no incumbent where none is accepted yet and the data have no shipped model. With `force`, it
        does so also where the declared file is missing or another.
        """
        roles: dict[str, Path | str] = {"candidate": self.checkpoint}
        roles |= {} if self.original is None else {"original": self.original}
        compared, declared = self.compared, self.declared
        if compared is None:
            asked = request_of(self.gate_options, root=self.root)
            shipped = ROLES[INCUMBENT].default(
                self.root / "models", shipped_data=asked.part(DataOptions) == DataOptions()
            )
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
    """Acceptance of a checkpoint: `accepted` or not, the verdict, and whether that is `provisional`.

    It is `uncompared` where the declared incumbent is missing or another file, and `unproved` where no check shows that
    it is equal to its original.
    """

    verdict: str
    quick: bool
    provisional: bool
    uncompared: bool = False
    unproved: bool = False
    accepted: bool = False

    @property
    def forced(self) -> bool:
        """Return whether only force accepts this verdict."""
        return self.verdict != "pass" or self.quick or self.uncompared or self.unproved


def accept(request: AcceptRequest, *, judge: Callable[[RunRequest], RunResult]) -> Acceptance:
    """Run the gate by `judge`, and write the incumbent and its declaration if the verdict allows it.

    Raises `InputError` for an inconclusive run, and for files that change meanwhile.
    """
    weights, declaration = _outputs(request)
    weights.expect_own()
    declaration.expect_own()
    _expect_original(request)
    _expect_one_file(request)
    # Two acceptances at a time would compare with the same incumbent; the reports are kept apart by `judge`.
    with locked(request.incumbent):
        return _accept_alone(request, judge)


def _accept_alone(request: AcceptRequest, judge: Callable[[RunRequest], RunResult]) -> Acceptance:
    _complete(request)
    declared, compared = request.declared, request.compared
    if (uncompared := declared is not None and declared.found != declared.sha256 and compared is not None) and (
        declared is not None and not request.force
    ):
        raise IncumbentError(
            f"{declared.refusal(declared.found)}; --force accepts {request.checkpoint} without comparing"
        )
    models = (request.written, compared, request.original)
    before = {path: hash_of_file(path) for path in models if isinstance(path, Path)}
    checks = hash_of_checks(request.checks_path)
    result = judge(request.run)
    report = result.report or {"verdict": "error"}
    if report["verdict"] == "error" or result.exit_status not in {0, 1}:
        raise NotAcceptedError(
            f"{request.checkpoint}: not accepted, the gate is inconclusive (exit status {result.exit_status})"
        )
    done = Acceptance(
        report["verdict"],
        report["profile"] == "quick",
        report.get("provisional", False),
        uncompared,
        unproved=request.original is not None and not _equality_shown(report),
    )
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
    pending = pending_of(request.written)
    sha256, write = (_copy_of if request.as_file else _checkpoint_of)(request, report)
    if sha256 != report["candidate"]["sha256"]:
        raise ChangedError(f"{request.checkpoint}: not accepted, since it changed while the gate ran; run it again")
    if report["checks_sha256"] != checks:
        raise ChangedError(f"{request.checks_path}: changed while the gate ran; run it again")
    if changed := [path for path, sha256 in before.items() if hash_of_file(path) != sha256]:
        raise ChangedError(
            f"{request.checkpoint}: not accepted, since {changed[0]} changed while the gate ran and was compared with "
            "the checkpoint; run it again"
        )
    acceptance: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": report["profile"],
        "verdict": done.verdict,
        "forced": done.forced,
        **({"provisional": True} if done.provisional else {}),
        "checks_sha256": report["checks_sha256"],
        "data_sha256": report["data"]["sha256"],
        "candidate_sha256": sha256,
        **({} if request.original is None else _original_of(report)),
        "checks": [check["id"] for check in report["checks"] if check.get("threshold") is not None],
    }
    # The declaration decides: what lies beside it is either what it declares, or one renaming away from it.
    write(pending, acceptance)
    written = hash_of_file(pending)
    assert written is not None
    declaration = declaration_of(
        request.written,
        sha256=written,
        date=acceptance["date"],
        acceptance=acceptance if request.as_file or request.original is not None else None,
    )
    _outputs(request)[1].write(declaration)
    pending.replace(request.written)


def _checkpoint_of(request: AcceptRequest, report: Mapping[str, Any]) -> tuple[str, _Write]:
    """Return the SHA-256 of the checkpoint, and what writes it with the record of its acceptance."""
    network = request_of(request.gate_options, root=request.root)
    checkpoint = load_checkpoint(request.checkpoint, builder=network.builder(), choice=network.choice())
    record = checkpoint.record or Record(checkpoint.architecture, {}, tuple(report["data"]["classes"]))

    def write(path: Path, acceptance: dict[str, Any]) -> None:
        save_checkpoint(path, checkpoint.model, replace(record, acceptance=acceptance))

    return checkpoint.sha256, write


def _copy_of(request: AcceptRequest, _: Mapping[str, Any]) -> tuple[str, _Write]:
    """Return the SHA-256 of the file, and what writes a copy of it; its acceptance is for the declaration alone."""
    content = request.checkpoint.read_bytes()
    return hashlib.sha256(content).hexdigest(), lambda path, _: write_atomically(path, content)


def _expect_original(request: AcceptRequest) -> None:
    """Raise `InputError` for an ONNX file without an original, unless all models of the repository are ONNX files."""
    if not request.as_file or request.original is not None:
        return
    replaced = request.run.roles.get(INCUMBENT)
    built = request_of(request.gate_options, root=request.root).model
    if built is None and (replaced == "none" or str(replaced).lower().endswith(".onnx")):
        return
    other = f"the setting model names {built}" if built else f"the incumbent {replaced or 'that ships'} is no ONNX file"
    raise NotAcceptedError(
        f"{request.checkpoint}: not accepted, {other}. Accept it with the model that it was made from; name that: "
        "--original MODEL"
    )


def _expect_one_file(request: AcceptRequest) -> None:
    """Raise `InputError` for an ONNX file that keeps weights in other files: a copy of it alone would be no model."""
    if request.as_file and (found := load_model(request.checkpoint)).sha256 != hash_of_file(request.checkpoint):
        raise NotAcceptedError(
            f"{request.checkpoint}: not accepted, {found.note}, and an incumbent is one file; export it with its "
            "weights inside (external_data=False)"
        )


def _equality_shown(report: Mapping[str, Any]) -> bool:
    """Return whether a check of the family `equivalence` passed, and none did otherwise."""
    statuses = [check.get("status") for check in report["checks"] if check.get("family") == EQUIVALENCE]
    return "pass" in statuses and not {"fail", "inconclusive", "error"} & {*statuses}


def _original_of(report: Mapping[str, Any]) -> dict[str, str]:
    return {"original": report["original"]["path"], "original_sha256": report["original"]["sha256"]}


def _outputs(request: AcceptRequest) -> tuple[Output, Output]:
    """Return what an acceptance writes: the weights of the incumbent, and its declaration."""
    others = {role: path for role, path in request.run.roles.items() if role != INCUMBENT}
    read = inputs_of_run(request.run.but(roles={**others, INCUMBENT: "none"}))
    return (
        Output(request.written, ONNX if request.as_file else CHECKPOINT, read),
        Output(declaration_path(request.incumbent), INCUMBENT_DECLARATION, read),
    )


def _complete(request: AcceptRequest) -> None:
    """Complete an acceptance that was interrupted after its declaration; one interrupted before leaves no trace."""
    declared = request.declared
    for place in (request.incumbent, request.incumbent.with_suffix(".onnx")):
        if not (pending := pending_of(place)).exists():
            continue
        if declared is not None and declared.weights == place and hash_of_file(pending) == declared.sha256:
            pending.replace(place)
        else:
            pending.unlink()
