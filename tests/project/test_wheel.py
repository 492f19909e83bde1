"""Installed from a wheel into an environment of its own, in a project that has nothing to do with this repository."""

import json
import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.wheel


def run(*command, cwd, ok=(0,)) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTEST_ADDOPTS"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in ok, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build it from a copy: nothing is left here, and nothing left here gets into it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    # Files outside the wheel, as in the checkout.
    for name in ("harness", "tests", "stress_tests", "examples"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "dist", ".", cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Return the interpreter of a new environment that has the wheel; what it depends on is taken from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    run(sys.executable, "-m", "pip", "--python", interpreter, "install", "-q", "--no-deps", wheel, cwd=folder)
    return interpreter


def test_the_wheel_holds_the_package_and_its_data_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")]
    assert {name.split("/")[0] for name in names} == {"harness"}
    kinds = {".py", ".typed", ".gz", "", ".toml", ".html", ".css", ".js"}  # "": a licence; the last three: reports.
    assert {Path(name).suffix for name in names} == kinds
    assert "harness/data/fashion_mnist_files/t10k-images-idx3-ubyte.gz" in names
    on_disk = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "harness").glob("**/*.py")}
    shipped = {path.name: path.read_bytes() for path in (REPOSITORY / "stress_tests").glob("test_*.py")}
    with zipfile.ZipFile(wheel) as archive:
        assert all(archive.read(f"harness/stress_tests/{name}") == content for name, content in shipped.items())
    on_disk |= {f"harness/stress_tests/{name}" for name in shipped}
    assert on_disk == {name for name in names if name.endswith(".py")}


MODEL = """
import torch

class Bright(torch.nn.Module):
    \"\"\"Compares the upper half with the lower.\"\"\"

    def __init__(self, gain=1.0):
        super().__init__()
        self.pool = torch.nn.Conv2d(3, 1, 1, bias=False)
        self.gain = gain

    def forward(self, x):
        grey = self.pool(x)[:, 0]
        upper, lower = grey[:, :4].mean((1, 2)), grey[:, 4:].mean((1, 2))
        return self.gain * torch.stack([upper - lower, lower - upper], dim=1)
"""


@pytest.fixture
def project(tmp_path, python) -> Path:
    """A project of its own: photographs, a network and its weights, and the gate that the package makes of it."""
    rng = np.random.default_rng(0)
    for name, bright in (("floor", slice(8, 16)), ("sky", slice(0, 8))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 100, (16, 16, 3), dtype=np.uint8)
            pixels[bright] += 150
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "bright.py").write_text(MODEL)
    for name, sign in (("good.pth", -1.0), ("bad.pth", 1.0)):
        torch.save({"pool.weight": torch.full((1, 3, 1, 1), sign)}, tmp_path / name)
    given = ("--data", "folder:photos", "--size", "8", "--model", "bright:Bright")
    wanted = ("--set", "model_args.gain=4", "--families", "clean", "--min-accuracy", "0.9")
    run(python, "-m", "harness", "init", *given, *wanted, cwd=tmp_path)
    return tmp_path


CLEAN = "stress_tests/test_clean.py::test_clean_accuracy"


@pytest.mark.parametrize(
    ("candidate", "verdict", "places"),
    [
        ("good.pth", "pass", ()),
        ("good.pth", "pass", (CLEAN,)),
        ("bad.pth", "fail", ("stress_tests", "-n", "2")),
        ("none.pth", "error", ()),
    ],
)
def test_it_checks_a_model_of_an_unrelated_project(project, python, candidate, verdict, places):
    """Its tests are collected where the checks file is, without a copy of them."""
    assert [path.name for path in (project / "stress_tests").iterdir()] == ["checks.toml"]
    done = run(
        python,
        "-m",
        "pytest",
        "-v",
        f"--candidate={candidate}",
        *places,
        cwd=project,
        ok=({"pass": 0, "fail": 1, "error": 4}[verdict],),
    )
    report = json.loads((project / "reports/stress.json").read_text())
    architecture = "" if verdict == "error" else "user"  # A refused file is not opened.
    assert (report["verdict"], report["candidate"]["architecture"]) == (verdict, architecture)
    assert (project / "reports/stress.html").exists()
    assert (f"{CLEAN}[clean]" in done.stdout) == (verdict != "error")


def test_a_test_that_is_copied_replaces_that_of_the_package(project, python):
    run(python, "-m", "harness", "init", "--copy", "clean", cwd=project)
    copy = project / "stress_tests/test_clean.py"
    assert copy.read_bytes() == (REPOSITORY / "stress_tests/test_clean.py").read_bytes()
    copy.write_text(copy.read_text().replace("test_clean_accuracy", "test_mine"))
    done = run(python, "-m", "pytest", "--collect-only", "-q", cwd=project)
    assert [line for line in done.stdout.splitlines() if "::" in line and "clean]" in line] == [
        "stress_tests/test_clean.py::test_mine[clean]"
    ]


def test_a_source_distribution_builds_the_same_wheel(wheel, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(wheel.parents[1], source, ignore=shutil.ignore_patterns("dist", "build", "*.egg-info"))
    run(sys.executable, "-c", "import setuptools.build_meta as b; b.build_sdist('dist')", cwd=source)
    (archive,) = (source / "dist").glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    (unpacked,) = tmp_path.glob("stress_harness-*")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "dist", ".", cwd=unpacked)
    (again,) = (unpacked / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert set(one.namelist()) == set(other.namelist())


def test_entry_point_and_conftest_together_register_once(project, python):
    where = run(python, "-c", "import harness; print(harness.__file__)", cwd=project).stdout
    assert Path(where.strip()).is_relative_to(python.parents[1]), "the package is that of the environment"
    (project / "conftest.py").write_text('pytest_plugins = ["harness.plugin"]\n')
    run(python, "-m", "pytest", "--candidate", "good.pth", cwd=project)
    done = run(python, "-m", "pytest", cwd=project, ok=(4,))
    assert "models/augmented.safetensors: there is no such file" in done.stderr
    assert "name the checkpoint to judge with --candidate" in done.stderr


def test_other_projects_of_the_environment_notice_nothing(tmp_path, python):
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_other():\n    assert not {'torch', 'cv2', 'matplotlib'} & set(sys.modules)\n"
    )
    done = run(python, "-m", "pytest", "-p", "no:cacheprovider", cwd=tmp_path)
    assert "1 passed" in done.stdout
    assert "quality gate" not in done.stdout
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["test_other.py"]
