"""Measurement of a panel: its models are loaded and compared, and their recorded values and predictions joined."""

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

_FEW, _ROUNDING = 32, 1e-3
"""Images that find copies, and the largest difference of a copy's logits as a share of their range. Those of two
trainings are far larger."""


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

    A line on standard error tells the choice among a file's tensors. Raises `InputError` for checkpoints of different
    recipes, and for two that are the same network up to rounding.
    """
    from harness.inference.role import load

    loaded = [load(path, network) for path in checkpoints]
    for choice in dict.fromkeys(checkpoint.note for checkpoint in loaded if checkpoint.note):
        note(f"{some_of([str(each.path) for each in loaded if each.note == choice])}: {choice}")
    _common_recipe(loaded)
    _are_scored(loaded)
    request = request_of(recording.options, root=Path())
    few = sample_up_to(request.load(network.transform_named if network else None), _FEW)
    others: dict[Path | str, tuple[str, np.ndarray]] = {}
    for checkpoint in loaded:
        model = open_model(
            checkpoint.path, few, network=network, device=request.device, ordered=False
        )
        logits = model.predict(few).computed
        for other, (sha256, theirs) in others.items():
            close = np.abs(logits - theirs).max() <= _ROUNDING * np.ptp(theirs)
            if checkpoint.model_sha256 == sha256 or (_tells_models_apart(model) and close):
                raise PanelError(
                    f"{checkpoint.path}: is the same network as {other}, up to rounding; a panel needs different ones"
                )
        others[checkpoint.path] = checkpoint.model_sha256, logits
    return loaded


def _tells_models_apart(model: RoleModel) -> bool:
    """Return whether equal predictions of few images show that two models are the same."""
    return model.provides.scores != "labels" and not model.provides.scored


def measure_panel(
    loaded: Sequence[Checkpoint],
    recording: Recording,
    on_model: Callable[[], object] = lambda: None,
) -> Panel:
    """Measure loaded reference models and return their panel.

    Measurements stay in the user's cache. A killed run therefore continues, and a panel costs nothing if its tests have
    not changed. `on_model` is called after each model. Raises `InputError` for a failed run of the tests.
    """
    measured = [
        {entry["id"]: entry for entry in entries}
        for entries in entries_of(loaded, recording, on_model)
    ]
    common = set.intersection(*map(set, measured))
    if partial := sorted(set[str]().union(*measured) - common):
        note(
            f"{some_of(partial)}: without a value for some reference models, so without a threshold"
        )
    data, known = (
        recording.checks.data,
        {check.id: check.definition for check in recording.checks.checks},
    )
    checks: dict[str, PanelCheck] = {}
    models = []
    for checkpoint, entries in zip(loaded, measured, strict=True):
        table = {name: entry for name, entry in entries.items() if name in common}
        for entry in table.values():
            check = check_in(entry, known, data)
            if (other := checks.setdefault(check.id, check)) != check:
                mine, theirs = as_plain(check), as_plain(other)
                name = next(name for name in mine if mine[name] != theirs[name])
                raise PanelError(
                    f"{checkpoint.path}: check {check.id}: {name} is {mine[name]!r}, for another network it is "
                    f"{theirs[name]!r}; a test must measure the same for every network"
                )
        # Several checks may read their values off one curve. A figure could show either of two that share a name.
        curves = {
            read_record(Curve, entry["curve"], where=name)
            for name, entry in table.items()
            if entry.get("curve")
        }
        names = Counter(curve.name for curve in curves)
        models.append(
            ReferenceModel(
                path=str(checkpoint.path),
                sha256=checkpoint.sha256,
                seed=((checkpoint.record and checkpoint.record.training) or {}).get("seed"),
                values={name: entry["value"] for name, entry in table.items()},
                curves=tuple(
                    sorted(
                        (each for each in curves if names[each.name] == 1),
                        key=lambda each: each.name,
                    )
                ),
            )
        )
    return Panel(
        data.sha256,
        PROTOCOL,
        _common_recipe(loaded),
        tuple(checks.values()),
        tuple(models),
        data.sample,
        {
            check: found
            for check in checks
            if (found := Chance.of([table[check] for table in measured]))
        },
        data.groups_sha256,
        data.domain,
        len(data.classes),
        _are_scored(loaded),
    )


def _are_scored(checkpoints: Sequence[Checkpoint]) -> bool:
    """Return whether the models give a score for each image; `PanelError` if only some do."""
    provided = [getattr(checkpoint.model, "provides", None) for checkpoint in checkpoints]
    scored = [provides is not None and provides.scored for provides in provided]
    if any(scored) and not all(scored):
        first, other = scored.index(True), scored.index(False)
        raise PanelError(
            f"{checkpoints[first].path} gives a score for each image, and {checkpoints[other].path} predicts classes; "
            "the reference models of a panel must all do the same"
        )
    return any(scored)


def _common_recipe(checkpoints: Sequence[Checkpoint]) -> Mapping[str, Any]:
    recipes = [
        (each.path, {name: value for name, value in each.record.training.items() if name != "seed"})
        for each in checkpoints
        if each.record and each.record.training
    ]
    for path, recipe in recipes:
        if recipe != recipes[0][1]:
            differing = sorted(name for name in recipe if recipe[name] != recipes[0][1].get(name))
            raise PanelError(
                f"{path}: its recipe differs from that of {recipes[0][0]} in {', '.join(differing)}; "
                "the reference models of a panel may differ only in the seed"
            )
    return recipes[0][1] if recipes else {}


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
    """Return the check of an entry; `known` are definitions by id, and a test without a check has that of a new row."""
    sample = data.by_panel(entry["family"]) if entry.get("sampling") else None
    named = {name: entry[name] for name in ("id", "family", "metric")}
    definition = known.get(entry["id"]) or Check(**named).definition
    of_loss = (entry.get("sampling") or {}).get("of_loss", 0.0)
    more = {
        "direction": entry["direction"],
        "n": entry["n"],
        "scale": entry.get("scale", "plain"),
        "of_loss": of_loss,
    }
    more["sample"] = sample.named if sample else ""
    return PanelCheck(**named, **more, unit=Unit(entry["unit"]), definition=definition)


# Panel predictions.


def record_predictions(
    checkpoints: Sequence[Checkpoint], recording: Recording, on_model: Callable[[], object]
) -> list[RecordedModel]:
    """Return the predictions and statistics of each checkpoint that the stress tests need; empty if they need none.

    They stay in the user's cache, like measurements. Raises `InputError` if the tests could not run.
    """

    def make(checkpoint: Checkpoint, run: Callable[[RunRequest], RunResult]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            asking = replace(recording, answers=Path(folder))
            report_of_run(checkpoint.path, asking, run, sha256=checkpoint.sha256)
            return archive_of(Path(folder))

    found: list[RecordedModel] = []
    for some in (checkpoints[:1], checkpoints[1:]):  # If the first needs none, no other does.
        found += kept_or_made(
            some, recording, make=make, read=read_archive, what="answers.zip", on_model=on_model
        )
        if not any(model.predictions for model in found):
            return []
    return found


def with_predictions(
    loaded: Sequence[Checkpoint], recording: Recording, file: Path, on_model: Callable[[], object]
) -> tuple[Recording, PanelPredictions | None, PanelPredictions | None]:
    """Return a recording with the models' predictions, the new predictions, and the old ones of `file`.

    The new predictions are completed with the old ones, and written to the user's cache for the recording. If the tests
    need none, the recording does not change. Raises `InputError` if tests could not run or requested different images
    for different models. For a part of the families, it also refuses a missing file and one of other thresholds.
    """
    checks, old = recording.checks, None
    partly = bool(recording.families)
    needed = partly and checks.panel_predictions is not None
    if needed and not file.exists():
        raise PanelError(
            f"{file}: is missing, but thresholds of {checks.path} were made with it; bring it back, or calibrate all "
            "families"
        )
    try:
        old = read_panel_predictions(file) if file.exists() else None
        if needed and old:
            checks.expect_panel_predictions(file, old.sha256)
    except InputError:
        if partly:
            raise
    found = record_predictions(loaded, recording, on_model)
    models = [each.model_sha256 for each in loaded]
    new = None
    if found:
        predictions = [model.predictions for model in found]
        statistics = [model.statistics for model in found]
        new = combine(checks.data.sha256, checks.data.n, models, predictions, statistics)
    if new is None:
        return recording, None, old
    new = merge(new, old)
    content = new.as_bytes()
    new = replace(new, sha256=hashlib.sha256(content).hexdigest())
    path = Store.of_user("panel_predictions", suffix=".npz").write(new.sha256, content)
    return replace(recording, panel_predictions=path), new, old
