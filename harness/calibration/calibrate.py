"""Calibration of a checks file: train or take a reference panel, measure it, and write thresholds from it."""

from __future__ import annotations

import fnmatch
import os
import sys
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base import locked
from harness.base.errors import CalibrationError, ChangedError, InputError
from harness.base.files import hash_of_file
from harness.base.outputs import CHECKS, PANEL, PANEL_PREDICTIONS, Output, write_together
from harness.calibration.conversions import expect_conversion, measured_conversions, with_earlier_conversions
from harness.calibration.measure import expect_no_copies, measure_panel
from harness.calibration.outliers import check_panel
from harness.calibration.panel import panel_at_hand, read_panel
from harness.calibration.panel_predictions import share, with_predictions
from harness.calibration.recording import Recording
from harness.calibration.retrain import train_reference_models
from harness.calibration.rewrite import ends, with_thresholds
from harness.calibration.samples import choose_samples
from harness.calibration.thresholds import PROVISIONAL, thresholds_of
from harness.checks import read_checks
from harness.checks.check import UNTIL_CALIBRATED
from harness.checks.equivalence import EQUIVALENCE
from harness.checks.gate_table import hash_of_checks
from harness.checks.slices import SLICE
from harness.measures.serving import OF_SERVING
from harness.networks.options import BackendOptions, NetworkOptions
from harness.run.budget import seconds_in
from harness.run.inputs import inputs_of_run
from harness.run.request import model_spec, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.calibration.panel import Panel
    from harness.checks import ChecksFile, Threshold
    from harness.inference.cluster.tasks import Tasks
    from harness.measures.panel.predictions import PanelPredictions
    from harness.measures.panel.threshold import Calibrated
    from harness.run.budget import Plan


@dataclass(frozen=True)
class CalibrationRequest:
    """A calibration of `checks_path`; without `checkpoints`, it trains `reference_models` networks.

    `families` and `check_ids`, which may be patterns, select a part of the existing panel to measure again. `convert`
    is a command that converts each model of that panel, for thresholds of the family `equivalence`. `budget` is a time
    limit that determines samples, or `none` for all images. `gate_options` go to each run of the stress tests.
    """

    checks_path: Path
    checkpoints: tuple[Path | str, ...] = ()
    reference_models: int = 20
    jobs: int | None = None
    device: str = "auto"
    panel: Path | None = None
    families: tuple[str, ...] = ()
    check_ids: tuple[str, ...] = ()
    budget: str | None = None
    convert: str | None = None
    network: NetworkOptions = field(default_factory=NetworkOptions)
    backend: BackendOptions = field(default_factory=BackendOptions)
    gate_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `InputError` for an invalid budget, and for options that contradict `families` or `convert`."""
        if self.convert is not None:
            expect_conversion(self.convert)
            if self.families or self.check_ids or self.checkpoints or self.budget is not None:
                raise InputError(
                    "--convert: converts the models of the panel, for the family equivalence only; remove "
                    "--checkpoints, --family, --check and --budget"
                )
        if self.budget not in {None, "none"}:
            seconds_in(str(self.budget))
        if self.budget is not None and (self.families or self.check_ids):
            raise InputError("--budget: determines the samples of all families together; remove --family and --check")

    def panel_path(self, checks: ChecksFile) -> Path:
        """Return the file of the panel: the named one, or else that of the checks file's recipe."""
        return self.panel or Path(str(checks.recipe.get("panel", "models/panel.json")))

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options of each run of the stress tests."""
        return self.gate_options

    def tasks(self) -> Tasks | None:
        """Return the cluster that measures networks; None for this machine."""
        if not self.backend.on_ray:
            return None
        from harness.inference.cluster.tasks import Tasks

        return Tasks(self.backend)


@dataclass(frozen=True)
class MeasuredPanel:
    """A reference panel, its predictions if a stress test needs them, and the checks file of the measurement.

    `earlier` are the former predictions in the panel's file, None if it could not be read.
    """

    panel: Panel
    predictions: PanelPredictions | None
    earlier: PanelPredictions | None
    checks: ChecksFile


@dataclass(frozen=True)
class Calibration:
    """A finished calibration: the written thresholds, the panel, and the files of panel and predictions, if any.

    `checks` is the former checks file. `by_hand` has the thresholds that win over the panel's, by check, and `ended`
    those that it has replaced. `without` names checks that have lost their threshold. `notes` are lines on other checks
    files.
    """

    panel: Panel
    calibrated: list[Calibrated]
    checks: ChecksFile
    panel_path: Path
    predictions_path: Path | None
    without: tuple[str, ...]
    notes: tuple[str, ...]
    by_hand: Mapping[str, float]
    ended: Mapping[str, float]


def calibrate(request: CalibrationRequest, *, on_fit: Callable[[Plan], None] | None = None) -> Calibration:
    """Measure the panel, and write its thresholds, measurements and predictions.

    `on_fit` is called with the samples that fit `budget`. Raises `InputError`, and writes no threshold, for a panel
    that cannot be measured and for files that change during the calibration.
    """
    checks = read_checks(request.checks_path)
    paths = (request.panel_path(checks), _predictions_path(request, checks))
    outputs = _outputs(request, *paths)
    for output in outputs:
        output.expect_own()
    before = {path: hash_of_file(path) for path in paths}
    measured = measured_panel(request, expect_own=request.panel is None, on_fit=on_fit)
    check_panel(measured.panel)
    calibrated = thresholds_of(
        measured.panel, measured.checks.budgets, by_hand=by_hand(measured.checks, measured.panel)
    )
    _write(measured, calibrated, before, outputs)
    has_value = {item.check.id for item in calibrated}
    hands = {name: hand for name, hand in _hands(measured.checks, measured.panel).items() if name in has_value}
    ended = {item.check.id for item in calibrated if (hand := hands.get(item.check.id)) and ends(item, hand.reason)}
    new, old = measured.predictions, measured.earlier
    return Calibration(
        measured.panel,
        calibrated,
        measured.checks,
        paths[0],
        paths[1] if new else None,
        tuple(check.id for check in measured.checks.checks if check.panel and check.id not in has_value),
        tuple(share(request.checks_path, new, old)) if new and old else (),
        {name: hand.threshold for name, hand in hands.items() if name not in ended},
        {name: hand.threshold for name, hand in hands.items() if name in ended},
    )


def thresholds_at_hand(request: CalibrationRequest) -> tuple[Panel, list[Calibrated]]:
    """Return the panel in the file and its thresholds, without a measurement and without writing."""
    checks = read_checks(request.checks_path)
    panel = read_panel(request.panel_path(checks), checks)
    check_panel(panel)
    return panel, thresholds_of(panel, checks.budgets, by_hand=by_hand(checks, panel))


def panel_to_plan(
    request: CalibrationRequest, *, on_fit: Callable[[Plan], None] | None = None
) -> tuple[Panel, Mapping[str, float]]:
    """Return a panel and the budgets of its checks: measured now if checkpoints are named, else that of the file."""
    checks = read_checks(request.checks_path)
    if request.checkpoints:
        return measured_panel(request, on_fit=on_fit).panel, checks.budgets
    return read_panel(request.panel_path(checks), checks), checks.budgets


def by_hand(checks: ChecksFile, panel: Panel) -> frozenset[str]:
    """Return the ids of the checks with a threshold by hand, or with a tolerance that no measured threshold replaces.

    Conversions replace a tolerance, and reference models replace one on serving skew. A threshold "until calibrated"
    does not count if the panel has enough models to replace it.
    """
    ended = UNTIL_CALIBRATED if len(panel.models) >= PROVISIONAL else None
    return frozenset(name for name, hand in _hands(checks, panel).items() if hand.reason != ended)


def _hands(checks: ChecksFile, panel: Panel) -> dict[str, Threshold]:
    converted = {row.id for row in panel.checks if row.conversions}
    replaced = {check.id for check in checks.checks if check.id in converted or check.metric in OF_SERVING}
    found = {check.id: check.hand if check.id in replaced else check.by_hand for check in checks.checks}
    return {name: hand for name, hand in found.items() if hand is not None}


def measured_panel(
    request: CalibrationRequest, *, expect_own: bool = False, on_fit: Callable[[Plan], None] | None = None
) -> MeasuredPanel:
    """Train or take the reference models, and measure them; see `calibrate`.

    With `expect_own`, raises `InputError` if the panel's file has a panel of another sample of the same data.
    """
    from harness.base.progress import Progress

    checks = read_checks(request.checks_path)
    path, predictions_path = request.panel_path(checks), _predictions_path(request, checks)
    if request.convert is not None:
        return _measured_conversions(request, request.convert, checks, path)
    asked = _ids_asked_for(request, checks)
    known = panel_at_hand(path, checks, partly=bool(request.families or asked), expect_own=expect_own)
    checkpoints: list[Path | str] = list(request.checkpoints)
    if known and not checkpoints:
        checkpoints = [model_spec(model.path) for model in known.models]
    elif not checkpoints:
        checkpoints += train_reference_models(
            checks,
            path.with_suffix(""),
            reference_models=request.reference_models,
            jobs=request.jobs,
            device=request.device,
        )
    if request.budget is not None:
        checks = choose_samples(request.budget, checks, checkpoints[0], options=request.options, on_fit=on_fit)
    recording = Recording(
        checks.path.parent,
        checks,
        tuple(sorted({*request.families, *asked})),
        request.options,
        tasks=request.tasks(),
    )
    with Progress(total=len(checkpoints), unit="network", desc="predicting", smoothing=0) as bar:

        def advance() -> None:
            bar.update()

        def tell(note: str) -> None:
            bar.write(note, file=sys.stderr)

        tell(f"each of {len(checkpoints)} reference models runs the stress tests once")
        recording, predictions, earlier = with_predictions(
            checkpoints, recording, predictions_path, network=request.network, on_model=advance
        )
        bar.reset()
        bar.set_description("measuring")
        panel = measure_panel(checkpoints, recording, network=request.network, on_model=advance, on_note=tell)
    data = request_of(request.options, root=Path())
    expect_no_copies(
        checkpoints, data.load(request.network.transform_named), network=request.network, device=request.device
    )
    if known:
        panel = _joined(known, panel, checks, path, again=(*asked, *_ids_of(known, request.families)))
    panel = with_earlier_conversions(panel, _there(path), checks.checks)
    return MeasuredPanel(panel, predictions, earlier, checks)


def _measured_conversions(request: CalibrationRequest, command: str, checks: ChecksFile, path: Path) -> MeasuredPanel:
    """Convert the models of the panel in the file and measure the conversions; see `measured_conversions`."""
    from harness.base.progress import Progress

    panel = read_panel(path, checks)
    recording = Recording(checks.path.parent, checks, (EQUIVALENCE,), request.options)
    with Progress(total=2 * len(panel.models), unit="step", desc="converting", smoothing=0) as bar:

        def advance() -> None:
            bar.update()

        panel = measured_conversions(
            command,
            panel,
            recording,
            network=request.network,
            on_model=advance,
            on_note=lambda note: bar.write(note, file=sys.stderr),
        )
    return MeasuredPanel(panel, None, None, checks)


def _ids_asked_for(request: CalibrationRequest, checks: ChecksFile) -> tuple[str, ...]:
    """Return the ids that match patterns; raises `InputError` for a pattern without a check in the file."""
    asked: dict[str, None] = {}
    for pattern in request.check_ids:
        if not (found := fnmatch.filter([check.id for check in checks.checks], pattern)):
            raise InputError(f"--check {pattern}: no check of {checks.path} has such an id; write the check first")
        asked.update(dict.fromkeys(found))
    return tuple(asked)


def _ids_of(panel: Panel, families: Sequence[str]) -> list[str]:
    """Return the ids of the checks of families, without those that only conversions measure."""
    return [row.id for row in panel.checks if row.family in families and not row.conversions]


def _joined(known: Panel, new: Panel, checks: ChecksFile, path: Path, *, again: Sequence[str]) -> Panel:
    """Return the new measurements, with those of the panel in `path` that were not measured `again`.

    Raises `InputError` for other networks, and for checks that have changed since their measurement.
    """
    if [model.sha256 for model in new.models] != [model.sha256 for model in known.models]:
        raise CalibrationError(
            f"{path}: its networks are not those measured now; calibrate all families, without --family and --check"
        )
    now = {check.id: check.definition for check in checks.checks}
    kept = tuple(row for row in known.checks if row.id in now and row.id not in again and not row.conversions)
    for row in kept:
        regrouped = row.family == SLICE and known.groups_sha256 != new.groups_sha256
        if now[row.id] != row.definition or regrouped:
            raise ChangedError(
                f"{checks.path}: check {row.id!r} has changed since {path} was measured; calibrate its family too, "
                f"with --family {row.family}, or all, without --family"
            )
    models = tuple(
        replace(
            measured,
            values={**{row.id: old.values[row.id] for row in kept}, **measured.values},
            curves=tuple({curve.name: curve for curve in (*old.curves, *measured.curves)}.values()),
        )
        for old, measured in zip(known.models, new.models, strict=True)
    )
    chance = {**{row.id: known.chance[row.id] for row in kept if row.id in known.chance}, **new.chance}
    return replace(new, checks=kept + new.checks, models=models, chance=chance)


def _predictions_path(request: CalibrationRequest, checks: ChecksFile) -> Path:
    """Return the file of the panel's predictions; each panel has its own."""
    path = request.panel_path(checks)
    own = path == replace(request, panel=None).panel_path(checks)
    return (checks.panel_predictions if own else None) or path.with_suffix(".predictions.json")


def _outputs(request: CalibrationRequest, panel: Path, predictions: Path) -> tuple[Output, Output, Output]:
    """Return the outputs for panel, predictions and checks, which replace no other input of a calibration."""
    gate = request_of(request.gate_options, root=Path())
    read = inputs_of_run(gate.but(checks=request.checks_path), more=request.checkpoints)
    others = read.without([panel, predictions, request.checks_path])
    return (
        Output(panel, PANEL, others),
        Output(predictions, PANEL_PREDICTIONS, others),
        Output(request.checks_path, CHECKS, others),
    )


def _about(panel: Panel, calibrated: Sequence[Calibrated]) -> str:
    """Return a description of the panel, with advice if its thresholds are provisional."""
    count = len(panel.models)
    if count >= PROVISIONAL:
        return f"{count} reference models, the same recipe with other seeds"
    judged = sum(not item.informational for item in calibrated)
    networks = "1 reference model" if count == 1 else f"{count} reference models"
    return (
        f"provisional, of {networks}: {judged} of {len(calibrated)} checks have a threshold; "
        f"`stress-harness calibrate --plan` says what {PROVISIONAL} and more would gain"
    )


def _write(
    measured: MeasuredPanel,
    calibrated: Sequence[Calibrated],
    before: dict[Path, str | None],
    outputs: tuple[Output, Output, Output],
) -> None:
    """Write panel, predictions and thresholds together to these `outputs`.

    Raises `InputError`, and writes nothing, if a file has changed since `before`, and for an invalid checks file.
    """
    predictions, checks = measured.predictions, measured.checks
    panel_path, predictions_path = (output.path for output in outputs[:2])
    panel = measured.panel.with_multipliers({item.check.id: item.k for item in calibrated}, before=_there(panel_path))
    date = datetime.now(UTC).date().isoformat()
    seeds = [model.seed for model in panel.models]
    recipe: dict[str, Any] = {"about": _about(panel, calibrated), "panel": panel_path.as_posix(), "date": date}
    if None not in seeds:
        recipe["seeds"] = seeds
    if predictions:
        # Relative to the checks file, so the gate finds it from any working directory.
        recipe["panel_predictions"] = os.path.relpath(predictions_path, checks.path.parent)
        recipe["panel_predictions_sha256"] = predictions.sha256
    else:  # No test has asked for predictions now, but other checks were measured with the earlier ones.
        recipe |= {
            name: checks.recipe[name]
            for name in ("panel_predictions", "panel_predictions_sha256")
            if name in checks.recipe
        }
    if panel.recipe:
        recipe["training"] = {name: value for name, value in panel.recipe.items() if value is not None}
    with locked(checks.path):
        changed = [path for path, sha256 in before.items() if hash_of_file(path) != sha256]
        if hash_of_checks(checks.path) != checks.sha256:
            changed.append(checks.path)
        if changed:
            raise ChangedError(
                f"{changed[0]}: changed while the panel was measured, so nothing was written; run the command again, "
                "the measurements are kept"
            )
        rows = with_thresholds(checks.path.read_text(encoding="utf-8"), list(calibrated), recipe=recipe, date=date)
        _expect_readable(rows, checks.path)
        kept = {outputs[1]: predictions.as_bytes()} if predictions else {}
        write_together({**kept, outputs[0]: panel.as_bytes(), outputs[2]: rows.encode()})


def _there(path: Path) -> Panel | None:
    """Return the panel in a file; None if it cannot be read."""
    try:
        return read_panel(path)
    except InputError:
        return None


def _expect_readable(content: str, path: Path) -> None:
    """Raise `InputError` for content that is no valid checks file at this place."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}-", suffix=path.suffix) as made:
        made.write(content.encode())
        made.flush()
        try:
            read_checks(Path(made.name))
        except InputError as error:
            said = str(error).removeprefix(f"{made.name}: ")
            raise CalibrationError(
                f"{path}: nothing was written, since it could not be read again: {said}; correct the test that this "
                "is the row of, and calibrate again"
            ) from None
