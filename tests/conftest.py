"""Warnings are errors in these tests; a user's model, in the gate, may warn.

Long tests run when asked for.
"""

import gc
import importlib
import logging
import os
import pkgutil
import signal
import sys
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path

import _pytest.faulthandler
import _pytest.fixtures
import _pytest.pytester
import PIL.Image
import pytest
import torch

import harness
from harness.base import imports

# Imported before any test: some warn at their first import, and warnings are errors in tests.
LIBRARIES = (
    *(
        "cv2",
        "filelock",
        "hypothesis",
        "jinja2",
        "matplotlib.backends.backend_agg",
        "matplotlib.backends.backend_svg",
    ),
    *("PIL.ImageDraw", "PIL.ImageFont", "scipy.stats", "torch._dynamo"),
    "torch._subclasses.schema_check_mode",
)
os.fsync = lambda file: None  # No test cuts the power, and a disk takes its time.
os.environ.pop(
    "PYTHONDONTWRITEBYTECODE", None
)  # Processes that tests start read what the first of them compiled.
for name in ("CI", "BUILD_NUMBER", "TF_BUILD"):  # There, runs leave the history alone.
    os.environ.pop(name, None)


class ModulesSnapshot:
    """Modules to restore after a run inside this process.

    The run drops those of its own files and no library. A compiled module that is loaded a second
    time may end the process. A thread that imports a missing module loads a second one; later
    patches reach only one of the two.
    """

    def __init__(self, preserve):
        self._preserve = preserve
        self._saved = dict(sys.modules)

    def restore(self):
        for name in sys.modules.keys() - self._saved.keys():
            if not self._preserve(name) and not _installed(sys.modules.get(name)):
                sys.modules.pop(name, None)
        sys.modules.update(self._saved)


def _installed(module):
    """Return whether a module belongs to Python, the interpreter or an installed package."""
    spec = getattr(module, "__spec__", None)
    if not isinstance(spec, ModuleSpec):  # Made by a test, or by the code of a user.
        return False
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    return all(
        place.startswith((sys.prefix, sys.base_prefix, str(Path(harness.__file__).parent)))
        for place in places
    )


_pytest.pytester.SysModulesSnapshot = ModulesSnapshot
# Each run would look through all that its dozens of plugins define for fixtures that a decorator
# hides.
_pytest.fixtures.FixtureManager._check_for_wrapped_fixture = lambda *arguments: None
# A run inside this process would leave the fault handler with a file that is captured: a crash
# would say nothing.
_pytest.faulthandler.pytest_configure = _pytest.faulthandler.pytest_unconfigure = lambda config: (
    None
)


def kept(fact):
    """Return a fact of an installed package that is read once.

    Pytest looks at those of all packages before a run.
    """
    read, found = getattr(metadata.Distribution, fact).fget, {}

    def get(package):
        if package._path not in found:
            found[package._path] = read(package)
        return found[package._path]

    return property(get)


for fact in ("metadata", "entry_points", "files"):
    setattr(metadata.PathDistribution, fact, kept(fact))
HERE = Path(__file__).parent
imports._FOREIGN += (
    f"{HERE}{os.sep}",
)  # Else each run would hash all modules of tests as the user's code.
# Networks here are small, and a second thread waits for the first more than it helps, most of all
# beside other tests.
torch.set_num_threads(1)
ON_REQUEST = (
    "browser",
    "notebook",
    "docs",
    "faults",
    "wheel",
    "determinism",
    "cluster",
    "processes",
    "server",
    "soak",
    "photographs",
    "smoke",
    "lint",
)


def pytest_collection():
    """Import what tests use; a controller of workers collects nothing, and so imports nothing."""
    modules = (module.name for module in pkgutil.walk_packages(harness.__path__, "harness."))
    for name in (*LIBRARIES, *(name for name in modules if not name.endswith("__main__"))):
        importlib.import_module(name)
    for logger in logging.root.manager.loggerDict.values():
        # PyTorch has dozens that do not, and to each of them pytest adds handlers per test.
        logger.propagate = True
    PIL.Image.init()


def pytest_collection_finish():
    gc.collect()
    gc.freeze()  # Imports and tests stay, so no collection of garbage looks at them again.
    gc.set_threshold(20_000)


def pytest_collection_modifyitems(config, items):
    asked = [name for name in ON_REQUEST if name not in config.option.markexpr]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in asked)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)


@pytest.fixture(autouse=True)
def modules_of_one_test(tmp_path_factory):
    """Drop modules that a test imported from its folders.

    Another test may have others of the same names.
    """
    before = set(sys.modules)
    imports.begin()
    yield
    for name in sys.modules.keys() - before:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and Path(file).is_relative_to(tmp_path_factory.getbasetemp()):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def same_weights_in_every_run():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def interruptible():
    """Let children be interrupted.

    A shell that runs its commands in the background has them ignore SIGINT.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def zoo(request, pytester, tmp_path, monkeypatch):
    """Return the little repository.

    The marker `zoo(rows, tests=...)` says which checks and stress tests it has.
    """
    from zoo import GatedZoo

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    marker = request.node.get_closest_marker("zoo")
    place = GatedZoo(pytester, **(marker.kwargs if marker else {}))
    if marker and marker.args:
        place.bind(*marker.args)
    return place


@pytest.fixture(scope="module")
def shared(request, tmp_path_factory):
    """Return the repository for all tests of a module.

    Its `TESTS` and `BOUND` are its stress tests and rows.
    """
    from zoo import zoo_for_all

    tests = getattr(request.module, "TESTS", None)
    with zoo_for_all(request, tmp_path_factory, **({"tests": tests} if tests else {})) as place:
        if (rows := getattr(request.module, "BOUND", None)) is not None:
            place.bind(rows)
        yield place


@pytest.fixture(scope="module")
def cache_of_module(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def runs(pytester, monkeypatch, cache_of_module):
    """Run the gate of commands in this process, with one cache for all tests of a module.

    Yield their command lines.
    """
    from zoo import hypothesis_as_it_starts, run_here

    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_of_module))
    run_here(monkeypatch, pytester, commands := [])
    with hypothesis_as_it_starts():
        yield commands


@pytest.fixture
def unchecked(monkeypatch):
    """Leave self-checks, which take longest, out of runs in this process.

    For tests of what else a run does.
    """
    from harness.run.findings import SelfCheck

    made = (SelfCheck("none", "pass", "not tried here"),)
    monkeypatch.setattr("harness.run.self_checks.self_checks", lambda *_, **__: made)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with a feature of some code, as if by pip, for this test.

    Return the file of its module.

    Tables that exist already keep what they have.
    """
    from harness.base import features

    def installed(name: str, code: str, *, module: str = "") -> Path:
        place = tmp_path / f"{name}-installed"
        info = place / f"stress_{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: stress-{name}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[stress_harness]\n{name} = {module or name}\n")
        (place / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(place)
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(features, "_loaded", cache(features._loaded.__wrapped__))
        return place / f"{name}.py"

    return installed


@pytest.fixture(autouse=True)
def nothing_declared_stays(monkeypatch):
    """Hide from each test what user code of another test has declared in this process."""
    from harness.measures import METRICS
    from harness.perturb.corruptions import CORRUPTIONS

    for table in (CORRUPTIONS, METRICS):
        monkeypatch.setattr(table, "_declared", {})
