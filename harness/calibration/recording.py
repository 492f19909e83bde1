"""Recorded runs of the stress tests.

The values of a checkpoint, kept or measured now, and the code and data that decide them.
"""

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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

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
    """A recording: the stress tests, the checks file, and further options of pytest.

    Without families or checks, it records all of them. `cluster` is that on which checkpoints are
    measured, None for this machine. `answers` is the folder in which answers are left.
    `panel_predictions` is a file in place of the recipe's. `originals` are the models that
    checkpoints were made from, by the checkpoint's path. `processes` run the gate on this machine,
    and stay for later recordings with the same options; without them, a recording starts and ends
    its own.
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
        """Return a hash of a checkpoint and of the user's code that a run imports.

        Both decide the values. The settings of the project are part of it, and the content of each
        file that these and the options name.
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
    files = [Path(option.rpartition("=")[2]) for option in options]
    hashes = [hash_of_file(path) for path in files]
    return [file_hash for file_hash in hashes if file_hash]


def record(
    checkpoint: Path | str,
    recording: Recording,
    run: Callable[[RunRequest], RunResult],
    *,
    sha256: str | None = None,
) -> list[dict[str, Any]]:
    """Run the stress tests on a checkpoint in record mode; return the measured checks.

    They are entries of `stress.json`. Raises `InputError` as `report_of_run` does, and when there
    is no test of the families.
    """
    report = report_of_run(checkpoint, recording, run, sha256=sha256)
    if not (report["checks"] or report["errors"]):
        named = ", ".join(recording.families) or "any"
        raise CalibrationError(
            f"{recording.tests}: no test is of family {named}; name a family that a test is "
            "marked with"
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
    """Run the stress tests on a checkpoint in record mode; return the run's `stress.json`.

    `run` runs the gate. Raises `InputError` if it could not measure. The same holds if it read
    other bytes than this process: another checks file, other data or, given its `sha256`, another
    checkpoint.
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
                f"{path}: changed while the panel was measured: its SHA-256 was {before[:12]}…, "
                f"and is {found[:12]}… now; calibrate again when nothing writes to it"
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
    """Return the content for each checkpoint: from the user's cache, or measured now, one per core.

    A predictor without a lasting identity is measured again each time. So is each model once the
    user's code that measured it has changed. The cores are those of the recording's cluster, or
    this machine's, each with a process that has loaded the data.

    Args:
        checkpoints: The models, in the order of the result.
        recording: The stress tests and how they run.
        make: Measures a checkpoint with the function that runs the gate on a core.
        read: Parses the content of the cache or of `make`.
        what: The kind of content; contents of two kinds do not share an entry of the cache.
        on_model: Called once for each model that has its content.

    Raises:
        ChangedError: The stress tests, or a file that they use, changed while they ran.
    """
    definition = recording.definition()
    keys = [
        hashlib.sha256(f"{checkpoint.sha256} {definition} {what}".encode()).hexdigest()
        for checkpoint in checkpoints
    ]
    store = Store.of_user("measured")
    store.prune()
    panel = _PanelContents(checkpoints, recording, definition, keys, store, make, read, on_model)

    panel.read_store()
    if panel.waiting and recording.cluster:
        panel.measure_on_cluster(recording.cluster)
    elif panel.waiting:
        panel.measure_here()

    return [panel.contents[position] for position in range(len(checkpoints))]


@dataclass
class _PanelContents(Generic[T]):
    """The contents of a panel's checkpoints, by position, and the positions still to measure."""

    checkpoints: Sequence[Checkpoint]
    recording: Recording
    definition: str
    keys: Sequence[str]
    store: Store
    make: Callable[[Checkpoint, Callable[[RunRequest], RunResult]], bytes]
    read: Callable[[bytes], T]
    on_model: Callable[[], object]
    contents: dict[int, T] = field(default_factory=dict)
    waiting: deque[int] = field(default_factory=deque)

    def read_store(self) -> None:
        """Read the contents that the cache has; the other positions wait to be measured."""
        for position, checkpoint in enumerate(self.checkpoints):
            # An entry that cannot be parsed is measured again.
            with suppress(ValueError):
                self._read_entry(position, checkpoint)

        for position in range(len(self.checkpoints)):
            if position not in self.contents:
                self.waiting.append(position)

    def _read_entry(self, position: int, checkpoint: Checkpoint) -> None:
        if not checkpoint.lasting:
            return
        content = self.store.content(self.keys[position])
        if content is None:
            return
        self.contents[position] = self.read(content)
        self.on_model()

    def measure_on_cluster(self, cluster: Cluster) -> None:
        """Measure the waiting checkpoints, one at a time on each core of the cluster."""
        # They stay unused unless the cluster is lost: a node has processes of its own.
        local_processes = [WarmProcess(core, self.recording.options) for core in cluster.cores]
        with ThreadPoolExecutor(len(local_processes)) as pool:
            list(pool.map(self._work, local_processes))

    def measure_here(self) -> None:
        """Measure the waiting checkpoints, one at a time on each core of this machine."""
        with ExitStack() as stack:
            processes = self.recording.processes
            if not processes:
                own_processes = WarmProcesses(self.recording.options)
                processes = stack.enter_context(closing(own_processes))
            processes.share(self._work, most=len(self.waiting))

    def _work(self, process: WarmProcess) -> None:
        # Another thread may take the last position between a test of `waiting` and `popleft`.
        while True:
            try:
                position = self.waiting.popleft()
            except IndexError:
                return
            try:
                self.contents[position] = self._measure(position, process)
            except BaseException:
                self._abandon()
                raise
            self.on_model()

    def _abandon(self) -> None:
        self.waiting.clear()
        cluster = self.recording.cluster
        if cluster:  # No result is needed any more.
            cluster.lost = "the calibration was abandoned"

    def _measure(self, position: int, process: WarmProcess) -> T:
        checkpoint = self.checkpoints[position]
        result = self._result_of_node(checkpoint)
        if not result:
            result = self.make(checkpoint, process.run), imports.files()
        content, code = result

        # The key names the definition, so it must hold for the whole time of the measurement.
        if self.recording.definition() != self.definition:
            raise ChangedError(
                f"{self.recording.tests}: the stress tests, or a file that they use, changed while "
                "they were run; calibrate again when nothing writes to them"
            )
        if checkpoint.lasting:
            self.store.keep(self.keys[position], content, code)
        return self.read(content)

    def _result_of_node(self, checkpoint: Checkpoint) -> tuple[bytes, dict[str, str]] | None:
        cluster = self.recording.cluster
        if not cluster:
            return None

        # A node reads the model from its file.
        light_checkpoint = replace(checkpoint, model=nn.Identity())
        # The function goes to a node: it holds only what it needs there.
        make, options = self.make, self.recording.options

        def on_node(core: int) -> tuple[bytes, dict[str, str]]:
            with closing(WarmProcess(core, options)) as process:
                return make(light_checkpoint, process.run), imports.files()

        return cluster.result(str(light_checkpoint.path), on_node)
