"""Checks are measured anew when a file that decides them changes, and not when another does."""

import shutil
from pathlib import Path

import pytest
from zoo import STRESS_TESTS, checks_text, images_of

from harness.base import decisive
from harness.base.decisive import decisive_files
from harness.base.errors import InputError
from harness.calibration.recording import Recording
from harness.checks import read_checks
from harness.run import session

HOUSE = Path(session.__file__).parents[1]


def written(folder: Path, files: dict[str, str]) -> Path:
    """Write modules, named by their paths, and return the folder."""
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names_of(folder: Path, *sources: str, projects=()) -> set[str]:
    found = decisive_files([folder / source for source in sources], projects=projects)
    return {str(file.relative_to(folder)) for file in found if file.is_relative_to(folder)}


def test_of_an_installed_package_its_own_files_decide_alone(tmp_path):
    installed = tmp_path / "site-packages"
    written(installed, {"nets/__init__": "from nets.deep import Net", "nets/deep": "import large", "large": ""})
    assert names_of(installed, "nets/__init__.py") == {"nets/__init__.py", "nets/deep.py"}


# The package's own code.


@pytest.fixture(scope="module")
def of_a_session() -> set[str]:
    return names_of(HOUSE, "run/session.py")


@pytest.mark.parametrize(
    "name",
    [
        "networks/architectures.py",
        "networks/declared.py",
        "networks/checkpoints/pickled.py",
        "inference/engine.py",
        "data/npz.py",
        "perturb/poses.py",
        "checks/roles.py",
        "__init__.py",
    ],
)
def test_what_loads_and_runs_a_network_decides(of_a_session, name):
    assert name in of_a_session


def test_what_starts_judges_and_shows_decides_nothing():
    found = {name.split("/")[0] for name in names_of(HOUSE, "run/session.py", "measures/__init__.py")}
    assert found.isdisjoint({"plugin", "report", "project", "cli", "calibration", "api.py"})
    (test,) = STRESS_TESTS.glob("test_rotation.py")
    assert "plugin" in test.read_text()
    assert all(not file.is_relative_to(HOUSE / "plugin") for file in decisive_files([test]))


def test_what_a_stress_test_measures_decides():
    found = decisive_files([STRESS_TESTS / "test_attention.py"])
    assert {HOUSE / "inference/attention.py", HOUSE / "measures/localisation.py"} <= set(found)


# The user's own code.


@pytest.mark.parametrize(
    "line",
    [
        "import deep",
        "import deep as other",
        "from deep import what",
        "def later():\n    import deep",
        "class Later:\n    def later(self):\n        from deep import what",
        "try:\n    import deep\nexcept ImportError:\n    pass",
        "if True:\n    import deep",
    ],
)
def test_an_import_counts_wherever_it_stands(tmp_path, line):
    written(tmp_path, {"test_own": line, "deep": "", "other": ""})
    assert names_of(tmp_path, "test_own.py") == {"test_own.py", "deep.py"}


@pytest.mark.parametrize("test", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_an_import_for_type_checkers_alone_does_not_count(tmp_path, test):
    written(tmp_path, {"test_own": f"if {test}:\n    import typed\nimport deep", "typed": "", "deep": ""})
    assert names_of(tmp_path, "test_own.py") == {"test_own.py", "deep.py"}


def test_imports_of_imports_count_once_even_in_a_circle(tmp_path):
    written(tmp_path, {"test_own": "import a", "a": "import b", "b": "import a, nowhere, torch", "c": ""})
    assert names_of(tmp_path, "test_own.py") == {"test_own.py", "a.py", "b.py"}


def test_a_package_counts_with_its_init_files_and_relative_imports(tmp_path):
    modules = {"__init__": "", "data": "", "nets/__init__": "", "nets/blocks": "", "nets/common": "", "nets/unused": ""}
    modules["nets/wide"] = "from . import common\nfrom .blocks import Block\nfrom ..data import images"
    written(tmp_path, {"network": "from shop.nets.wide import Wide"})
    written(tmp_path / "shop", modules)
    expected = {"__init__", "data", "nets/__init__", "nets/wide", "nets/blocks", "nets/common"}
    assert names_of(tmp_path, "network.py") == {"network.py", *(f"shop/{name}.py" for name in expected)}


def test_the_package_of_a_network_finds_its_own_by_their_full_names(tmp_path):
    written(tmp_path, {"shop/__init__": "", "shop/nets": "import shop.blocks", "shop/blocks": ""})
    assert names_of(tmp_path, "shop/nets.py") == {"shop/__init__.py", "shop/nets.py", "shop/blocks.py"}


def test_other_folders_are_looked_into_when_they_are_named(tmp_path):
    written(tmp_path, {"stress_tests/test_own": "import helpers", "helpers": ""})
    assert names_of(tmp_path, "stress_tests/test_own.py") == {"stress_tests/test_own.py"}
    assert names_of(tmp_path, "stress_tests/test_own.py", projects=[tmp_path]) >= {"helpers.py"}


@pytest.mark.parametrize("content", ["import (", None], ids=["not-python", "missing"])
def test_a_file_that_cannot_be_read_as_code_is_named(tmp_path, content):
    if content is not None:
        written(tmp_path, {"test_own": content})
    with pytest.raises(InputError, match=r"test_own\.py: cannot be read as Python code"):
        names_of(tmp_path, "test_own.py")


# Stored measurements depend on them.


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """A recording in a project, by a copy of this package that a test may edit."""
    house = tmp_path / "site/harness"
    for file in HOUSE.rglob("*.py"):
        copy = house / file.relative_to(HOUSE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    monkeypatch.setattr(decisive, "_PACKAGE", house)
    monkeypatch.setattr(session, "__file__", str(house / "run/session.py"))
    imports = ("import helpers", "from harness.measures import accuracy", "from harness.plugin import check")
    shop = written(
        tmp_path / "shop",
        {
            "stress_tests/test_own": "\n".join(imports),
            "helpers": "",
            "network": "def build():\n    from layers import layer\n",
            "layers": "",
        },
    )
    monkeypatch.chdir(shop)
    (shop / "stress_tests/checks.toml").write_text(checks_text(images_of()))
    checks = read_checks(shop / "stress_tests/checks.toml")
    return Recording(Path("stress_tests"), checks, sources=(shop / "network.py",))


DECIDES = {
    "site/harness/networks/architectures.py": True,
    "site/harness/inference/engine.py": True,
    "site/harness/report/html.py": False,
    "site/harness/plugin/run.py": False,
    "site/harness/calibration/thresholds.py": False,
    "shop/stress_tests/test_own.py": True,
    "shop/helpers.py": True,
    "shop/network.py": True,
    "shop/layers.py": True,
}


def test_editing_a_decisive_file_changes_the_key_of_the_cache(tmp_path, recording):
    before = recording.definition()
    assert recording.definition() == before
    changed = {}
    for name in DECIDES:
        path = tmp_path / name
        path.write_text(path.read_text() + "\n# edited\n")
        after = recording.definition()
        changed[name], before = after != before, after
    assert changed == DECIDES


def test_a_folder_without_tests_is_an_error(tmp_path, recording):
    (tmp_path / "shop/stress_tests/test_own.py").unlink()
    with pytest.raises(InputError, match=r"^stress_tests: there is no stress test, expected files of Python"):
        recording.definition()
