"""A user's code is an input of a run: all processes have the same, and what changes meanwhile ends the run with 4."""

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules.
import pytest
import scipy.stats  # noqa: F401
import torch
from zoo import network

NET = """
from parts.layers import Net

def build():
    return Net(conv_channels=[1], fc_sizes=[], image_size=[16, 16], classes=4, mean=0.0, std=1.0)
"""
LAYERS = """
from harness.networks.architectures import FashionCNN

class Net(FashionCNN):
    pass
"""
CHANGES = """
import pathlib

def {hook}:
    path = pathlib.Path(r"{path}")
    path.write_text(path.read_text() + "\\nCHANGED = True\\n")
"""
CODE = ("net.py", "parts/layers.py", "conftest.py", "stress_tests/test_clean.py", "stress_tests/helped.py", "more.py")


@pytest.fixture
def project(zoo):
    """Return a project with a network and a transform of its own, in modules that import others."""
    (zoo.root / "parts").mkdir()
    (zoo.root / "parts/__init__.py").write_text("")
    (zoo.root / "parts/layers.py").write_text(LAYERS)
    (zoo.root / "net.py").write_text(NET)
    (zoo.root / "more.py").write_text("VALUE = 1\n")
    (zoo.tests / "helped.py").write_text("from more import VALUE\n")
    clean = zoo.tests / "test_clean.py"
    path = "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parents[1]))\nimport helped\n"
    clean.write_text(path + clean.read_text())
    torch.save(network().state_dict(), zoo.root / "net.pth")
    zoo.arguments = ("--candidate", "net.pth", "--stress-set", "model=net:build")
    return zoo


@pytest.mark.processes
@pytest.mark.parametrize("name", ["net.py", "parts/layers.py", "stress_tests/test_clean.py"])
def test_code_that_changes_before_a_worker_reads_it_ends_with_4(project, name):
    code = CHANGES.format(hook="pytest_configure_node(node)", path=project.root / name)
    (project.root / "conftest.py").write_text(code)
    result = project.run(*project.arguments, "-n", "2")
    assert result.ret == 4
    assert any(f"{name}: changed while the gate ran" in error for error in project.report()["errors"])


@pytest.mark.parametrize("name", CODE)
def test_code_that_changes_during_a_run_ends_with_4(project, name):
    code = CHANGES.format(hook="pytest_runtest_teardown(item)", path=project.root / name)
    (project.root / "conftest.py").write_text(code)
    result = project.run(*project.arguments)
    assert result.ret == 4
    assert any(f"{name}: changed while the gate ran" in error for error in project.report()["errors"])


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.processes)], ids=["serial", "n2"])
def test_code_that_stays_is_no_error(project, workers):
    (project.root / "conftest.py").write_text("")
    result = project.run(*project.arguments, *workers)
    assert result.ret == 0, result.stdout.str()


@pytest.mark.parametrize("name", ["script.py", "stress_tests/unused.py", "parts/unused.py"])
def test_code_that_nothing_imports_may_change(project, name):
    (project.root / name).write_text("x = 1\n")
    code = CHANGES.format(hook="pytest_runtest_teardown(item)", path=project.root / name)
    (project.root / "conftest.py").write_text(code)
    result = project.run(*project.arguments)
    assert result.ret == 0, result.stdout.str()


def test_a_module_that_is_gone_has_changed(project):
    code = (
        "import pathlib\n\ndef pytest_runtest_teardown(item):\n    path = pathlib.Path(r'{}')\n    path.unlink(True)\n"
    )
    (project.root / "conftest.py").write_text(code.format(project.root / "more.py"))
    result = project.run(*project.arguments)
    assert result.ret == 4
    assert any("more.py: changed while the gate ran" in error for error in project.report()["errors"])
