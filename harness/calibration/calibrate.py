"""Calibration of a checks file: a reference panel is trained or given, and measured.

The thresholds are written from its measurements.
"""

from __future__ import annotations

import fnmatch
import os
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.base.errors import CalibrationError, ChangedError, InputError
from harness.base.files import hash_of_file, locked
from harness.base.outputs import CHECKS, PANEL, PANEL_PREDICTIONS, Output, write_together
from harness.base.progress import Progress
from harness.calibration.conversions import expect_conversion, measured_conversions
from harness.calibration.measure import load_reference_models, measure_panel, note, with_predictions
from harness.calibration.panel import expect_sample_of, read_panel, readable_panel
from harness.calibration.recording import Recording
from harness.calibration.retrain import train_reference_models
from harness.calibration.samples import choose_samples
from harness.calibration.summary import calibration_lines, plan_lines, power_lines
from harness.calibration.thresholds import check_panel, thresholds_of
from harness.calibration.unnoticed import unnoticed_lines
from harness.calibration.warm import WarmProcesses
from harness.checks import read_checks
from harness.checks.edits import with_domain, with_thresholds
from harness.checks.slices import SLICE
from harness.checks.tables import UNTIL_CALIBRATED, hash_of_checks
from harness.checks.tolerance import EQUIVALENCE
from harness.data.domain import domain_in_words
from harness.inference.backends import cluster_of
from harness.measures import is_tolerated_at_first
from harness.measures.panel.threshold import PROVISIONAL
from harness.networks.options import BackendOptions, NetworkOptions
from harness.run.budget import seconds_in
from harness.run.inputs import inputs_of_run
from harness.run.request import model_spec, request_of
from harness.run.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.calibration.panel import Panel
    from harness.checks import ChecksFile, Threshold
    from harness.measures.panel.predictions import PanelPredictions
    from harness.measures.panel.threshold import Calibrated, PanelCheck
    from harness.run.budget import Plan


@dataclass(frozen=True)
class CalibrationRequest:
    """A calibration of `checks_path`; without `checkpoints`, it trains `reference_models` networks.

    `families` and `check_ids`, which may be patterns, select a part of the existing panel to
    measure again. `convert` is a command that converts each model of that panel, for thresholds of
    the family `equivalence`. `budget` is a time limit that determines samples, or `none` for all
    images. `model` says how networks are opened, and `gate_options` go to each run of the stress
    tests.
    """

    checks_path: Path
    checkpoints: tuple[Path | str, ...] = ()
    reference_models: int = 20
    jobs: int | None = None
    panel: Path | None = None
    families: tuple[str, ...] = ()
    check_ids: tuple[str, ...] = ()
    budget: str | None = None
    convert: str | None = None
    model: ModelSettings = field(default_factory=ModelSettings)
    gate_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `InputError` for an invalid budget, and for options that contradict each other."""
        is_partial = bool(self.families or self.check_ids)
        if self.convert is not None:
            expect_conversion(self.convert)
            if is_partial or self.checkpoints or self.budget is not None:
                raise InputError(
                    "--convert: converts the models of the panel, for the family equivalence only; "
                    "remove --checkpoints, --family, --check and --budget"
                )
        if self.budget not in {None, "none"}:
            seconds_in(str(self.budget))
        if self.budget is not None and is_partial:
            raise InputError(
                "--budget: determines the samples of all families together; "
                "remove --family and --check"
            )

    def paths(self, checks: ChecksFile) -> tuple[Path, Path]:
        """Return the files of the panel and of its predictions.

        They are the named ones, or else those of the recipe.
        """
        path_of_recipe = Path(str(checks.recipe.get("panel", "models/panel.json")))
        path = self.panel or path_of_recipe
        predictions = path.with_suffix(".predictions.npz")
        if path == path_of_recipe and checks.panel_predictions:
            predictions = checks.panel_predictions
        return path, predictions.with_suffix(".npz")  # It was JSON before.


class _Measured(NamedTuple):
    """A panel with its predictions, and the checks file of the measurement.

    `earlier` are the predictions that the file had before.
    """

    panel: Panel
    checks: ChecksFile
    predictions: PanelPredictions | None = None
    earlier: PanelPredictions | None = None


def calibrate(
    request: CalibrationRequest,
    *,
    on_fit: Callable[[Plan], object] = lambda _: None,
    reasons: bool = False,
) -> list[str]:
    """Measure the panel, write its thresholds, measurements and predictions.

    Args:
        request: The checks file, the panel and the options.
        on_fit: It is called with the samples that fit `budget`.
        reasons: Whether the summary has the reasons of informational checks.

    Returns:
        The lines of a summary.

    Raises:
        InputError: The panel cannot be measured, or files have changed during the calibration. No
            threshold is written.
    """
    paths = request.paths(read_checks(request.checks_path))
    outputs = _outputs(request, paths)
    for output in outputs:
        output.expect_own()
    hashes_before = {path: hash_of_file(path) for path in paths}

    measured = _measured_panel(request, expect_own=request.panel is None, on_fit=on_fit)
    calibrated = _thresholds(measured.panel, measured.checks)
    _write(measured, calibrated, hashes_before, outputs)
    return _summary(measured, calibrated, outputs, reasons=reasons)


def _outputs(request: CalibrationRequest, paths: tuple[Path, Path]) -> list[Output]:
    """Return the files of the panel, of its predictions and of the checks, to be written."""
    gate = request_of(request.gate_options, root=Path()).but(checks=request.checks_path)
    inputs = inputs_of_run(gate, more=request.checkpoints)
    other_inputs = inputs.without([*paths, request.checks_path])
    panel_path, predictions_path = paths
    return [
        Output(panel_path, PANEL, other_inputs),
        Output(predictions_path, PANEL_PREDICTIONS, other_inputs),
        Output(request.checks_path, CHECKS, other_inputs),
    ]


def _summary(
    measured: _Measured,
    calibrated: Sequence[Calibrated],
    outputs: Sequence[Output],
    *,
    reasons: bool,
) -> list[str]:
    panel, checks, predictions, _ = measured
    hands = _hands(checks, panel)
    settled = _settled_by_hand(checks, panel)
    lines = calibration_lines(panel, calibrated, hands, reasons=reasons, by_hand=settled)
    lines += unnoticed_lines(panel, calibrated, hands)

    calibrated_ids = {item.check.id for item in calibrated}
    rows_of_panel = [check.id for check in checks.checks if check.panel]
    without_value = [check_id for check_id in rows_of_panel if check_id not in calibrated_ids]
    if without_value:
        lines.append(
            "have no value of these networks, and therefore no threshold any more: "
            f"{', '.join(without_value)}"
        )
    if len(panel.models) < PROVISIONAL:
        lines.append("these thresholds are provisional; more reference models would gain:")
        lines += plan_lines(panel, by_hand=settled)

    panel_path, predictions_path, checks_path = (output.path for output in outputs)
    lines += [f"thresholds: {checks_path}", f"measurements: {panel_path}"]
    if predictions:
        lines.append(f"panel predictions: {predictions_path}")
        lines += _stale_lines(checks_path, measured)
    return lines


def _stale_lines(checks_path: Path, measured: _Measured) -> list[str]:
    """Return a line for each file of checks beside this one with the former predictions."""
    predictions, earlier = measured.predictions, measured.earlier
    if not predictions or not earlier or earlier.sha256 == predictions.sha256:
        return []
    sha256 = earlier.sha256.encode()
    neighbors = sorted(set(checks_path.parent.glob("*.toml")) - {checks_path})
    return [
        f"{path}: its thresholds were made with other panel predictions; calibrate it"
        for path in neighbors
        if sha256 in path.read_bytes()
    ]


def power(request: CalibrationRequest, *, drop: float | None = None) -> list[str]:
    """Return the lines of `power_lines` on the panel in the file.

    Nothing is measured or written.
    """
    checks = read_checks(request.checks_path)
    panel_path, _ = request.paths(checks)
    panel = read_panel(panel_path, checks)
    return power_lines(panel, _thresholds(panel, checks), drop=drop)


def plan(
    request: CalibrationRequest, *, on_fit: Callable[[Plan], object] = lambda _: None
) -> list[str]:
    """Return the lines of `plan_lines` on a panel.

    It is measured now if checkpoints are named, else that of the file.
    """
    checks = read_checks(request.checks_path)
    if request.checkpoints:
        panel = _measured_panel(request, on_fit=on_fit).panel
    else:
        panel_path, _ = request.paths(checks)
        panel = read_panel(panel_path, checks)
    return plan_lines(panel, by_hand=_settled_by_hand(checks, panel))


def by_hand(checks: ChecksFile, panel: Panel) -> frozenset[str]:
    """Return the ids of the checks with a threshold by hand, or with a tolerance that stays.

    Conversions replace a tolerance, and reference models replace one on serving skew. A threshold
    "until calibrated" does not count if the panel has enough models to replace it.
    """
    if len(panel.models) >= PROVISIONAL:
        return _settled_by_hand(checks, panel)
    return frozenset(_hands(checks, panel))


def _settled_by_hand(checks: ChecksFile, panel: Panel) -> frozenset[str]:
    """Return the ids of the checks whose threshold by hand, or tolerance, stays.

    It stays however many models the panel gets.
    """
    hands = _hands(checks, panel)
    return frozenset(
        check_id for check_id, hand in hands.items() if hand.reason != UNTIL_CALIBRATED
    )


def _hands(checks: ChecksFile, panel: Panel) -> dict[str, Threshold]:
    """Return the thresholds by hand and the tolerances that count, by the id of their check."""
    converted_ids = {row.id for row in panel.checks if row.conversions}
    hands = {}
    for check in checks.checks:
        is_replaced = check.id in converted_ids or is_tolerated_at_first(check.metric)
        hand = check.hand if is_replaced else check.by_hand
        if hand is not None:
            hands[check.id] = hand
    return hands


def _thresholds(panel: Panel, checks: ChecksFile) -> list[Calibrated]:
    check_panel(panel)
    return thresholds_of(panel, by_hand=by_hand(checks, panel))


def _measured_panel(
    request: CalibrationRequest,
    *,
    expect_own: bool = False,
    on_fit: Callable[[Plan], object] = lambda _: None,
) -> _Measured:
    """Measure the models of a panel, which may be trained first.

    With `expect_own`, the panel's file may have no panel of another sample of the same data.
    """
    checks = _with_domain_of_project(request, read_checks(request.checks_path))
    path, predictions_path = request.paths(checks)
    cluster = cluster_of(request.model.part(BackendOptions))
    recording = Recording(checks.path.parent, checks, options=request.gate_options, cluster=cluster)
    if request.convert is not None:
        panel = _panel_of_conversions(request, request.convert, recording, path)
        return _Measured(panel, checks)

    check_ids = _ids_of_patterns(request.check_ids, checks)
    earlier = readable_panel(path)
    if expect_own and earlier and earlier.data_sha256 == checks.data.sha256:
        expect_sample_of(checks, earlier, path)

    is_partial = bool(request.families or check_ids)
    if is_partial:
        earlier = read_panel(path, checks)
    checkpoints = _checkpoints(request, checks, path, earlier if is_partial else None)
    if request.budget is not None:
        checks = choose_samples(
            request.budget,
            checks,
            checkpoints[0],
            models=len(checkpoints),
            options=request.gate_options,
            on_fit=on_fit,
        )
        checks = _with_domain_of_project(request, checks)

    families = tuple(sorted({*request.families, *check_ids}))
    recording = replace(recording, checks=checks, families=families)
    measured = _measured_models(request, checkpoints, recording, predictions_path)
    if not earlier:
        return measured

    measured_again = None
    if is_partial:
        rows = (*measured.panel.checks, *earlier.checks)
        measured_again = {row.id for row in rows if row.family in request.families} | check_ids
    panel = _completed(measured.panel, earlier, checks, path, again=measured_again)
    return measured._replace(panel=panel)


def _panel_of_conversions(
    request: CalibrationRequest, command: str, recording: Recording, path: Path
) -> Panel:
    """Return the panel of a file with the measurements of converted models."""
    panel = read_panel(path, recording.checks)
    recording = replace(recording, families=(EQUIVALENCE,), cluster=None)
    network = request.model.part(NetworkOptions)
    steps = 2 * len(panel.models)
    with Progress(total=steps, unit="step", desc="converting", smoothing=0) as bar:
        return measured_conversions(command, panel, recording, network=network, on_model=bar.update)


def _ids_of_patterns(patterns: Sequence[str], checks: ChecksFile) -> set[str]:
    """Return the ids of the checks that match; raises `InputError` for a pattern without one."""
    ids = [check.id for check in checks.checks]
    matching_ids: set[str] = set()
    for pattern in patterns:
        matches = fnmatch.filter(ids, pattern)
        if not matches:
            raise InputError(
                f"--check {pattern}: no check of {checks.path} has such an id; "
                "write the check first"
            )
        matching_ids.update(matches)
    return matching_ids


def _checkpoints(
    request: CalibrationRequest, checks: ChecksFile, path: Path, panel: Panel | None
) -> list[Path | str]:
    """Return the checkpoints to measure.

    They are the named ones, or else those of the `panel`. Without a panel, they are trained.
    """
    if request.checkpoints:
        return list(request.checkpoints)
    if panel is not None:
        return [model_spec(model.path) for model in panel.models]
    trained = train_reference_models(
        checks,
        path.with_suffix(""),
        reference_models=request.reference_models,
        jobs=request.jobs,
        device=request.model.device,
    )
    return list(trained)


def _measured_models(
    request: CalibrationRequest,
    checkpoints: Sequence[Path | str],
    recording: Recording,
    predictions_path: Path,
) -> _Measured:
    """Run the stress tests with each checkpoint."""
    count = len(checkpoints)
    network = request.model.part(NetworkOptions)
    with (
        closing(WarmProcesses(request.gate_options)) as processes,
        Progress(total=count, unit="network", desc="predicting", smoothing=0) as bar,
    ):
        if recording.cluster is None:
            recording = replace(recording, processes=processes)
        models = load_reference_models(checkpoints, recording, network=network)
        in_words = "1 reference model" if count == 1 else f"each of {count} reference models"
        note(f"running the stress tests once with {in_words}")
        recording, predictions, former = with_predictions(
            models, recording, predictions_path, bar.update
        )
        bar.reset()
        bar.set_description("measuring")
        panel = measure_panel(models, recording, bar.update)
    return _Measured(panel, recording.checks, predictions, former)


def _with_domain_of_project(request: CalibrationRequest, checks: ChecksFile) -> ChecksFile:
    """Return the checks for the augmentation range and the border of the project.

    Runs measure for these. Raises `InputError` if they are new, and only a part of the panel would
    be measured.
    """
    domain = request_of(request.gate_options, root=Path()).domain
    if domain == checks.data.domain:
        return checks
    if request.families or request.check_ids or request.convert is not None:
        raise CalibrationError(
            f"{checks.path}: its thresholds were made for {domain_in_words(checks.data.domain)}, "
            f"and the project has {domain_in_words(domain)}; "
            "calibrate all families, without --family, --check and --convert"
        )
    data = replace(checks.data, augmentation=domain.augmentation, border=domain.border)
    return replace(checks, data=data)


def _completed(
    panel: Panel, earlier: Panel, checks: ChecksFile, path: Path, *, again: set[str] | None
) -> Panel:
    """Return the panel with values of the `earlier` one.

    Args:
        panel: The panel that was measured now.
        earlier: That of the file.
        checks: The checks file.
        path: The file of the panel.
        again: The ids of the checks that were measured now; None for all.
    """
    definitions = {check.id: check.definition for check in checks.checks}
    same_models = _hashes(panel) == _hashes(earlier)
    if again is not None:
        if not same_models:
            raise CalibrationError(
                f"{path}: its networks are not those measured now; "
                "calibrate all families, without --family and --check"
            )
        present_rows = [row for row in earlier.checks if row.id in definitions]
        rows = tuple(row for row in present_rows if row.id not in again and not row.conversions)
        _expect_unchanged(rows, panel, earlier, checks, path)
        panel = panel.joined(earlier, rows, curved=True)

    same_images = (
        earlier.data_sha256 == panel.data_sha256
        and earlier.sample == panel.sample
        and earlier.domain == panel.domain
    )
    if not (same_models and same_images):
        return panel
    measured_ids = {row.id for row in panel.checks}
    conversions = [row for row in earlier.checks if row.conversions and row.id not in measured_ids]
    unchanged = tuple(row for row in conversions if definitions.get(row.id) == row.definition)
    return panel.joined(earlier, unchanged)


def _hashes(panel: Panel) -> list[str]:
    return [model.sha256 for model in panel.models]


def _expect_unchanged(
    rows: Sequence[PanelCheck], panel: Panel, earlier: Panel, checks: ChecksFile, path: Path
) -> None:
    """Raise `ChangedError` for a row of the earlier panel whose check measures something else."""
    definitions = {check.id: check.definition for check in checks.checks}
    for row in rows:
        other_groups = row.family == SLICE and earlier.groups_sha256 != panel.groups_sha256
        if definitions[row.id] != row.definition or other_groups:
            raise ChangedError(
                f"{checks.path}: check {row.id!r} has changed since {path} was measured; "
                f"calibrate its family too, with --family {row.family}, or all, without --family"
            )


def _write(
    measured: _Measured,
    calibrated: Sequence[Calibrated],
    hashes_before: dict[Path, str | None],
    outputs: Sequence[Output],
) -> None:
    """Write the panel, its predictions and the thresholds together.

    Raises `InputError`, and writes nothing, if a file has changed since the measurement began.
    """
    panel, checks, predictions, _ = measured
    panel_output, predictions_output, checks_output = outputs
    date = datetime.now(UTC).date().isoformat()
    recipe = _recipe(measured, calibrated, outputs, date=date)

    with locked(checks.path):
        changed = [path for path, sha256 in hashes_before.items() if hash_of_file(path) != sha256]
        if hash_of_checks(checks.path) != checks.sha256:
            changed.append(checks.path)
        if changed:
            raise ChangedError(
                f"{changed[0]}: changed while the panel was measured, so nothing was written; "
                "run the command again, the measurements are kept"
            )

        text = with_domain(checks.path.read_bytes().decode(), checks.data.domain)
        content = with_thresholds(text, calibrated, recipe=recipe, date=date).encode()
        _expect_readable(content, checks.path)

        contents = {}
        if predictions:
            contents[predictions_output] = predictions.as_bytes()
        contents[panel_output] = panel.as_bytes()
        contents[checks_output] = content
        write_together(contents)


def _recipe(
    measured: _Measured,
    calibrated: Sequence[Calibrated],
    outputs: Sequence[Output],
    *,
    date: str,
) -> dict[str, Any]:
    """Return the table [recipe] of the checks file, which describes the reference models."""
    panel, checks, predictions, _ = measured
    panel_path, predictions_path, _ = (output.path for output in outputs)
    recipe: dict[str, Any] = {
        "about": _about(panel, calibrated),
        "panel": panel_path.as_posix(),
        "date": date,
    }
    seeds = [model.seed for model in panel.models]
    if None not in seeds:
        recipe["seeds"] = seeds

    if predictions:
        # Relative to the checks file, so the gate finds it from any working directory.
        recipe["panel_predictions"] = os.path.relpath(predictions_path, checks.path.parent)
        recipe["panel_predictions_sha256"] = predictions.sha256
    else:
        # Where no test has asked for predictions now, other checks were measured with earlier ones.
        recipe |= {
            name: value
            for name, value in checks.recipe.items()
            if name.startswith("panel_predictions")
        }

    if panel.scored:
        recipe["scores"] = True
    if panel.recipe:
        recipe["training"] = {
            name: value for name, value in panel.recipe.items() if value is not None
        }
    return recipe


def _about(panel: Panel, calibrated: Sequence[Calibrated]) -> str:
    count = len(panel.models)
    if count >= PROVISIONAL:
        return f"{count} reference models, the same recipe with other seeds"
    judged = sum(not item.informational for item in calibrated)
    plural = "" if count == 1 else "s"
    return (
        f"provisional, of {count} reference model{plural}: {judged} of {len(calibrated)} checks "
        f"have a threshold; `stress-harness calibrate --plan` says what {PROVISIONAL} and more "
        "would gain"
    )


def _expect_readable(content: bytes, path: Path) -> None:
    try:
        read_checks(path, content=content)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise CalibrationError(
            f"{path}: nothing was written, since it could not be read again: "
            f"{reason}; correct the test that this is the row of, and calibrate again"
        ) from None
