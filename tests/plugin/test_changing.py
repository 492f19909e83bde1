"""Files and a user's code are inputs of a run.

All processes have the same, and a change ends the run with 4.
"""

import pytest
import torch
from zoo import network

from harness.base.errors import ChangedError
from harness.run.inputs import expect_unchanged, inputs_of_run, state_of

pytestmark = pytest.mark.usefixtures("unchecked")
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
import pathlib, pytest

@pytest.hookimpl(trylast=True)
def {hook}:
    for name in {names!r}:
        path = pathlib.Path(r"{root}") / name
        path.write_bytes(path.read_bytes() + b"\\n")
"""
INPUTS = (
    "runs/new.safetensors",
    "models/baseline.safetensors",
    "stress_tests/checks.toml",
    "zoo.npz",
    "pytest.ini",
)
CODE = (
    "net.py",
    "parts/layers.py",
    "conftest.py",
    "stress_tests/test_clean.py",
    "stress_tests/helped.py",
    "more.py",
)
UNUSED = ("script.py", "stress_tests/unused.py", "parts/unused.py")


@pytest.fixture(scope="module")
def project(shared):
    """Return a project with a network in modules that import others, and its checks."""
    texts = {
        "parts/__init__.py": "",
        "parts/layers.py": LAYERS,
        "net.py": NET,
        "more.py": "VALUE = 1\n",
    }
    texts |= {"stress_tests/helped.py": "from more import VALUE\n", "conftest.py": ""}
    (shared.root / "parts").mkdir()
    for name, text in {**texts, **dict.fromkeys(UNUSED, "x = 1\n")}.items():
        (shared.root / name).write_text(text)
    clean = shared.tests / "test_clean.py"
    path = (
        "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parents[1]))\nimport "
        "helped\n"
    )
    clean.write_text(path + clean.read_text())
    torch.save(network().state_dict(), shared.root / "net.pth")
    shared.save("runs/new.safetensors")
    shared.save("models/baseline.safetensors", jitter=0.01)
    shared.own = ("--candidate=net.pth", "--stress-set", "model=net:build", "--baseline=none")
    shared.two = ("--candidate=runs/new.safetensors", "--baseline=models/baseline.safetensors")
    return shared


def changed(project, ran, name, change=lambda text: text + b"\n") -> str:
    """Return why the state of a run that has ended refuses it after a change of a file.

    Empty if it does not.
    """
    path = project.root / name
    before = path.read_bytes()
    inputs = state_of(inputs_of_run(ran.gate.request))
    path.unlink() if change is None else path.write_bytes(change(before))
    try:
        expect_unchanged(inputs)
        ran.gate.expect_same_code()
    except ChangedError as error:
        return str(error)
    finally:
        path.write_bytes(before)
    return ""


def test_what_is_an_input_of_a_run(project, monkeypatch):
    """Code that nothing imports is none, and the same bytes written again are no change."""
    monkeypatch.setattr("harness.run.steadiness.asked_elsewhere", lambda *_: [])
    ran = project.once(*project.own)
    assert ran.ending == (0, "pass"), ran.said
    for name in (*CODE, "net.pth", "zoo.npz", "stress_tests/checks.toml", "pytest.ini"):
        assert f"{name}: changed while the gate ran" in changed(project, ran, name), name
    assert "more.py: changed while the gate ran" in changed(project, ran, "more.py", None)
    assert "net.pth: changed while the gate ran: it was SHA-256 " in (
        said := changed(project, ran, "net.pth", None)
    )
    assert "and is no file now" in said
    for name in UNUSED:
        assert changed(project, ran, name) == "", name
    assert changed(project, ran, "net.pth", lambda text: text) == ""


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        ("pytest_runtest_teardown()", "more.py"),
        ("pytest_runtest_teardown()", "models/baseline.safetensors"),
        ("pytest_terminal_summary()", "runs/new.safetensors"),
        ("pytest_unconfigure()", "stress_tests/checks.toml"),
    ],
)
def test_a_file_that_changes_in_a_run_ends_it_with_4(project, hook, name):
    code = CHANGES.format(hook=hook, names=[name], root=project.root)
    ran = project.once(*project.two, files={"conftest.py": code, name: lambda text: text})
    assert ran.ending == (4, "error")
    assert f"{name}: changed while the gate ran" in ran.why


@pytest.mark.processes
@pytest.mark.parametrize("name", ["net.py", "stress_tests/checks.toml", "net.pth"])
def test_what_changes_before_a_worker_reads_it_ends_with_4(project, name):
    code = CHANGES.format(hook="pytest_configure_node(node)", names=[name], root=project.root)
    ran = project.once(
        *project.own, "-n", "1", files={"conftest.py": code, name: lambda text: text}
    )
    assert ran.ending == (4, "error")
    assert f"{name}: changed while the gate ran" in ran.why
