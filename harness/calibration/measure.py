"""Measurement of a panel: the stress tests run on each checkpoint, one per core, and the results are cached."""

from __future__ import annotations

import hashlib
import json
import queue
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import nn

from harness.base import user_folder, write_atomically
from harness.base.errors import ChangedError, PanelError, some_of
from harness.base.imports import while_unchanged, with_files
from harness.base.records import as_plain, read_record
from harness.calibration.panel import Chance, Panel, ReferenceModel
from harness.calibration.recording import Recording, record
from harness.checks import Check
from harness.data import sample_up_to
from harness.inference import open_model
from harness.inference.devices import usable_cores
from harness.inference.loading import is_lasting
from harness.measures import Unit
from harness.measures.metric import Curve
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.networks import NetworkOptions
    from harness.networks.checkpoints import Checkpoint

T = TypeVar("T")
_FEW, _ROUNDING = 32, 1e-3
"""Images that find copies, and the largest difference of a copy's logits as a share of their range. Those of two
trainings are far larger."""


def measure_panel(
    checkpoints: Sequence[Path | str],
    recording: Recording,
    *,
    network: NetworkOptions | None = None,
    on_model: Callable[[], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Panel:
    """Measure every checkpoint, in the network of the options if it needs one, and return the panel.

    Measurements stay in the user's cache. A killed run therefore continues, and a panel costs nothing if its tests have
    not changed. `on_model` is called after each checkpoint, and `on_note` with a line on the choice among a file's
    tensors. Raises `InputError` for a checkpoint given twice, for checkpoints of different recipes, and for a failed
    run of the tests.
    """
    from harness.inference.loading import load

    loaded = [load(path, network) for path in checkpoints]
    for note in dict.fromkeys(checkpoint.note for checkpoint in loaded if checkpoint.note):
        if on_note:
            on_note(f"{some_of([str(each.path) for each in loaded if each.note == note])}: {note}")
    recipe = _common_recipe(loaded)
    measured, partial = _on_all(entries_of(loaded, recording, on_model))
    if partial and on_note:
        on_note(f"{some_of(partial)}: without a value for some reference models, so without a threshold")
    known = {check.id: check.definition for check in recording.checks.checks}
    checks: dict[str, PanelCheck] = {}
    models = []
    for checkpoint, entries in zip(loaded, measured, strict=True):
        for entry in entries:
            check = PanelCheck(
                **{name: entry[name] for name in ("id", "family", "metric", "direction", "n")},
                unit=Unit(entry["unit"]),
                scale=entry.get("scale", "plain"),
                # For a test without a check, it is the check that calibration appends.
                definition=known.get(entry["id"]) or _appended(entry).definition,
            )
            if (other := checks.setdefault(check.id, check)) != check:
                mine, theirs = as_plain(check), as_plain(other)
                name = next(name for name in mine if mine[name] != theirs[name])
                raise PanelError(
                    f"{checkpoint.path}: check {check.id}: {name} is {mine[name]!r}, for another network it is "
                    f"{theirs[name]!r}; a test must measure the same for every network"
                )
        training = checkpoint.record.training if checkpoint.record else None
        models.append(
            ReferenceModel(
                path=str(checkpoint.path),
                sha256=checkpoint.sha256,
                seed=(training or {}).get("seed"),
                values={entry["id"]: entry["value"] for entry in entries},
                curves=_curves_in(entries),
            )
        )
    data = recording.checks.data
    by_check = {check: [entry for entries in measured for entry in entries if entry["id"] == check] for check in checks}
    chance = {check: found for check, entries in by_check.items() if (found := Chance.of(entries))}
    return Panel(
        data.sha256,
        PROTOCOL,
        recipe,
        tuple(checks.values()),
        tuple(models),
        data.sample,
        chance,
        data.groups_sha256,
    )


def _on_all(measured: list[list[dict[str, Any]]]) -> tuple[list[list[dict[str, Any]]], list[str]]:
    """Return the entries of checks that apply to every model, such as errors to look at, and the ids of the others."""
    ids = [{entry["id"] for entry in entries} for entries in measured]
    common = set.intersection(*ids)
    return [[entry for entry in entries if entry["id"] in common] for entries in measured], sorted(
        set().union(*ids) - common
    )


def _common_recipe(checkpoints: Sequence[Checkpoint]) -> Mapping[str, Any]:
    """Return the common training config without the seed; empty if the files have none."""
    first: dict[str, Path | str] = {}
    paths: set[Path | str] = set()
    recipes: list[tuple[Path | str, dict[str, Any]]] = []
    for checkpoint in checkpoints:
        named = checkpoint.path if isinstance(checkpoint.path, str) else checkpoint.path.resolve()
        if named in paths:
            raise PanelError(f"{checkpoint.path}: named twice; a panel needs different networks")
        paths.add(named)
        if (twin := first.setdefault(checkpoint.model_sha256, checkpoint.path)) != checkpoint.path:
            raise PanelError(f"{checkpoint.path}: has the same weights as {twin}; a panel needs different networks")
        if checkpoint.record and checkpoint.record.training:
            recipe = {name: value for name, value in checkpoint.record.training.items() if name != "seed"}
            recipes.append((checkpoint.path, recipe))
    for path, recipe in recipes:
        if recipe != recipes[0][1]:
            differing = sorted(name for name in recipe if recipe[name] != recipes[0][1].get(name))
            raise PanelError(
                f"{path}: its recipe differs from that of {recipes[0][0]} in {', '.join(differing)}; "
                "the reference models of a panel may differ only in the seed"
            )
    return recipes[0][1] if recipes else {}


def expect_no_copies(
    checkpoints: Sequence[Path | str], images: LabelledImages, *, network: NetworkOptions | None, device: str
) -> None:
    """Raise `InputError` for a checkpoint that gives the logits of another one up to rounding, on a few images."""
    few = sample_up_to(images, _FEW)
    others: dict[Path | str, np.ndarray] = {}
    for path in checkpoints:
        model = open_model(path, few, network=network, device=device, ordered=False)
        logits = model.predict(few).computed
        for other, theirs in others.items():
            if model.provides.scores != "labels" and np.abs(logits - theirs).max() <= _ROUNDING * np.ptp(theirs):
                raise PanelError(f"{path}: has the logits of {other} up to rounding; a panel needs different networks")
        others[path] = logits


def entries_of(
    checkpoints: Sequence[Checkpoint], recording: Recording, on_model: Callable[[], None] | None = None
) -> list[list[dict[str, Any]]]:
    """Return the entries of each checkpoint, from the user's cache or measured now, one checkpoint per core."""

    def measure(checkpoint: Checkpoint, core: int) -> bytes:
        return json.dumps(record(checkpoint.path, recording, core=core, sha256=checkpoint.sha256)).encode()

    return kept_or_made(checkpoints, recording, make=measure, read=json.loads, on_model=on_model)


def kept_or_made(
    checkpoints: Sequence[Checkpoint],
    recording: Recording,
    *,
    make: Callable[[Checkpoint, int], bytes],
    read: Callable[[bytes], T],
    what: str = "json",
    on_model: Callable[[], None] | None = None,
) -> list[T]:
    """Return the content for each checkpoint, parsed by `read`: from the user's cache, or by `make`, one per core.

    A predictor without a lasting identity is measured again each time, and each model once the user's code has changed
    that measured it. The cores are this machine's, or those of the recording's cluster, which gets `make`. `what` is
    the suffix of the cached files, one for each kind of content.
    """
    definition = recording.definition()
    tasks = recording.tasks
    cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in range(tasks.cores) if tasks else usable_cores():
        cores.put(core)

    def made_on(core: int, checkpoint: Checkpoint) -> bytes:
        if tasks is None:
            return with_files(make(checkpoint, core))
        light = replace(checkpoint, model=nn.Identity())  # The node reads the model from its file.
        return tasks.result(str(checkpoint.path), lambda there: with_files(make(light, there)))

    def measured(checkpoint: Checkpoint) -> T:
        key = hashlib.sha256(f"{checkpoint.sha256} {definition}".encode()).hexdigest()
        path = user_folder("measured") / f"{key}.{what}"
        try:
            if not is_lasting(checkpoint):
                raise FileNotFoundError(path)
            if (there := while_unchanged(path.read_bytes())) is None:
                raise FileNotFoundError(path)
            kept = read(there)
        except (OSError, ValueError):
            core = cores.get()
            try:
                made = made_on(core, checkpoint)
            finally:
                cores.put(core)
            if recording.definition() != definition:
                raise ChangedError(
                    f"{recording.tests}: the stress tests, or a file that they use, changed while they were run; "
                    "calibrate again when nothing writes to them"
                ) from None
            if is_lasting(checkpoint):
                write_atomically(path, made)
            kept = read(made.partition(b"\n")[2])
        if on_model:
            on_model()
        return kept

    with ThreadPoolExecutor(cores.qsize()) as pool:
        futures = [pool.submit(measured, checkpoint) for checkpoint in checkpoints]
        try:
            return [future.result() for future in futures]
        except BaseException:
            if tasks:
                tasks.abandon()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _curves_in(entries: Sequence[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Return the curves of a model's entries, each once: several checks may read their values off one.

    A name with two different curves is left out, since a figure could show either.
    """
    found = {read_record(Curve, entry["curve"], where=entry["id"]) for entry in entries if "curve" in entry}
    names = Counter(curve.name for curve in found)
    return tuple(sorted((curve for curve in found if names[curve.name] == 1), key=lambda curve: curve.name))


def _appended(entry: Mapping[str, Any]) -> Check:
    """Return the check that calibration appends to the file for a test without one."""
    return Check(id=entry["id"], family=entry["family"], metric=entry["metric"])
