"""Calibration of a checks file: train or take a reference panel, measure it, and write thresholds from it."""

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
    from harness.measures.panel.threshold import Calibrated
    from harness.run.budget import Plan


@dataclass(frozen=True)
class CalibrationRequest:
    """A calibration of `checks_path`; without `checkpoints`, it trains `reference_models` networks.

    `families` and `check_ids`, which may be patterns, select a part of the existing panel to measure again. `convert`
    is a command that converts each model of that panel, for thresholds of the family `equivalence`. `budget` is a time
    limit that determines samples, or `none` for all images. `model` says how networks are opened, and `gate_options` go
    to each run of the stress tests.
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
            raise InputError(
                "--budget: determines the samples of all families together; remove --family and --check"
            )

    def paths(self, checks: ChecksFile) -> tuple[Path, Path]:
        """Return the files of the panel and of its predictions: the named ones, or else those of the recipe."""
        own = Path(str(checks.recipe.get("panel", "models/panel.json")))
        path = self.panel or own
        predictions = (checks.panel_predictions if path == own else None) or path.with_suffix(
            ".predictions.npz"
        )
        return path, predictions.with_suffix(".npz")  # It was JSON before.


class _Measured(NamedTuple):
    """A panel and its predictions, the file's former predictions, and the checks file of the measurement."""

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
    """Measure the panel, write its thresholds, measurements and predictions, and return a summary.

    `on_fit` is called with the samples that fit `budget`. With `reasons`, the summary has those of informational
    checks. Raises `InputError`, and writes no threshold, for a panel that cannot be measured and for files that change
    during the calibration.
    """
    checks = read_checks(request.checks_path)
    panel_path, predictions_path = paths = request.paths(checks)
    gate = request_of(request.gate_options, root=Path()).but(checks=request.checks_path)
    others = inputs_of_run(gate, more=request.checkpoints).without([*paths, request.checks_path])
    kinds = (PANEL, PANEL_PREDICTIONS, CHECKS)
    outputs = [
        Output(path, kind, others)
        for path, kind in zip((*paths, request.checks_path), kinds, strict=True)
    ]
    for output in outputs:
        output.expect_own()
    before = {path: hash_of_file(path) for path in paths}
    done = _measured_panel(request, expect_own=request.panel is None, on_fit=on_fit)
    panel, checks, predictions, earlier = done
    calibrated = _thresholds(panel, checks)
    _write(done, calibrated, before, outputs)
    hands, settled = _hands(checks, panel), _settled_by_hand(checks, panel)
    lines = calibration_lines(panel, calibrated, hands, reasons=reasons, by_hand=settled)
    lines += unnoticed_lines(panel, calibrated, hands)
    measured = {item.check.id for item in calibrated}
    if without := [check.id for check in checks.checks if check.panel and check.id not in measured]:
        lines.append(
            f"have no value of these networks, and therefore no threshold any more: {', '.join(without)}"
        )
    if len(panel.models) < PROVISIONAL:
        lines.append("these thresholds are provisional; more reference models would gain:")
        lines += plan_lines(panel, by_hand=settled)
    lines += [f"thresholds: {request.checks_path}", f"measurements: {panel_path}"]
    if predictions:
        lines.append(f"panel predictions: {predictions_path}")
        if earlier and earlier.sha256 != predictions.sha256:
            beside = sorted(set(request.checks_path.parent.glob("*.toml")) - {request.checks_path})
            stale = [path for path in beside if earlier.sha256.encode() in path.read_bytes()]
            lines += [
                f"{path}: its thresholds were made with other panel predictions; calibrate it"
                for path in stale
            ]
    return lines


def power(request: CalibrationRequest, *, drop: float | None = None) -> list[str]:
    """Return the lines of `power_lines` on the panel in the file, without a measurement and without writing."""
    checks = read_checks(request.checks_path)
    panel = read_panel(request.paths(checks)[0], checks)
    return power_lines(panel, _thresholds(panel, checks), drop=drop)


def plan(
    request: CalibrationRequest, *, on_fit: Callable[[Plan], object] = lambda _: None
) -> list[str]:
    """Return the lines of `plan_lines` on a panel: measured now if checkpoints are named, else that of the file."""
    checks = read_checks(request.checks_path)
    named = request.checkpoints
    panel = (
        _measured_panel(request, on_fit=on_fit).panel
        if named
        else read_panel(request.paths(checks)[0], checks)
    )
    return plan_lines(panel, by_hand=_settled_by_hand(checks, panel))


def by_hand(checks: ChecksFile, panel: Panel) -> frozenset[str]:
    """Return the ids of the checks with a threshold by hand, or with a tolerance that no measured threshold replaces.

    Conversions replace a tolerance, and reference models replace one on serving skew. A threshold "until calibrated"
    does not count if the panel has enough models to replace it.
    """
    if len(panel.models) >= PROVISIONAL:
        return _settled_by_hand(checks, panel)
    return frozenset(_hands(checks, panel))


def _settled_by_hand(checks: ChecksFile, panel: Panel) -> frozenset[str]:
    """Return the ids of the checks whose threshold by hand, or tolerance, stays however many models the panel gets."""
    return frozenset(
        name for name, hand in _hands(checks, panel).items() if hand.reason != UNTIL_CALIBRATED
    )


def _hands(checks: ChecksFile, panel: Panel) -> dict[str, Threshold]:
    converted = {row.id for row in panel.checks if row.conversions}
    replaced = {
        check.id
        for check in checks.checks
        if check.id in converted or is_tolerated_at_first(check.metric)
    }
    found = {
        check.id: check.hand if check.id in replaced else check.by_hand for check in checks.checks
    }
    return {name: hand for name, hand in found.items() if hand is not None}


def _thresholds(panel: Panel, checks: ChecksFile) -> list[Calibrated]:
    check_panel(panel)
    return thresholds_of(panel, by_hand=by_hand(checks, panel))


def _measured_panel(
    request: CalibrationRequest,
    *,
    expect_own: bool = False,
    on_fit: Callable[[Plan], object] = lambda _: None,
) -> _Measured:
    # With `expect_own`, the panel's file may have no panel of another sample of the same data.
    checks, options = read_checks(request.checks_path), request.gate_options
    checks = _with_domain_of_project(request, checks)
    network, backend = request.model.part(NetworkOptions), request.model.part(BackendOptions)
    path, predictions_path = request.paths(checks)
    cluster = cluster_of(backend)
    recording = Recording(checks.path.parent, checks, options=options, cluster=cluster)
    if request.convert is not None:
        known = read_panel(path, checks)
        recording = replace(recording, families=(EQUIVALENCE,), cluster=None)
        with Progress(
            total=2 * len(known.models), unit="step", desc="converting", smoothing=0
        ) as bar:
            panel = measured_conversions(
                request.convert, known, recording, network=network, on_model=bar.update
            )
        return _Measured(panel, checks)
    asked: set[str] = set()
    for pattern in request.check_ids:
        if not (found := fnmatch.filter([check.id for check in checks.checks], pattern)):
            raise InputError(
                f"--check {pattern}: no check of {checks.path} has such an id; write the check first"
            )
        asked.update(found)
    earlier = readable_panel(path)
    if expect_own and earlier and earlier.data_sha256 == checks.data.sha256:
        expect_sample_of(checks, earlier, path)
    partly = bool(request.families or asked)
    checkpoints: list[Path | str] = list(request.checkpoints)
    if partly:
        earlier = read_panel(path, checks)
        checkpoints = checkpoints or [model_spec(model.path) for model in earlier.models]
    elif not checkpoints:
        models, jobs, folder = request.reference_models, request.jobs, path.with_suffix("")
        checkpoints += train_reference_models(
            checks, folder, reference_models=models, jobs=jobs, device=request.model.device
        )
    if request.budget is not None:
        checks = choose_samples(
            request.budget,
            checks,
            checkpoints[0],
            models=len(checkpoints),
            options=options,
            on_fit=on_fit,
        )
        checks = _with_domain_of_project(request, checks)
    recording = replace(
        recording, checks=checks, families=tuple(sorted({*request.families, *asked}))
    )
    with (
        closing(WarmProcesses(options)) as processes,
        Progress(total=len(checkpoints), unit="network", desc="predicting", smoothing=0) as bar,
    ):
        if cluster is None:
            recording = replace(recording, processes=processes)
        loaded = load_reference_models(checkpoints, recording, network=network)
        count = len(checkpoints)
        measured = "1 reference model" if count == 1 else f"each of {count} reference models"
        note(f"running the stress tests once with {measured}")
        recording, predictions, former = with_predictions(
            loaded, recording, predictions_path, bar.update
        )
        bar.reset()
        bar.set_description("measuring")
        panel = measure_panel(loaded, recording, bar.update)
    if earlier:
        again = {
            row.id for row in (*panel.checks, *earlier.checks) if row.family in request.families
        } | asked
        panel = _completed(panel, earlier, checks, path, again=again if partly else None)
    return _Measured(panel, checks, predictions, former)


def _with_domain_of_project(request: CalibrationRequest, checks: ChecksFile) -> ChecksFile:
    """Return the checks for the augmentation range and the border of the project, for which runs measure.

    Raises `InputError` if these are new, and only a part of the panel would be measured.
    """
    domain = request_of(request.gate_options, root=Path()).domain
    if domain == checks.data.domain:
        return checks
    if request.families or request.check_ids or request.convert is not None:
        raise CalibrationError(
            f"{checks.path}: its thresholds were made for {domain_in_words(checks.data.domain)}, and the project has "
            f"{domain_in_words(domain)}; calibrate all families, without --family, --check and --convert"
        )
    data = replace(checks.data, augmentation=domain.augmentation, border=domain.border)
    return replace(checks, data=data)


def _completed(
    panel: Panel, earlier: Panel, checks: ChecksFile, path: Path, *, again: set[str] | None
) -> Panel:
    # With values of the `earlier` panel: of conversions, and of checks not measured `again`, None for all.
    now = {check.id: check.definition for check in checks.checks}
    same = [model.sha256 for model in panel.models] == [model.sha256 for model in earlier.models]
    if again is not None:
        if not same:
            raise CalibrationError(
                f"{path}: its networks are not those measured now; calibrate all families, without --family and --check"
            )
        kept = tuple(
            row
            for row in earlier.checks
            if row.id in now and row.id not in again and not row.conversions
        )
        for row in kept:
            other_groups = row.family == SLICE and earlier.groups_sha256 != panel.groups_sha256
            if now[row.id] != row.definition or other_groups:
                raise ChangedError(
                    f"{checks.path}: check {row.id!r} has changed since {path} was measured; calibrate its family too, "
                    f"with --family {row.family}, or all, without --family"
                )
        panel = panel.joined(earlier, kept, curved=True)
    alike = (earlier.data_sha256, earlier.sample, earlier.domain) == (
        panel.data_sha256,
        panel.sample,
        panel.domain,
    )
    if not (same and alike):
        return panel
    measured = {row.id for row in panel.checks}
    converted = [row for row in earlier.checks if row.conversions and row.id not in measured]
    return panel.joined(
        earlier, tuple(row for row in converted if now.get(row.id) == row.definition)
    )


def _write(
    done: _Measured,
    calibrated: Sequence[Calibrated],
    before: dict[Path, str | None],
    outputs: Sequence[Output],
) -> None:
    panel, checks, predictions, _ = done
    panel_path, predictions_path, _ = (output.path for output in outputs)
    date, count = datetime.now(UTC).date().isoformat(), len(panel.models)
    about = f"{count} reference models, the same recipe with other seeds"
    if count < PROVISIONAL:
        judged = sum(not item.informational for item in calibrated)
        about = (
            f"provisional, of {count} reference model{'' if count == 1 else 's'}: {judged} of {len(calibrated)} checks "
            f"have a threshold; `stress-harness calibrate --plan` says what {PROVISIONAL} and more would gain"
        )
    recipe: dict[str, Any] = {"about": about, "panel": panel_path.as_posix(), "date": date}
    if None not in (seeds := [model.seed for model in panel.models]):
        recipe["seeds"] = seeds
    if predictions:  # Relative to the checks file, so the gate finds it from any working directory.
        recipe["panel_predictions"] = os.path.relpath(predictions_path, checks.path.parent)
        recipe["panel_predictions_sha256"] = predictions.sha256
    else:  # Where no test has asked for predictions now, other checks were measured with earlier ones.
        recipe |= {
            name: value
            for name, value in checks.recipe.items()
            if name.startswith("panel_predictions")
        }
    if panel.scored:
        recipe["scores"] = True
    if panel.recipe:
        recipe["training"] = {name: each for name, each in panel.recipe.items() if each is not None}
    with locked(checks.path):
        changed = [path for path, sha256 in before.items() if hash_of_file(path) != sha256]
        if hash_of_checks(checks.path) != checks.sha256:
            changed.append(checks.path)
        if changed:
            raise ChangedError(
                f"{changed[0]}: changed while the panel was measured, so nothing was written; run the command again, "
                "the measurements are kept"
            )
        content = with_domain(checks.path.read_bytes().decode(), checks.data.domain)
        rows = with_thresholds(content, calibrated, recipe=recipe, date=date)
        try:
            read_checks(checks.path, content=rows.encode())
        except InputError as error:
            raise CalibrationError(
                f"{checks.path}: nothing was written, since it could not be read again: "
                f"{str(error).removeprefix(f'{checks.path}: ')}; correct the test that this is the row of, and "
                "calibrate again"
            ) from None
        kept = {outputs[1]: predictions.as_bytes()} if predictions else {}
        write_together({**kept, outputs[0]: panel.as_bytes(), outputs[2]: rows.encode()})
