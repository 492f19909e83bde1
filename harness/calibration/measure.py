"""Measurement of a panel: the stress tests run on each checkpoint, one per core, and the results are cached."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import nn

from harness.base import user_folder, write_atomically
from harness.base.errors import ChangedError, PanelError, some_of
from harness.base.imports import while_unchanged, with_files
from harness.base.progress import Progress
from harness.base.records import as_plain, read_record
from harness.calibration.panel import Chance, Panel, ReferenceModel
from harness.calibration.recording import Recording, record
from harness.calibration.warm import WarmProcess
from harness.checks import Check
from harness.data import sample_up_to
from harness.inference import open_model
from harness.inference.devices import usable_cores
from harness.inference.role import is_lasting
from harness.measures import Unit
from harness.measures.metric import Curve
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import PROTOCOL
from harness.run.request import request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.networks import NetworkOptions
    from harness.networks.checkpoints import Checkpoint
    from harness.run.execute import RunResult
    from harness.run.request import RunRequest

T = TypeVar("T")
_FEW, _ROUNDING = 32, 1e-3
"""Images that find copies, and the largest difference of a copy's logits as a share of their range. Those of two
trainings are far larger."""


def note(line: str) -> None:
    """Write a line to standard error, above the bars of work that goes on."""
    Progress.write(line, file=sys.stderr)


def load_reference_models(
    checkpoints: Sequence[Path | str], recording: Recording, *, network: NetworkOptions | None = None
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
    request = request_of(recording.options, root=Path())
    few = sample_up_to(request.load(network.transform_named if network else None), _FEW)
    others: dict[Path | str, tuple[str, np.ndarray]] = {}
    for checkpoint in loaded:
        model = open_model(checkpoint.path, few, network=network, device=request.device, ordered=False)
        logits = model.predict(few).computed
        for other, (sha256, theirs) in others.items():
            close = np.abs(logits - theirs).max() <= _ROUNDING * np.ptp(theirs)
            if checkpoint.model_sha256 == sha256 or (model.provides.scores != "labels" and close):
                raise PanelError(
                    f"{checkpoint.path}: is the same network as {other}, up to rounding; a panel needs different ones"
                )
        others[checkpoint.path] = checkpoint.model_sha256, logits
    return loaded


def measure_panel(
    loaded: Sequence[Checkpoint], recording: Recording, on_model: Callable[[], object] = lambda: None
) -> Panel:
    """Measure loaded reference models and return their panel.

    Measurements stay in the user's cache. A killed run therefore continues, and a panel costs nothing if its tests have
    not changed. `on_model` is called after each model. Raises `InputError` for a failed run of the tests.
    """
    measured = [{entry["id"]: entry for entry in entries} for entries in entries_of(loaded, recording, on_model)]
    common = set.intersection(*map(set, measured))
    if partial := sorted(set[str]().union(*measured) - common):
        note(f"{some_of(partial)}: without a value for some reference models, so without a threshold")
    measured = [{name: entry for name, entry in table.items() if name in common} for table in measured]
    known = {check.id: check.definition for check in recording.checks.checks}
    checks: dict[str, PanelCheck] = {}
    models = []
    for checkpoint, table in zip(loaded, measured, strict=True):
        for entry in table.values():
            check = check_in(entry, known)
            if (other := checks.setdefault(check.id, check)) != check:
                mine, theirs = as_plain(check), as_plain(other)
                name = next(name for name in mine if mine[name] != theirs[name])
                raise PanelError(
                    f"{checkpoint.path}: check {check.id}: {name} is {mine[name]!r}, for another network it is "
                    f"{theirs[name]!r}; a test must measure the same for every network"
                )
        training = checkpoint.record.training if checkpoint.record else None
        # Several checks may read their values off one curve. A figure could show either of two that share a name.
        curves = {read_record(Curve, entry["curve"], where=name) for name, entry in table.items() if "curve" in entry}
        names = Counter(curve.name for curve in curves)
        models.append(
            ReferenceModel(
                path=str(checkpoint.path),
                sha256=checkpoint.sha256,
                seed=(training or {}).get("seed"),
                values={name: entry["value"] for name, entry in table.items()},
                curves=tuple(sorted((each for each in curves if names[each.name] == 1), key=lambda each: each.name)),
            )
        )
    data = recording.checks.data
    chance = {check: found for check in checks if (found := Chance.of([table[check] for table in measured]))}
    return Panel(
        data.sha256,
        PROTOCOL,
        _common_recipe(loaded),
        tuple(checks.values()),
        tuple(models),
        data.sample,
        chance,
        data.groups_sha256,
    )


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
    checkpoints: Sequence[Checkpoint], recording: Recording, on_model: Callable[[], object] = lambda: None
) -> list[list[dict[str, Any]]]:
    """Return the entries of each checkpoint, from the user's cache or measured now."""

    def measure(checkpoint: Checkpoint, run: Callable[[RunRequest], RunResult]) -> bytes:
        return json.dumps(record(checkpoint.path, recording, run, sha256=checkpoint.sha256)).encode()

    return kept_or_made(checkpoints, recording, make=measure, read=json.loads, on_model=on_model)


def kept_or_made(
    checkpoints: Sequence[Checkpoint],
    recording: Recording,
    *,
    make: Callable[[Checkpoint, Callable[[RunRequest], RunResult]], bytes],
    read: Callable[[bytes], T],
    what: str = "json",
    on_model: Callable[[], object] = lambda: None,
) -> list[T]:
    """Return the content for each checkpoint, parsed by `read`: from the user's cache, or by `make`, one per core.

    A predictor without a lasting identity is measured again each time, and each model once the user's code has changed
    that measured it. The cores are this machine's, with a process that has loaded the data, or those of the recording's
    cluster. `make` gets the function that runs the gate there. `what` is the suffix of the cached files, one for each
    kind of content.
    """
    definition, tasks = recording.definition(), recording.tasks
    keys = [hashlib.sha256(f"{each.sha256} {definition}".encode()).hexdigest() for each in checkpoints]
    places = [user_folder("measured") / f"{key}.{what}" for key in keys]
    found: list[T | None] = [None] * len(checkpoints)
    for at, checkpoint in enumerate(checkpoints):
        with suppress(OSError, ValueError):
            if is_lasting(checkpoint) and (kept := while_unchanged(places[at].read_bytes())) is not None:
                found[at] = read(kept)
                on_model()
    waiting = deque(at for at, content in enumerate(found) if content is None)

    def made(at: int, process: WarmProcess) -> T:
        light = replace(checkpoints[at], model=nn.Identity())  # A node of the cluster reads the model from its file.

        def on_node(core: int) -> bytes:
            with closing(WarmProcess(core, recording.options)) as own:
                return with_files(make(light, own.run))

        path = str(light.path)
        content = tasks.result(path, on_node) if tasks else with_files(make(checkpoints[at], process.run))
        if recording.definition() != definition:
            raise ChangedError(
                f"{recording.tests}: the stress tests, or a file that they use, changed while they were run; "
                "calibrate again when nothing writes to them"
            )
        if is_lasting(checkpoints[at]):
            write_atomically(places[at], content)
        return read(content.partition(b"\n")[2])

    def work(core: int) -> None:
        with closing(WarmProcess(core, recording.options)) as process:
            for at in iter(lambda: waiting.popleft() if waiting else None, None):
                try:
                    found[at] = made(at, process)
                except BaseException:
                    waiting.clear()
                    if tasks:
                        tasks.abandon()
                    raise
                on_model()

    if waiting:
        cores = list(range(tasks.cores)) if tasks else usable_cores()[: len(waiting)]
        with ThreadPoolExecutor(len(cores)) as pool:
            list(pool.map(work, cores))
    return [content for content in found if content is not None]


def check_in(entry: Mapping[str, Any], known: Mapping[str, str]) -> PanelCheck:
    """Return the check of an entry; `known` are definitions by id, and a test without a check has that of a new row."""
    named = {name: entry[name] for name in ("id", "family", "metric")}
    definition = known.get(entry["id"]) or Check(**named).definition
    more = {"direction": entry["direction"], "n": entry["n"], "scale": entry.get("scale", "plain")}
    return PanelCheck(**named, **more, unit=Unit(entry["unit"]), definition=definition)
