"""Recorded runs of the stress tests: what decides their values, and what a checkpoint measured, kept or made now."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from harness.base import imports
from harness.base.cache import Store, installed
from harness.base.errors import CalibrationError, ChangedError
from harness.base.files import hash_of_file
from harness.base.groups import pairs_of
from harness.calibration.warm import WarmProcess, WarmProcesses
from harness.inference.platforms import LIBRARIES, measuring_code
from harness.measures import METRICS
from harness.perturb import PROTOCOL
from harness.perturb.corruptions import CORRUPTIONS
from harness.run.inputs import CONFIGURATION
from harness.run.request import RunRequest, own_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.checks import ChecksFile
    from harness.inference.backends import Cluster
    from harness.networks.checkpoints import Checkpoint
    from harness.run.result import RunResult

T = TypeVar("T")
_VERSIONS = (*LIBRARIES, "stress-harness", "onnxruntime", "timm", "torchvision", "transformers")
_MEASURED = (0, 4)
"""Exit statuses of a run that measured and had no errors: it judges nothing, which is 4."""


@dataclass(frozen=True)
class Recording:
    """A recording: the folder of stress tests, the checks file, families or checks (none: all), more pytest options.

    `cluster` is that on which checkpoints are measured, None for this machine. `answers` is the folder in which
    answers are left. `panel_predictions` is a file in place of the recipe's. `originals` are the models that
    checkpoints were made from, by the checkpoint's path. `processes` run the gate on this machine, and stay for later
    recordings with the same options; without them, a recording starts and ends its own.
    """

    tests: Path
    checks: ChecksFile
    families: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    cluster: Cluster | None = None
    answers: Path | None = None
    panel_predictions: Path | None = None
    originals: Mapping[str, Path | str] = field(default_factory=dict)
    processes: WarmProcesses | None = None

    def definition(self) -> str:
        """Return a hash of what decides the values, given a checkpoint and the user's code that a run imports.

        The settings of the project are part of it, and the content of each file that these and the options name.
        """
        tests = sorted(self.tests.resolve().glob("**/*.py"))
        code = [*tests, *sorted({*CORRUPTIONS.sources(), *METRICS.sources()} - set(tests))]
        configured = [
            Path(name).read_text("utf-8", "replace")
            for name in CONFIGURATION
            if Path(name).is_file()
        ]
        baselines = re.findall(
            r"--baseline[=\s\"',]+([^\s\"',]+)", "\n".join(configured)
        )  # In addopts.
        project = [*pairs_of(own_settings(Path())), *(f"baseline={path}" for path in baselines)]
        content = {
            "checks": [check.definition for check in self.checks.written],
            "data": {
                name: value
                for name, value in asdict(self.checks.data).items()
                if value not in ((), None, {})
            },
            "protocol": PROTOCOL,
            "families": self.families,
            "options": self.options,
            "files": [
                *(hashlib.sha256(path.read_bytes()).hexdigest() for path in code),
                *_hashes_of_files((*self.options, "models/baseline.safetensors")),
                *([] if self.panel_predictions is None else [hash_of_file(self.panel_predictions)]),
            ],
            "code": measuring_code(),
            "versions": installed(_VERSIONS),
            "project": [*project, *_hashes_of_files(project)],
            "originals": _hashes_of_files([*map(str, self.originals.values())]),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _hashes_of_files(options: Sequence[str]) -> list[str]:
    # The content of a file that an option names decides, not its name.
    return [found for option in options if (found := hash_of_file(Path(option.rpartition("=")[2])))]


def record(
    checkpoint: Path | str,
    recording: Recording,
    run: Callable[[RunRequest], RunResult],
    *,
    sha256: str | None = None,
) -> list[dict[str, Any]]:
    """Run the stress tests on a checkpoint in record mode and return the measured checks' entries of `stress.json`.

    Raises `InputError` as `report_of_run` does, and when there is no test of the families.
    """
    report = report_of_run(checkpoint, recording, run, sha256=sha256)
    if not (report["checks"] or report["errors"]):
        named = ", ".join(recording.families) or "any"
        raise CalibrationError(
            f"{recording.tests}: no test is of family {named}; name a family that a test is marked with"
        )
    return [
        entry
        for entry in report["checks"]
        if entry["role"] == "candidate"
        and entry["status"] == "informational"
        and entry["value"] is not None
    ]


def report_of_run(
    checkpoint: Path | str,
    recording: Recording,
    run: Callable[[RunRequest], RunResult],
    *,
    sha256: str | None = None,
) -> Mapping[str, Any]:
    """Run the stress tests on a checkpoint in record mode and return what the run says of itself, its `stress.json`.

    `run` runs the gate. Raises `InputError` if it could not measure. The same holds if it read other bytes than this
    process: another checks file, other data or, given its `sha256`, another checkpoint.
    """
    checks, original = recording.checks, recording.originals.get(str(checkpoint))
    with tempfile.TemporaryDirectory() as folder:
        request = RunRequest(
            roles={
                "candidate": checkpoint,
                "incumbent": "none",
                **({"original": original} if original else {}),
            },
            checks=checks.path,
            profile="default" if checks.data.sample is None else "quick",
            reports=folder,
            tests=(str(recording.tests),),
            options=("-q", "-p", "no:cacheprovider", *recording.options),
            record=frozenset(recording.families),
            answers=recording.answers,
            panel_predictions=recording.panel_predictions,
        )
        result = run(request)
    report = result.report
    nothing = report is not None and not (report["checks"] or report["errors"])
    if report is None or report["errors"] or not (nothing or result.status in _MEASURED):
        said = f"{checkpoint}: the stress tests ended with exit status {result.status}:"
        raise CalibrationError(said, below=result.printed)
    for path, found, before in (
        (checks.path, report["checks_sha256"], checks.sha256),
        (checks.data.name, report["data"]["sha256"], checks.data.sha256),
        (checkpoint, report["candidate"]["sha256"], sha256 or report["candidate"]["sha256"]),
    ):
        if found != before:
            raise ChangedError(
                f"{path}: changed while the panel was measured: its SHA-256 was {before[:12]}…, and is {found[:12]}… "
                "now; calibrate again when nothing writes to it"
            )
    return report


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
    cluster. `make` gets the function that runs the gate there. `what` names the kind of content.
    """
    definition, cluster = recording.definition(), recording.cluster
    keys = [
        hashlib.sha256(f"{each.sha256} {definition} {what}".encode()).hexdigest()
        for each in checkpoints
    ]
    store = Store.of_user("measured")
    store.prune()
    found: dict[int, T] = {}
    for at, checkpoint in enumerate(checkpoints):
        with suppress(ValueError):
            if checkpoint.lasting and (kept := store.content(keys[at])) is not None:
                found[at] = read(kept)
                on_model()
    waiting = deque(at for at in range(len(checkpoints)) if at not in found)

    def made(at: int, process: WarmProcess) -> T:
        checkpoint = checkpoints[at]
        light = replace(
            checkpoint, model=nn.Identity()
        )  # A node of the cluster reads the model from its file.

        def on_node(core: int) -> tuple[bytes, dict[str, str]]:
            with closing(WarmProcess(core, recording.options)) as own:
                return make(light, own.run), imports.files()

        made_there = cluster.result(str(light.path), on_node) if cluster else None
        content, code = made_there or (make(checkpoint, process.run), imports.files())
        if recording.definition() != definition:
            raise ChangedError(
                f"{recording.tests}: the stress tests, or a file that they use, changed while they were run; "
                "calibrate again when nothing writes to them"
            )
        if checkpoint.lasting:
            store.keep(keys[at], content, code)
        return read(content)

    def work(process: WarmProcess) -> None:
        for at in iter(lambda: waiting.popleft() if waiting else None, None):
            try:
                found[at] = made(at, process)
            except BaseException:
                waiting.clear()
                if cluster:  # No result is needed any more.
                    cluster.lost = "the calibration was abandoned"
                raise
            on_model()

    if waiting and cluster:
        unused = [
            WarmProcess(core, recording.options) for core in cluster.cores
        ]  # A node has processes of its own.
        with ThreadPoolExecutor(len(unused)) as pool:
            list(pool.map(work, unused))
    elif waiting:
        with ExitStack() as stack:
            own = recording.processes or stack.enter_context(
                closing(WarmProcesses(recording.options))
            )
            own.share(work, most=len(waiting))
    return [found[at] for at in range(len(checkpoints))]
