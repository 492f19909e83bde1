"""The plan of the house: its rooms, and which may know which."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.lint

HOUSE = Path(__file__).parents[2] / "harness"
ROOMS = (
    *(
        "base",
        "data",
        "perturb",
        "networks",
        "inference",
        "measures",
        "checks",
        "run",
        "calibration",
    ),
    *("report", "plugin", "cli", "features"),
)
"""In the order in which data flow; a room may know those before it."""
FILES = sorted(HOUSE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(HOUSE).with_suffix("").parts[0]


def imported(text: str, file: Path) -> set[str]:
    """Return the dotted names that code imports, also for type checkers alone."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = file.relative_to(HOUSE.parent).parts[: -node.level] if node.level else ()
            start = ".".join((*package, *([node.module] if node.module else [])))
            names |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
    return names


def upward(text: str, file: Path) -> list[str]:
    """Return what code imports of this house from a room after its own."""
    after = ROOMS[ROOMS.index(room_of(file)) + 1 :]
    return sorted(
        name
        for name in imported(text, file)
        if name.split(".")[:2] in (["harness", room] for room in after)
    )


def test_it_has_the_rooms_of_the_plan():
    found = {room_of(file) for file in FILES} - {"__init__", "__main__"}
    assert found == set(ROOMS)
    assert len(ROOMS) <= 14


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_knows_one_after_it(room):
    files = [file for file in FILES if room_of(file) == room]
    assert files
    assert {str(file): up for file in files if (up := upward(file.read_text("utf-8"), file))} == {}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the first modules found that import each other in a circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


@pytest.mark.parametrize("room", ROOMS)
def test_no_circle_is_in_a_room(room):
    """Packages' own modules hand names on, and are no part of it."""
    modules = {
        ".".join(file.relative_to(HOUSE.parent).with_suffix("").parts): file
        for file in FILES
        if room_of(file) == room and file.name != "__init__.py"
    }
    assert (
        circle(
            {
                name: imported(file.read_text("utf-8"), file) & set(modules)
                for name, file in modules.items()
            }
        )
        == []
    )


def test_no_feature_knows_another():
    files = [
        file for file in FILES if room_of(file) == "features" and file.parent.name != "features"
    ]
    assert len({file.parent for file in files}) >= 3
    for file in files:
        own = file.relative_to(HOUSE / "features").parts[0]
        names = {
            name.split(".")[2]
            for name in imported(file.read_text("utf-8"), file)
            if ".features." in name
        }
        assert names <= {own, "Command", "Family", "Feature", "features"}, file


STARTING_PYTEST = {"cli/gate.py", "run/inner.py"}


def test_only_the_plugin_and_what_starts_pytest_know_it():
    others = [file for file in FILES if room_of(file) != "plugin"]
    others = [file for file in others if str(file.relative_to(HOUSE)) not in STARTING_PYTEST]
    assert [
        str(file)
        for file in others
        if {name.split(".")[0] for name in imported(file.read_text("utf-8"), file)}
        & {"pytest", "_pytest"}
    ] == []


PRINTING = {
    "cli/__init__.py",
    "cli/docs.py",
    "cli/options.py",
    "features/cluster/backend.py",
    "features/exports/image_export.py",
}
"""Modules with a `print` of their own.

They print before click is imported, show pages that ship, print for all others, or run inside
pytest.
"""


def test_commands_print_by_their_options():
    modules = [file for file in FILES if room_of(file) in {"cli", "features"}]
    printing = set()
    for file in modules:
        calls = (
            node.func
            for node in ast.walk(ast.parse(file.read_text("utf-8")))
            if isinstance(node, ast.Call)
        )
        if any(isinstance(function, ast.Name) and function.id == "print" for function in calls):
            printing.add(str(file.relative_to(HOUSE)))
    assert printing == PRINTING


@pytest.mark.parametrize(
    "code",
    [
        "from harness.plugin import check",
        "from harness import plugin",
        "import harness.plugin.run",
        "def later():\n    from harness.plugin.run import RUN",
        "if TYPE_CHECKING:\n    from harness.plugin.run import GateRun",
        "from ..plugin import check",
    ],
)
def test_an_arrow_upwards_is_seen_however_it_is_written(code):
    assert upward(code, HOUSE / "run/session.py") != []
    assert upward(code, HOUSE / "cli/gating.py") == []


CALLBACKS = {"GateCallback"}
"""Two trainers call theirs so."""


def test_a_class_name_has_one_meaning():
    modules = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                modules.setdefault(node.name, []).append(str(path.relative_to(HOUSE)))
    shared = {name: paths for name, paths in modules.items() if len(paths) > 1}
    assert {name: paths for name, paths in shared.items() if name not in CALLBACKS} == {}


TESTS = Path(__file__).parents[1]
LONGEST = 70
"""Characters of a test's name."""


def test_names_of_tests_are_short():
    files = [*TESTS.rglob("test_*.py"), *(HOUSE.parent / "stress_tests").glob("test_*.py")]
    functions = (
        node
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    )
    names = {node.name for node in functions if node.name.startswith("test_")}
    assert len(names) > 1000
    assert sorted(name for name in names if len(name) > LONGEST) == []
