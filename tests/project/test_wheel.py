"""Installed from a wheel, in a repository that adopts the gate by the package alone."""

import json
import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from workflow_runner import Runner
from zoo import CLEAN as CLEAN_ROW
from zoo import Zoo

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.wheel
BUILDER = """
import torch


class Bright(torch.nn.Module):
    \"\"\"Compares the upper half with the lower.\"\"\"

    def __init__(self, gain=1.0):
        super().__init__()
        self.weigh = torch.nn.Linear(64, 2)
        self.gain = gain

    def forward(self, x):
        return self.gain * self.weigh(x.mean(1).flatten(1))
"""
GIVEN = (
    "--data",
    "folder:photos/test",
    "--size",
    "8",
    "--model",
    "bright:Bright",
    "--set",
    "model_args.gain=4",
)
DATA = "data: folder:photos/test, size 8 (from stress_tests/checks.toml)"
CLEAN = "stress_tests/test_clean.py::test_clean_accuracy"


def run(*command, cwd, ok=0) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "PYTEST_ADDOPTS"}
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == ok, done.stdout + done.stderr
    return done


def built(source: Path, *how: str) -> Path:
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "dist", *how, ".", cwd=source
    )
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build it from a copy: nothing is left here, and nothing left here gets into it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    # Files outside the wheel, as in the checkout.
    for name in ("harness", "tests", "stress_tests", "docs", "examples"):
        shutil.copytree(
            REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "runs")
        )
    return built(source)


def environment_with(folder: Path, *wheels: Path) -> Path:
    """Return the interpreter of a new environment that has these wheels.

    Their dependencies come from this environment.
    """
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        interpreter,
        "install",
        "-q",
        "--no-deps",
        *wheels,
        cwd=folder,
    )
    return interpreter


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Return the interpreter of a new environment that has the wheel."""
    return environment_with(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module")
def python_with_feature(wheel, tmp_path_factory) -> Path:
    """Return the interpreter of a new environment with the wheel and that of `examples/feature`."""
    source = tmp_path_factory.mktemp("feature") / "source"
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(REPOSITORY / "examples/feature", source, ignore=ignored)
    return environment_with(tmp_path_factory.mktemp("with-feature"), wheel, built(source))


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Path:
    """A repository with photographs of two cameras, a network, and weights.

    The weights are of reference models and of a bad one.
    """
    for name, value in (
        ("XDG_CACHE_HOME", str(tmp_path / "cache")),
        ("PYTEST_XDIST_AUTO_NUM_WORKERS", "1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root, rng = tmp_path / "shop", np.random.default_rng(0)
    rows = ["path,camera"]
    for name, bright in (("floor", slice(4, 8)), ("sky", slice(0, 4))):
        (root / "photos/test" / name).mkdir(parents=True)
        for number in range(200):
            pixels = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
            pixels[bright] += 14
            Image.fromarray(pixels).save(root / f"photos/test/{name}/{number}.png")
            rows.append(f"{name}/{number}.png,{'front' if number % 2 else 'rear'}")
    (root / "photos/test/groups.csv").write_text("\n".join(rows) + "\n")
    (root / "bright.py").write_text(BUILDER)
    (root / "runs").mkdir()
    for seed, name in enumerate(("seed-1", "seed-2", "seed-3", "good", "bad")):
        noise = torch.randn(64, generator=torch.Generator().manual_seed(seed)) / 20
        weight = (0 if name == "bad" else 1) * (
            torch.cat([-torch.ones(32), torch.ones(32)]) + noise
        )
        state = {"weigh.weight": torch.stack([weight, -weight]), "weigh.bias": torch.zeros(2)}
        torch.save(state, root / f"runs/{name}.pth")
    return root


def test_the_wheel_holds_the_package_and_its_data_alone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        names = [
            name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")
        ]
        shipped = {
            path.name: path.read_bytes() for path in (REPOSITORY / "stress_tests").glob("test_*.py")
        }
        assert all(
            archive.read(f"harness/stress_tests/{name}") == content
            for name, content in shipped.items()
        )
    assert {name.split("/")[0] for name in names} == {"harness"}
    # "" is a license, ".md" the documentation. The last three are reports.
    kinds = {".py", ".typed", ".gz", "", ".toml", ".md", ".html", ".css", ".js"}
    assert {Path(name).suffix for name in names} == kinds
    assert "harness/data/fashion_mnist_files/t10k-images-idx3-ubyte.gz" in names
    on_disk = {
        path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "harness").glob("**/*.py")
    }
    on_disk |= {f"harness/stress_tests/{name}" for name in shipped}
    assert on_disk == {name for name in names if name.endswith(".py")}
    # A source distribution builds the same.
    source = tmp_path / "source"
    shutil.copytree(
        wheel.parents[1], source, ignore=shutil.ignore_patterns("dist", "build", "*.egg-info")
    )
    run(
        sys.executable, "-c", "import setuptools.build_meta as b; b.build_sdist('dist')", cwd=source
    )
    (archive,) = (source / "dist").glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    (unpacked,) = tmp_path.glob("stress_harness-*")
    with (
        zipfile.ZipFile(wheel) as one,
        zipfile.ZipFile(built(unpacked, "--no-build-isolation")) as other,
    ):
        assert set(one.namelist()) == set(other.namelist())


def test_an_installed_package_prints_the_pages_that_messages_name(shop, python):
    done = run(python, "-m", "harness", "docs", "troubleshooting#data", cwd=shop)
    assert done.stdout.startswith("### DATA\n")
    listed = run(python, "-m", "harness", "docs", cwd=shop).stdout
    pages = {
        path.relative_to(REPOSITORY / "docs").with_suffix("").as_posix()
        for path in REPOSITORY.glob("docs/**/*.md")
    }
    assert pages == {line.split()[0] for line in listed.splitlines()[1:]}


def test_its_tests_are_collected_where_the_checks_file_is(shop, python):
    def judged(candidate: str, *places: str) -> tuple[str, str]:
        status = {"good": 0, "bad": 1}[candidate]
        command = (python, "-m", "pytest", "-v", f"--candidate=runs/{candidate}.pth", *places)
        done, report = (
            run(*command, cwd=shop, ok=status),
            json.loads((shop / "reports/stress.json").read_text()),
        )
        assert (shop / "reports/stress.html").exists()
        assert f"{CLEAN}[clean]" in done.stdout
        return report["verdict"], report["candidate"]["architecture"]

    wanted = ("--families", "clean", "--min-accuracy", "0.9", "--budget", "none")
    run(python, "-m", "harness", "init", *GIVEN, *wanted, cwd=shop)
    assert [path.name for path in (shop / "stress_tests").iterdir()] == ["checks.toml"]
    where = run(python, "-c", "import harness; print(harness.__file__)", cwd=shop).stdout
    assert Path(where.strip()).is_relative_to(python.parents[1]), (
        "the package is that of the environment"
    )
    (shop / "conftest.py").write_text(
        'pytest_plugins = ["harness.plugin"]\n'
    )  # As its entry point does.
    assert judged("good", CLEAN) == ("pass", "user")
    assert judged("bad", "stress_tests", "-n", "1") == ("fail", "user")
    assert (
        "name the checkpoint to judge with --candidate"
        in run(python, "-m", "pytest", cwd=shop, ok=4).stderr
    )
    run(python, "-m", "harness", "init", "--copy", "clean", cwd=shop)
    copy = shop / "stress_tests/test_clean.py"
    assert copy.read_bytes() == (REPOSITORY / "stress_tests/test_clean.py").read_bytes()
    copy.write_text(copy.read_text().replace("test_clean_accuracy", "test_mine"))
    collected = run(python, "-m", "pytest", "--collect-only", "-q", cwd=shop).stdout.splitlines()
    assert [line for line in collected if line.endswith("[clean]")] == [
        "stress_tests/test_clean.py::test_mine[clean]"
    ]


DARK = """
[[check]]
id = "darkness-080"
family = "darkness"
metric = "changed_in_the_dark"
light = 0.8
hand = { threshold = 0.3 }
"""


def test_a_feature_of_another_package_is_part_of_the_gate(tmp_path, python_with_feature):
    """The example of a feature.

    Its family, metric, stress test, section, command, setting and self-check.
    """
    zoo = Zoo(tmp_path, tests=("clean",))
    zoo.bind(CLEAN_ROW + DARK)

    def harness(*arguments: str, ok: int = 0) -> str:
        return run(python_with_feature, "-m", "harness", *arguments, cwd=tmp_path, ok=ok).stdout

    data = ("--data", zoo.data)
    assert "Print a model's accuracy in less and less light." in harness("--help")
    printed = harness("darkness", "models/augmented.safetensors", *data)
    assert " 80% of the light" not in printed
    assert re.search(r"^100% of the light: 92.0%$", printed, re.MULTILINE)
    assert re.search(r"^light +Scope +SHARE ", harness("list", "settings"), re.MULTILINE)
    assert "changed_in_the_dark" in harness("list", "metrics")

    gate = ("-m", "pytest", "-v", f"--stress-set=data={zoo.data}", "--stress-set=light=0.9")
    for workers in ((), ("-n", "2")):
        done = run(python_with_feature, *gate, *workers, "stress_tests", cwd=tmp_path)
        assert "stress_tests/test_darkness.py::test_predictions_hold_in_the_dark" in done.stdout
        report = json.loads((tmp_path / "reports/stress.json").read_text())
        checks = {check["id"]: check["status"] for check in report["checks"]}
        assert checks["darkness-080"] == "pass"
        assert checks["darkness-0-9"] == "informational"
        self_checks = {check["name"]: check["status"] for check in report["self_checks"]}
        assert self_checks["lost-in-the-dark"] == "pass"
        assert report["versions"]["stress-darkness"] == "0.1.0"
        assert 'id="report-darkness"' in (tmp_path / "reports/stress.html").read_text()

    harness("gate", f"--stress-set=data={zoo.data}")
    zoo.bind(CLEAN_ROW + DARK.replace("0.3 }", "0.01 }"))
    harness("gate", f"--stress-set=data={zoo.data}", ok=1)


def test_the_first_checks_of_a_feature_are_offered(shop, python_with_feature):
    wanted = ("--families", "clean,darkness", "--budget", "none")
    run(python_with_feature, "-m", "harness", "init", *GIVEN, *wanted, cwd=shop)
    rows = tomllib.loads((shop / "stress_tests/checks.toml").read_text())["check"]
    assert {"id": "darkness-080", "family": "darkness", "light": 0.8}.items() <= rows[-1].items()


def test_without_its_package_the_rows_of_a_feature_do_not_run(tmp_path, python):
    zoo = Zoo(tmp_path, tests=("clean",))
    zoo.bind(CLEAN_ROW + DARK)
    gate = ("gate", f"--stress-set=data={zoo.data}")
    run(python, "-m", "harness", *gate, cwd=tmp_path, ok=4)
    report = json.loads((tmp_path / "reports/stress.json").read_text())
    (omission,) = report["omissions"]
    assert omission.endswith("did not run: darkness-080; families without a test: darkness")


def test_nothing_of_the_harness_names_the_example():
    files = [
        path for path in (REPOSITORY / "harness").rglob("*") if path.suffix in {".py", ".toml"}
    ]
    assert [path for path in files if "darkness" in path.read_text("utf-8")] == []


def test_other_projects_of_the_environment_notice_nothing(tmp_path, python):
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_other():\n    assert not {'torch', 'cv2', 'matplotlib'} & "
        "set(sys.modules)\n"
    )
    done = run(python, "-m", "pytest", "-p", "no:cacheprovider", cwd=tmp_path)
    assert "1 passed" in done.stdout
    assert "quality gate" not in done.stdout
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == [
        "test_other.py"
    ]


def test_a_repository_is_made_calibrated_used_and_run_by_its_workflow(shop, python, tmp_path):
    def harness(*arguments: str, ok: int = 0) -> str:
        return run(python, "-m", "harness", *arguments, cwd=shop, ok=ok).stdout

    def git(*arguments: str) -> str:
        return run(
            "git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments, cwd=shop
        ).stdout.strip()

    later = {
        name: (shop / f"runs/{name}.pth").rename(tmp_path / f"{name}.pth")
        for name in ("good", "bad")
    }
    wanted = (
        "--families",
        "clean,class,regression",
        "--min-accuracy",
        "0.5",
        "--budget",
        "none",
        "--ci",
        "github",
    )
    said = harness("init", *GIVEN, *wanted, "--checkpoint", "runs/seed-1.pth")
    groups = (
        "groups: camera (rear 200, front 200); each group gets a check by\n  stress-harness init "
        "--families slice\n"
    )
    assert groups in said
    git("init", "-q")
    assert "  stress-harness accept --provisional FILE" in said, (
        "the checkpoint is the first reference model"
    )
    assert re.findall(r"--candidate (\S+)", said) == ["runs/seed-1.pth"]
    said = harness("calibrate", "--checkpoints", *(f"runs/seed-{seed}.pth" for seed in (1, 2, 3)))
    assert said.splitlines()[0] == DATA
    assert "replaces the one by hand, 0.5, that was until calibrated" in said
    git("add", "-A")
    git("commit", "-q", "-m", "a gate")
    base = git("rev-parse", "HEAD")
    for name, path in later.items():
        path.rename(shop / f"runs/{name}.pth")
    said = harness("accept", "runs/good.pth")
    assert "accepted, models/incumbent.safetensors is the last accepted model" in said
    said = harness("compare", "runs/bad.pth", "models/incumbent.safetensors")
    assert said.splitlines()[0] == DATA
    assert "incumbent" in said

    # Another test has its workflow gate several checkpoints, without the package.
    git("add", "runs/bad.pth")
    git("commit", "-q", "-m", "a checkpoint")
    git("clone", "-q", str(shop), str(tmp_path / "clone"))
    job = YAML(typ="safe").load(shop / ".github/workflows/model-gate.yml")["jobs"]["gate"]
    environment = {"PYTHONPATH": "", "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]}
    expressions = {"github.event.pull_request.base.sha": base}
    runner = Runner(tmp_path / "clone", job, expressions, Path(python).parent, environment)
    assert not runner.run()
    assert runner.statuses["Gate"] == 1, runner.output
    assert "stress: 4 checks on 400 images of test" in runner.output["Gate"]
    report = json.loads((tmp_path / "clone/reports/stress.json").read_text())
    assert (report["candidate"]["path"], report["verdict"]) == ("runs/bad.pth", "fail")
