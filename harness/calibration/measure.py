"""Measurement of a panel: its models are loaded and compared.

Their recorded values and predictions are joined.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.cache import Store
from harness.base.errors import InputError, PanelError, some_of
from harness.base.progress import Progress
from harness.base.records import as_plain, read_record
from harness.calibration.panel import Chance, Panel, ReferenceModel
from harness.calibration.recording import Recording, kept_or_made, record, report_of_run
from harness.checks import Check
from harness.data import sample_up_to
from harness.inference import open_model
from harness.measures import Unit
from harness.measures.metric import Curve
from harness.measures.panel.collection import (
    RecordedModel,
    archive_of,
    combine,
    merge,
    read_archive,
)
from harness.measures.panel.predictions import PanelPredictions, read_panel_predictions
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import PROTOCOL
from harness.run.request import request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.checks.file import DataFingerprint
    from harness.inference import RoleModel
    from harness.networks import NetworkOptions
    from harness.networks.checkpoints import Checkpoint
    from harness.run.request import RunRequest
    from harness.run.result import RunResult

_FEW = 32
"""Images that find copies."""
_ROUNDING = 1e-3
"""The largest difference of a copy's logits, as a share of their range.

Those of two trainings are far larger.
"""


def note(line: str) -> None:
    """Write a line to standard error, above the bars of work that goes on."""
    Progress.write(line, file=sys.stderr)


def load_reference_models(
    checkpoints: Sequence[Path | str],
    recording: Recording,
    *,
    network: NetworkOptions | None = None,
) -> list[Checkpoint]:
    """Load the models of a panel, in the network of the options if they need one.

    A line on standard error tells the choice among a file's tensors.

    Raises:
        InputError: Checkpoints have different recipes, or two are the same network up to rounding.
    """
    from harness.inference.role import load

    loaded = [load(path, network) for path in checkpoints]
    choices = dict.fromkeys(checkpoint.note for checkpoint in loaded if checkpoint.note)
    for choice in choices:
        paths = [str(checkpoint.path) for checkpoint in loaded if checkpoint.note == choice]
        note(f"{some_of(paths)}: {choice}")
    _common_recipe(loaded)
    _are_scored(loaded)
    _expect_different_networks(loaded, recording, network)
    return loaded


def _expect_different_networks(
    loaded: Sequence[Checkpoint], recording: Recording, network: NetworkOptions | None
) -> None:
    """Raise `PanelError` for two models that are the same network up to rounding."""
    request = request_of(recording.options, root=Path())
    transform = network.transform_named if network else None
    few = sample_up_to(request.load(transform), _FEW)
    earlier_models: dict[Path | str, tuple[str, np.ndarray]] = {}
    for checkpoint in loaded:
        model = open_model(
            checkpoint.path, few, network=network, device=request.device, ordered=False
        )
        logits = model.predict(few).computed
        for other, (sha256, other_logits) in earlier_models.items():
            close = np.abs(logits - other_logits).max() <= _ROUNDING * np.ptp(other_logits)
            if checkpoint.model_sha256 == sha256 or (_tells_models_apart(model) and close):
                raise PanelError(
                    f"{checkpoint.path}: is the same network as {other}, up to rounding; "
                    "a panel needs different ones"
                )
        earlier_models[checkpoint.path] = checkpoint.model_sha256, logits


def _tells_models_apart(model: RoleModel) -> bool:
    """Return whether equal predictions of few images show that two models are the same."""
    return model.provides.scores != "labels" and not model.provides.scored


def measure_panel(
    loaded: Sequence[Checkpoint],
    recording: Recording,
    on_model: Callable[[], object] = lambda: None,
) -> Panel:
    """Measure loaded reference models and return their panel.

    Measurements stay in the user's cache. A killed run therefore continues, and a panel costs
    nothing if its tests have not changed. `on_model` is called after each model. Raises
    `InputError` for a failed run of the tests.
    """
    entries_by_model = [
        {entry["id"]: entry for entry in entries}
        for entries in entries_of(loaded, recording, on_model)
    ]
    common_ids = set.intersection(*map(set, entries_by_model))
    partial_ids = sorted(set[str]().union(*entries_by_model) - common_ids)
    if partial_ids:
        note(
            f"{some_of(partial_ids)}: without a value for some reference models, "
            "so without a threshold"
        )

    tables = [
        {check_id: entry for check_id, entry in entries.items() if check_id in common_ids}
        for entries in entries_by_model
    ]
    checks = _same_checks(loaded, tables, recording)
    models = [
        _reference_model(checkpoint, table)
        for checkpoint, table in zip(loaded, tables, strict=True)
    ]
    chances = {}
    for check_id in checks:
        chance = Chance.of([entries[check_id] for entries in entries_by_model])
        if chance:
            chances[check_id] = chance
    data = recording.checks.data
    return Panel(
        data.sha256,
        PROTOCOL,
        _common_recipe(loaded),
        tuple(checks.values()),
        tuple(models),
        data.sample,
        chances,
        data.groups_sha256,
        data.domain,
        len(data.classes),
        _are_scored(loaded),
    )


def _same_checks(
    loaded: Sequence[Checkpoint],
    tables: Sequence[Mapping[str, Mapping[str, Any]]],
    recording: Recording,
) -> dict[str, PanelCheck]:
    """Return the checks by id; raises `PanelError` if models differ in more than the values."""
    definitions = {check.id: check.definition for check in recording.checks.checks}
    checks: dict[str, PanelCheck] = {}
    for checkpoint, table in zip(loaded, tables, strict=True):
        for entry in table.values():
            check = check_in(entry, definitions, recording.checks.data)
            other = checks.setdefault(check.id, check)
            if other == check:
                continue
            fields = as_plain(check)
            other_fields = as_plain(other)
            name = next(name for name in fields if fields[name] != other_fields[name])
            raise PanelError(
                f"{checkpoint.path}: check {check.id}: {name} is {fields[name]!r}, "
                f"for another network it is {other_fields[name]!r}; "
                "a test must measure the same for every network"
            )
    return checks


def _reference_model(
    checkpoint: Checkpoint, table: Mapping[str, Mapping[str, Any]]
) -> ReferenceModel:
    # Several checks may read their values off one curve.
    curves = {
        read_record(Curve, entry["curve"], where=check_id)
        for check_id, entry in table.items()
        if entry.get("curve")
    }
    # A figure could show either of two curves that share a name.
    counts = Counter(curve.name for curve in curves)
    unique_curves = [curve for curve in curves if counts[curve.name] == 1]
    training = checkpoint.record.training if checkpoint.record else None
    return ReferenceModel(
        path=str(checkpoint.path),
        sha256=checkpoint.sha256,
        seed=(training or {}).get("seed"),
        values={check_id: entry["value"] for check_id, entry in table.items()},
        curves=tuple(sorted(unique_curves, key=lambda curve: curve.name)),
    )


def _are_scored(checkpoints: Sequence[Checkpoint]) -> bool:
    """Return whether the models give a score for each image; `PanelError` if only some do."""
    provided = [getattr(checkpoint.model, "provides", None) for checkpoint in checkpoints]
    scored = [provides is not None and provides.scored for provides in provided]
    if any(scored) and not all(scored):
        with_scores = checkpoints[scored.index(True)]
        with_classes = checkpoints[scored.index(False)]
        raise PanelError(
            f"{with_scores.path} gives a score for each image, "
            f"and {with_classes.path} predicts classes; "
            "the reference models of a panel must all do the same"
        )
    return any(scored)


def _common_recipe(checkpoints: Sequence[Checkpoint]) -> Mapping[str, Any]:
    """Return the recipe of the models without the seed; `PanelError` if they have several."""
    first: tuple[Path | str, dict[str, Any]] | None = None
    for checkpoint in checkpoints:
        if not checkpoint.record or not checkpoint.record.training:
            continue
        training = checkpoint.record.training
        recipe = {name: value for name, value in training.items() if name != "seed"}
        if first is None:
            first = checkpoint.path, recipe
        first_path, first_recipe = first
        if recipe != first_recipe:
            differing = sorted(name for name in recipe if recipe[name] != first_recipe.get(name))
            raise PanelError(
                f"{checkpoint.path}: its recipe differs from that of {first_path} "
                f"in {', '.join(differing)}; "
                "the reference models of a panel may differ only in the seed"
            )
    return {} if first is None else first[1]


def entries_of(
    checkpoints: Sequence[Checkpoint],
    recording: Recording,
    on_model: Callable[[], object] = lambda: None,
) -> list[list[dict[str, Any]]]:
    """Return the entries of each checkpoint, from the user's cache or measured now."""

    def measure(checkpoint: Checkpoint, run: Callable[[RunRequest], RunResult]) -> bytes:
        return json.dumps(
            record(checkpoint.path, recording, run, sha256=checkpoint.sha256)
        ).encode()

    return kept_or_made(checkpoints, recording, make=measure, read=json.loads, on_model=on_model)


def check_in(
    entry: Mapping[str, Any], known: Mapping[str, str], data: DataFingerprint
) -> PanelCheck:
    """Return the check of an entry.

    `known` are definitions by id; a test without a check has that of a new row.
    """
    names = {name: entry[name] for name in ("id", "family", "metric")}
    definition = known.get(entry["id"]) or Check(**names).definition

    sampling = entry.get("sampling") or {}
    sample = data.by_panel(entry["family"]) if sampling else None
    return PanelCheck(
        **names,
        unit=Unit(entry["unit"]),
        direction=entry["direction"],
        n=entry["n"],
        definition=definition,
        scale=entry.get("scale", "plain"),
        of_loss=sampling.get("of_loss", 0.0),
        sample=sample.named if sample else "",
    )


# Panel predictions.


def record_predictions(
    checkpoints: Sequence[Checkpoint], recording: Recording, on_model: Callable[[], object]
) -> list[RecordedModel]:
    """Return the predictions and statistics of each checkpoint that the stress tests need.

    They stay in the user's cache, like measurements. The list is empty if the tests need none.
    Raises `InputError` if the tests could not run.
    """

    def make(checkpoint: Checkpoint, run: Callable[[RunRequest], RunResult]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            with_answers = replace(recording, answers=Path(folder))
            report_of_run(checkpoint.path, with_answers, run, sha256=checkpoint.sha256)
            return archive_of(Path(folder))

    recorded: list[RecordedModel] = []
    # If the first needs none, no other does.
    for part in (checkpoints[:1], checkpoints[1:]):
        recorded += kept_or_made(
            part, recording, make=make, read=read_archive, what="answers.zip", on_model=on_model
        )
        if not any(model.predictions for model in recorded):
            return []
    return recorded


def with_predictions(
    loaded: Sequence[Checkpoint], recording: Recording, file: Path, on_model: Callable[[], object]
) -> tuple[Recording, PanelPredictions | None, PanelPredictions | None]:
    """Return a recording with the models' predictions, the new predictions, and the old ones.

    The new predictions are completed with the old ones of `file`, and written to the user's cache
    for the recording. If the tests need none, the recording does not change.

    Raises:
        InputError: Tests could not run, or requested different images for different models. For a
            part of the families, the file is missing or of other thresholds.
    """
    checks = recording.checks
    old = _old_predictions(recording, file)
    recorded = record_predictions(loaded, recording, on_model)
    if not recorded:
        return recording, None, old

    models = [checkpoint.model_sha256 for checkpoint in loaded]
    predictions = [model.predictions for model in recorded]
    statistics = [model.statistics for model in recorded]
    new = combine(checks.data.sha256, checks.data.n, models, predictions, statistics)
    if new is None:
        return recording, None, old

    new = merge(new, old)
    content = new.as_bytes()
    new = replace(new, sha256=hashlib.sha256(content).hexdigest())
    path = Store.of_user("panel_predictions", suffix=".npz").write(new.sha256, content)
    return replace(recording, panel_predictions=path), new, old


def _old_predictions(recording: Recording, file: Path) -> PanelPredictions | None:
    """Return the predictions in a file; None without it.

    A recording of all families also gives None for an unreadable file, which it replaces.
    """
    checks = recording.checks
    is_partial = bool(recording.families)
    needed = is_partial and checks.panel_predictions is not None
    if needed and not file.exists():
        raise PanelError(
            f"{file}: is missing, but thresholds of {checks.path} were made with it; "
            "bring it back, or calibrate all families"
        )
    if not file.exists():
        return None
    try:
        old = read_panel_predictions(file)
        if needed:
            checks.expect_panel_predictions(file, old.sha256)
    except InputError:
        if is_partial:
            raise
        return None
    return old
