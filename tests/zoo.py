"""A little repository with data on which place and turn matter, and good networks.

The networks are not perfect. Here is one factory each for labeled images, networks, and models in
their role; outcomes of runs are in `outcomes`.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
import torch
from _pytest import pytester as pytester_module
from torch.nn import functional

from harness.base.cache import Store
from harness.calibration.warm import WarmProcess
from harness.checks.shipped import SHIPPED
from harness.data import LabelledImages, load_images
from harness.inference import Classifier, RoleModel
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.plugin.run import RUN
from harness.report.redraw import reports_of
from harness.run.handover import Handover, RunRecord, new_run_id
from harness.run.history import read_history
from harness.run.inner import Launch, hand_over
from harness.run.request import RunRequest, command_line
from harness.run.status import REPORTS

STRESS_TESTS = Path(__file__).parents[1] / "stress_tests"
CLASSES = ("ant", "bee", "cat", "dog")
HANGS_AFTER_S = 600
"""Seconds after which a process that a test starts is held to hang."""
ARGUMENTS = {
    "conv_channels": [1],
    "fc_sizes": [],
    "image_size": [16, 16],
    "classes": 4,
    "mean": 0.0,
    "std": 1.0,
}
TRAINING = {"epochs": 20, "learning_rate": 0.1, "seed": 0}
SEARCH = """
[[check]]
id = "break-shift-median"
family = "search"
metric = "breaking_severity"
path = "shift"
share_broken = 0.5
"""
"""A check of the search for the first failing pose."""
ROWS = """
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"
hand = { threshold = 0.85 }

[[check]]
id = "clean-bee"
family = "class"
metric = "accuracy"
class = "bee"
hand = { threshold = 0.75 }

[[check]]
id = "rotate-ccw-010"
family = "rotation"
metric = "accuracy"
pose = { degrees = 10 }
hand = { threshold = 0.5 }

[[check]]
id = "confident-errors"
family = "confidence"
metric = "confident_errors"
direction = "at_most"
confidence = 0.9
hand = { threshold = 10 }
"""
"""Thresholds that the networks of `network` keep on 400 images: clean 0.92, bee 0.92, rotated by
10° 0.68, 1 image.
"""
CLEAN = """
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"
hand = { threshold = 0.6 }
"""
"""A threshold on clean accuracy that a network much worse than the others keeps."""
REGRESSION = """
[[check]]
id = "regression-clean"
family = "regression"
metric = "accuracy_change"
significance = 0.001
hand = { threshold = -0.01 }
"""
"""The check that a candidate is no worse than the incumbent."""
EQUIVALENCE = """
[[check]]
id = "equivalence-clean"
family = "equivalence"
metric = "predictions_changed"
tolerance = 0.05
reason = "a test"
"""
"""The check that an artifact predicts as its original."""


LEAVING = """
import os, sys
import pytest
import torch
from harness.networks.architectures import FashionCNN

class Net(FashionCNN):
    seen = 0
    def forward(self, pixels):
        Net.seen += 1
        if Net.seen > 2:
            {leave}
        return super().forward(pixels)

def build():
    return Net(conv_channels=[1], fc_sizes=[], image_size=[16, 16], classes=4, mean=0.0, std=1.0)
"""
"""Code of a network that leaves by a line, after a trial of two calls."""


def images_of(count: int = 400, *, seed: int = 2) -> LabelledImages:
    """Return images of 16 x 16 pixels: each class has a pattern of its own, and noise on it."""
    patterns = (
        np.random.default_rng(0).integers(0, 2, (4, 8, 8)).repeat(2, axis=1).repeat(2, axis=2)
    )
    labels = np.arange(count) % 4
    noise = np.random.default_rng(seed).normal(80, 50, (count, 16, 16))
    pixels = (25 * patterns[labels] + noise).clip(0, 255).astype(np.uint8)
    return LabelledImages(
        torch.from_numpy(pixels)[:, None], torch.from_numpy(labels), CLASSES, "zoo", "test"
    )


@cache
def _means() -> torch.Tensor:
    examples = images_of(2_000, seed=1)
    features = functional.max_pool2d(examples.pixels.float() / 255, 2).flatten(1)
    return torch.stack([features[examples.labels == label].mean(dim=0) for label in range(4)])


def network(*, jitter: float = 0.0, seed: int = 0) -> FashionCNN:
    """Return a network that compares images with each class's mean.

    Its weights are shaken by `jitter`.
    """
    means, model = _means(), FashionCNN(**ARGUMENTS)
    shaken = jitter * torch.randn(4, 64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.conv1.weight.zero_()[0, 0, 1, 1] = 1.0
        model.conv1.bias.zero_()
        model.fc1.weight.copy_(20 * means + shaken)
        model.fc1.bias.copy_(-10 * means.square().sum(dim=1))
    return model.eval()


def role_model(
    role: str = "candidate", model: torch.nn.Module | None = None, *, cache: Store | None = None
) -> RoleModel:
    """Return a model, by default a good network, in its role."""
    classifier = Classifier(network() if model is None else model, workers=1, cache=cache)
    return RoleModel(
        role, Path(f"{role[0]}.safetensors"), role[0] * 64, "m" * 64, "user", None, classifier
    )


def checks_text(images: LabelledImages, rows: str = ROWS, *, sha256: str = "") -> str:
    """Return a checks file for these images."""
    data = (
        f'name = "{images.name}"\nsplit = "test"\nsha256 = "{sha256 or images.sha256}"\n'
        f"n = {len(images)}\n"
    )
    return f"schema = 2\nprotocol = 1\n\n[data]\n{data}{rows}"


class Zoo:
    """The repository in a folder.

    Data, checks, four stress tests, and as candidate by default a good network.
    """

    def __init__(self, root: Path, *, tests=("clean", "rotation", "confident_errors")) -> None:
        self.root = root
        (root / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
        self.tests = root / "stress_tests"
        self.tests.mkdir()
        for name in tests:
            shutil.copy(SHIPPED[f"test_{name}.py"], self.tests)
        images = images_of()
        pixels = images.pixels[:, 0].numpy()
        np.savez(
            root / "zoo.npz", images=pixels, labels=images.labels.numpy(), classes=np.array(CLASSES)
        )
        self.data = f"npz:{root / 'zoo.npz'}"
        self.images = load_images(self.data)
        self.checks = self.tests / "checks.toml"
        self.bind(ROWS)
        self.save("models/augmented.safetensors")

    def bind(self, rows: str, **facts: str) -> None:
        """Write the checks file."""
        self.checks.write_text(checks_text(self.images, rows, **facts))

    def save(self, name: str, *, blind: bool = False, training=None, **facts) -> Path:
        """Save a network; a blind one sees nothing and says "ant" of everything."""
        model = network(**facts)
        if blind:
            with torch.no_grad():
                model.fc1.weight.zero_()
                model.fc1.bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0]))
        record = Record("fashion-cnn", ARGUMENTS, CLASSES)
        save_checkpoint(
            self.root / name,
            model,
            record if training is None else replace(record, training=training),
        )
        return self.root / name


def as_state_dict(path: Path) -> Path:
    """Save the parameters of a checkpoint alone beside it, and return their path."""
    torch.save(load_checkpoint(path).model.state_dict(), path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def details_in(page: str) -> dict[str, str]:
    """Return what a page shows of each check, by its id: its explanation and its pictures."""
    found = re.findall(r'<tr class="more" hidden>(.*?)</td></tr>', page, re.DOTALL)
    return {re.search(r'id="pictures-([^"]*)"', each)[1]: each for each in found}


def without_id(report: dict) -> dict:
    """Return a report without what differs between equal runs.

    Id, command, history, costs, and its pictures.
    """
    pictures = {"pictures": {}, "thumbnails": {}, "brief": False}
    return {**report, "run": "", "command": "", "history": None, "costs": {}, **pictures}


def drawn_again(folder: Path) -> list[str]:
    """Return the reports in a folder that are others if they are drawn again from the record."""
    from harness.report.redraw import redrawn

    _, reports = redrawn(folder / "stress.json")
    assert reports.keys() == {"stress.html", "stress.md", "stress.json"}
    return [name for name, content in reports.items() if (folder / name).read_bytes() != content]


class Ran:
    """A run of the gate that has ended.

    Its status `ret`, what it printed, its reports, and its state, `gate`.
    """

    def __init__(self, result, folder: Path, gate) -> None:
        self.ret, self.stdout, self.stderr, self.gate = (
            result.ret,
            result.stdout,
            result.stderr,
            gate,
        )
        self.parseoutcomes = result.parseoutcomes
        texts = [
            (folder / name).read_text() if (folder / name).exists() else "" for name in REPORTS
        ]
        self.page, record, self.summary = texts
        self.report = json.loads(record) if record else None
        self.files = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        self.history = read_history(folder / "history.jsonl").lines

    @property
    def said(self) -> str:
        """Return all that it printed."""
        return f"{self.stdout.str()}{self.stderr.str()}"

    @property
    def verdict(self) -> str:
        """Return the verdict, if all three reports agree on it."""
        marks = (
            f'data-run="{self.report["run"]}" data-verdict="',
            f"- run: `{self.report['run']}`, verdict `",
        )
        told = {
            self.page.partition(marks[0])[2].partition('"')[0],
            self.summary.partition(marks[1])[2].partition("`")[0],
        }
        assert told == {self.report["verdict"]}, (told, self.report["verdict"])
        return self.report["verdict"]

    @property
    def ending(self) -> tuple[int, str]:
        """Return exit status and verdict."""
        return int(self.ret), self.verdict

    @property
    def checks(self) -> dict[str, dict]:
        """Return the checks by their ids."""
        return {check["id"]: check for check in self.report["checks"]}

    @property
    def statuses(self) -> dict[str, str]:
        """Return the statuses of the checks."""
        return {name: check["status"] for name, check in self.checks.items()}

    @property
    def self_checks(self) -> dict[str, str]:
        """Return the statuses of the self-checks."""
        return {check["name"]: check["status"] for check in self.report["self_checks"]}

    @property
    def why(self) -> str:
        """Return every reason against a verdict: errors, omissions and failed self-checks."""
        unsound = [
            check["detail"] for check in self.report["self_checks"] if check["status"] == "fail"
        ]
        return "\n".join([*self.report["errors"], *self.report["omissions"], *unsound])


class Witness:
    """A plugin that keeps the configuration of the run that it sees."""

    config = None

    def pytest_configure(self, config):
        """Keep it."""
        self.config = config


class GatedZoo(Zoo):
    """The zoo where its gate is run: in this process, which saves the start of another.

    Workers have their own.
    """

    def __init__(self, pytester, **facts) -> None:
        super().__init__(pytester.path, **facts)
        self.pytester, self._made = pytester, {}

    def run(
        self,
        *arguments,
        page=False,
        overview=False,
        figures=False,
        record: str | None = None,
        **how,
    ):
        """Run the gate without the slow `page` and `overview`.

        `how` has options of `pytester`. A page has no lines in its `figures`, which take longest of
        all. To `record` families, joined by commas, or all, it is asked as calibration asks.
        """
        page = page or "-n" in arguments
        pages = () if page else ("-p", "no:html")
        planned = "--stress-plan" in arguments
        overviews = () if page or overview or planned else ("--stress-set=no_overview=true",)
        data = (
            ()
            if any(map(re.compile(r"(--stress-set=)?data=").match, arguments))
            else ("--stress-set", "data=npz:zoo.npz")
        )
        arguments = (*pages, *overviews, *data, "stress_tests", *arguments)
        with (
            hypothesis_as_it_starts(),
            asked_to_record(record),
            nullcontext() if figures else without_lines(),
        ):
            return self.pytester.runpytest_inprocess(*arguments, **how)

    def once(
        self,
        *arguments,
        rows: str | None = None,
        files: dict | None = None,
        folder="reports",
        **how,
    ) -> Ran:
        """Return what came of a run, which is made once for the same arguments, rows and files.

        See `run`.

        `files` are texts or bytes by their path, None for one that is not there, and functions that
        change one. After the run the repository is as before.
        """
        files = files or {}
        key = repr((arguments, rows, sorted(files.items()), folder, how))
        if key not in self._made:
            shutil.rmtree(self.root / "reports", ignore_errors=True)
            places = [self.checks, *(self.root / name for name in files)]
            kept = {path: path.read_bytes() if path.exists() else None for path in places}
            witness = Witness()
            try:
                if rows is not None:
                    self.bind(rows)
                for name, content in files.items():
                    write(self.root / name, content)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(
                        sys, "dont_write_bytecode", True
                    )  # A file of the same name may follow at once.
                    result = self.run(*arguments, plugins=[witness], **how)
                gate = witness.config.stash.get(RUN, None) if witness.config else None
                # The functions among the files stay, since another one at the same address would
                # have the same key.
                self._made[key] = files, Ran(result, self.root / folder, gate)
            finally:
                for path, content in kept.items():
                    write(path, content)
        return self._made[key][1]

    def report(self, folder: str = "reports") -> dict:
        """Return what the last run wrote."""
        return json.loads((self.root / folder / "stress.json").read_text())

    @property
    def statuses(self) -> dict[str, str]:
        """Return what the last run said of each check."""
        return {check["id"]: check["status"] for check in self.report()["checks"]}


@contextmanager
def without_lines():
    """Make figures, and write none of them down: on a page they are empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.report.figures.as_svg", lambda picture: b"<svg/>")
        yield


def write(path: Path, content) -> None:
    """Write a text or bytes into a file.

    None to remove it, or what a function makes of its bytes.
    """
    if content is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content(path.read_bytes()) if callable(content) else content
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def zoo_for_all(request, tmp_path_factory, **facts):
    """Yield the repository for all tests of a module, which share its runs; see `GatedZoo.once`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        node = SimpleNamespace(name=Path(request.node.name).stem)
        asker = SimpleNamespace(
            function=None, node=node, config=request.config, addfinalizer=request.addfinalizer
        )
        yield GatedZoo(pytest.Pytester(asker, tmp_path_factory, patch, _ispytest=True), **facts)


@contextmanager
def asked_to_record(families: str | None, **more):
    """Have runs of the gate asked to record these families, joined by commas, or all.

    None for runs that judge.

    Yields the file with the request, for runs in other processes.
    """
    if families is None and not more:
        yield None
        return
    record = (
        frozenset() if families == "all" else frozenset(families.split(",")) if families else None
    )
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        request = RunRequest(record=record, run_id=new_run_id(), **more)
        handover = hand_over(request, Launch((), ("pytest",)), Path(folder, "request.json"))
        main = pytester_module.main

        def run(args, plugins):
            status = main(args, [*plugins, handover])
            if (left := handover.record()) is not None and left.report:
                publish(left, Path("reports"))
            return status

        patch.setattr(pytester_module, "main", run)
        yield handover.path


def publish(record: RunRecord, folder: Path) -> None:
    """Write the reports of a run without an outer process, which would do so."""
    _, reports = reports_of(record.report, record.pictures.__getitem__, where="a record")
    for name, content in {**record.pictures, **reports}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


_REMEMBERED: dict[str, tuple[int, str, str, bytes]] = {}


_REPORTS, _RUN = b"@REPORTS@", b"@RUN@"
"""Stand in what is remembered for the folder of the reports and the run's id, which are others each
time.
"""


def run_python(*arguments: str, cwd: Path, code: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own.

    Modules in the folder `code` come before all others.
    """
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{code}{os.pathsep}{root}"}
    environment.pop("PYTEST_XDIST_WORKER", None)  # The test may run in a worker itself.
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )


def in_this_process(pytester, runs: list[list[str]]):
    """Return a stand-in for `subprocess.run` that runs pytest in this process.

    That saves the start. `runs` keeps commands. The same command on the same files is not run
    twice: what it printed and reported is remembered.
    """
    one_at_a_time, start = threading.Lock(), subprocess.run

    def run(command, **how):
        is_gate = command[0] == sys.executable and "stress_tests" in command
        if not is_gate:  # Another process of a run, or git.
            return start(command, **how)
        request = request_in(command)
        asked = RunRequest(**json.loads(request.read_text())["request"])
        same = {
            name: value for name, value in asked.plain.items() if name not in {"run_id", "reports"}
        }
        record = (
            () if asked.record is None else (f"record={','.join(sorted(asked.record)) or 'all'}",)
        )
        arguments, left = command[_first_argument(command) :], request.with_name("record.json")
        places = str(asked.reports).encode(), asked.run_id.encode()
        with one_at_a_time, hypothesis_as_it_starts(), without_lines():
            runs.append([*line_of(command), *record, *(["answers"] if asked.answers else [])])
            key = _digest(pytester.path, [*arguments, str(same)])
            if key not in _REMEMBERED:
                result = pytester.runpytest_inprocess(*arguments, plugins=[Handover(request)])
                content = left.read_bytes() if left.exists() else b""
                content = content.replace(places[0], _REPORTS).replace(places[1], _RUN)
                _REMEMBERED[key] = (
                    int(result.ret),
                    result.stdout.str(),
                    result.stderr.str(),
                    content,
                )
            status, out, err, content = _REMEMBERED[key]
            if content:
                left.write_bytes(content.replace(_REPORTS, places[0]).replace(_RUN, places[1]))
        return subprocess.CompletedProcess(command, status, out, err)

    return run


def line_of(command: list[str]) -> list[str]:
    """Return what a person types for the run of a command, each value behind its option."""
    return apart(command_line(RunRequest(**json.loads(request_in(command).read_text())["request"])))


def _first_argument(command: list[str]) -> int:
    """Return the place of pytest's first argument, behind code, process and request."""
    return command.index("-c") + 4


def request_in(command: list[str]) -> Path:
    """Return the file with the request in the command of a run's process."""
    return Path(command[_first_argument(command) - 1])


def run_here(monkeypatch, pytester, runs: list[list[str]]) -> None:
    """Have runs of the gate in this process, shown or read; `runs` keeps their commands."""
    monkeypatch.setattr(subprocess, "run", in_this_process(pytester, runs))
    shown_by_run(monkeypatch)

    def ask(self, path, arguments):
        command = [sys.executable, "-u", "-c", "", "", str(path), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        return run.returncode, tuple((run.stdout + run.stderr).strip().splitlines())

    monkeypatch.setattr(WarmProcess, "ask", ask)


def shown_by_run(monkeypatch) -> None:
    """Have runs started by `subprocess.run`, which tests replace."""

    def shown(command, environment, **_):
        return subprocess.run(command, env=environment, check=False).returncode, None

    def captured(command, environment, on_line):
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        lines = tuple((run.stdout + run.stderr).strip().splitlines())
        for line in lines if on_line else ():
            on_line(line)
        return run.returncode, lines

    monkeypatch.setattr("harness.run.inner._in_terminal", shown)
    monkeypatch.setattr("harness.run.inner._captured", captured)


def kept_predictions(folder: Path) -> dict[str, bytes]:
    """Return the contents of a cache's entries, without the facts at their ends."""
    found = {}
    for path in folder.glob("**/*.entry"):
        with closing(Store(path.parent).opened(path.stem)) as entry:
            found[path.name] = path.read_bytes()[: entry.bytes]
    return found


def apart(arguments: list[str]) -> list[str]:
    """Return a command line with paths apart from their options.

    The gate joins them by an equals sign.
    """
    paths = (
        "--candidate=",
        "--baseline=",
        "--incumbent=",
        "--original=",
        "--checks=",
        "--stress-reports=",
        "--stress-set=",
    )
    return [
        part
        for each in arguments
        for part in (each.split("=", 1) if each.startswith(paths) else [each])
    ]


def _digest(folder: Path, arguments: list[str]) -> str:
    """Return a hash of a command and of the files that it may read."""
    digest = hashlib.sha256(repr(arguments).encode())
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".py", ".toml", ".ini", ".npz", ".safetensors"}:
            digest.update(
                str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest()
            )
    return digest.hexdigest()


@contextmanager
def hypothesis_as_it_starts():
    """Restore Hypothesis's default profile in this thread, before and after a run inside."""
    hypothesis.settings.load_profile("default")
    yield
    hypothesis.settings.load_profile("default")
