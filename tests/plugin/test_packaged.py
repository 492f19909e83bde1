"""The stress tests that ship are those of a repository without a copy.

Its own stress tests come first.
"""

import pytest
from zoo import STRESS_TESTS, GatedZoo, hypothesis_as_it_starts

pytestmark = pytest.mark.usefixtures("unchecked")
CLEAN, BEE = (
    f"stress_tests/test_clean.py::test_{name}"
    for name in ("clean_accuracy[clean]", "class_accuracy[clean-bee]")
)
ROTATED = "stress_tests/test_rotation.py::test_accuracy_survives_rotation[rotate-ccw-010]"
SURE = "stress_tests/test_confident_errors.py::test_confident_errors_stay_rare[confident-errors]"
PLAIN = "stress_tests/test_own.py::test_plain"
ALL = {CLEAN, BEE, ROTATED, SURE}
OWN = """
from harness.measures import accuracy
from harness.plugin import check

@check("{family}")
def test_own(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(accuracy(candidate.predict(images)))
    evidence.show(verdict)
    assert verdict.passed
"""


@pytest.fixture
def zoo(pytester):
    """A repository with a checks file and no stress test."""
    return GatedZoo(pytester, tests=())


def run(zoo, *arguments):
    settings = ("-p", "no:html", "--stress-set=data=npz:zoo.npz", "--stress-set=no_overview=true")
    with hypothesis_as_it_starts():
        return zoo.pytester.runpytest_inprocess(*settings, *arguments)


def collected(zoo, *arguments) -> set[str]:
    result = run(zoo, "--collect-only", "-q", *arguments)
    assert result.ret == 0, result.stdout.str() + result.stderr.str()
    return {line for line in result.outlines if "::" in line}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {*ALL, PLAIN}),
        (["stress_tests"], {*ALL, PLAIN}),
        (["stress_tests/test_clean.py"], {CLEAN, BEE}),
        (["stress_tests/test_clean.py::test_class_accuracy"], {BEE}),
        ([CLEAN, "stress_tests/test_rotation.py"], {CLEAN, ROTATED}),
        (["stress_tests/test_own.py", BEE], {PLAIN, BEE}),
        (["stress_tests", "-k", "bee or rotation"], {BEE, ROTATED}),
        (
            ["stress_tests", "--ignore=stress_tests/test_clean.py", f"--deselect={SURE}"],
            {ROTATED, PLAIN},
        ),
    ],
    ids=[
        "nothing-named",
        "folder",
        "file",
        "test",
        "check-and-file",
        "own-file-and-check",
        "k",
        "ignored",
    ],
)
def test_they_are_named_as_files_of_the_repository(zoo, arguments, expected):
    (zoo.tests / "test_own.py").write_text("def test_plain():\n    pass\n")
    assert collected(zoo, *arguments) == expected


def test_they_are_named_as_files_beside_another_checks_file(zoo):
    (zoo.root / "other").mkdir()
    (zoo.root / "other/checks.toml").write_text(zoo.checks.read_text())
    names = collected(zoo, "--checks=other/checks.toml", "other/test_clean.py")
    assert names == {name.replace("stress_tests/", "other/") for name in (CLEAN, BEE)}


@pytest.mark.parametrize("name", ["test_clean.py::test_none", "test_golden.py", "test_none.py"])
def test_what_is_not_there_is_not_found(zoo, name):
    result = run(zoo, f"stress_tests/{name}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: *not found: *stress_tests/{name}*"])


def test_they_give_a_whole_verdict_and_the_last_failed_run_again(zoo):
    assert run(zoo, "stress_tests").ret == 0
    assert (zoo.report()["verdict"], set(zoo.statuses.values())) == ("pass", {"pass"})
    (zoo.root / "pytest.ini").write_text("[pytest]\n")
    (zoo.tests / "test_own.py").write_text("def test_plain():\n    assert False\n")
    zoo.checks.write_text(zoo.checks.read_text().replace("threshold = 0.75", "threshold = 0.99"))
    assert run(zoo, "stress_tests").ret == 1
    assert collected(zoo, "stress_tests", "--lf") == {BEE, PLAIN}


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "1"), marks=pytest.mark.processes)], ids=["serial", "n1"]
)
def test_the_repositorys_conftest_applies(zoo, workers):
    (zoo.tests / "conftest.py").write_text(
        "import pathlib, pytest\n\n"
        "def pytest_runtest_call(item):\n    note(item, 'hook')\n\n"
        "@pytest.fixture(autouse=True)\ndef noted(request):\n    note(request.node, 'fixture')\n\n"
        "def note(item, what):\n    pathlib.Path(f'{what}-{item.callspec.id}').touch()\n"
    )
    result = run(zoo, *workers, BEE, "stress_tests/test_rotation.py")
    assert result.ret == 0, result.stdout.str()
    assert {path.name for path in zoo.root.glob("*-*")} == {
        f"{what}-{check}"
        for what in ("hook", "fixture")
        for check in ("clean-bee", "rotate-ccw-010")
    }
    assert zoo.report()["verdict"] == "partial"


def test_a_file_of_the_same_name_replaces_one(zoo):
    text = (STRESS_TESTS / "test_clean.py").read_text()
    (zoo.tests / "test_clean.py").write_text(text.replace("test_class_accuracy", "test_mine"))
    assert collected(zoo) == {CLEAN, BEE.replace("class_accuracy", "mine"), ROTATED, SURE}


def test_an_own_test_of_the_same_check_replaces_one(zoo):
    (zoo.tests / "test_own.py").write_text(OWN.format(family="rotation"))
    assert collected(zoo) == {
        CLEAN,
        BEE,
        SURE,
        "stress_tests/test_own.py::test_own[rotate-ccw-010]",
    }


def test_another_test_of_the_same_name_is_another_module(zoo):
    (zoo.root / "more").mkdir()
    (zoo.root / "more/test_clean.py").write_text("def test_more():\n    pass\n")
    assert collected(zoo, "more", "stress_tests") == ALL | {"more/test_clean.py::test_more"}


def test_an_own_test_of_a_shipped_family_may_have_keys_of_its_own(zoo):
    """Its row is not one of the packaged test, which does not know the key.

    A key that nobody knows is an error.
    """
    zoo.checks.write_text(
        zoo.checks.read_text().replace('id = "clean"\n', 'id = "clean"\nnote = "x"\n')
    )
    assert run(zoo).ret == 4
    own = OWN.format(family="clean").replace(
        "import check\n", "import check\nfrom harness.checks import Key\n"
    )
    (zoo.tests / "test_own.py").write_text(
        own.replace('@check("clean")', '@check("clean", Key("note", str))')
    )
    assert run(zoo).ret == 0
    assert set(zoo.statuses.values()) == {"pass"}


def test_an_own_test_whose_fixture_is_missing_is_an_error(zoo):
    (zoo.tests / "test_own.py").write_text(
        OWN.format(family="mine").replace("images, evidence", "imagess, evidence")
    )
    assert run(zoo).ret == 4


def test_tests_of_a_package_that_is_named_beside_them_run(zoo):
    package = zoo.root / "of_ours"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "test_ours.py").write_text("def test_ours():\n    assert 0\n")
    zoo.pytester.syspathinsert()
    result = run(zoo, "--pyargs", "of_ours", "stress_tests/test_clean.py")
    result.assert_outcomes(passed=2, failed=1)


@pytest.mark.parametrize("where", ["above", "inside"])
def test_a_gate_below_the_root_of_pytest_is_an_error(zoo, monkeypatch, where):
    (zoo.root / "pytest.ini").unlink()
    (zoo.root.parent / "pytest.ini").write_text("[pytest]\n")
    (zoo.root / "tests").mkdir()
    (zoo.root / "tests/test_plain.py").write_text("def test_plain():\n    pass\n")
    monkeypatch.chdir(zoo.root.parent if where == "above" else zoo.root)
    result = zoo.pytester.runpytest_inprocess(
        *([zoo.root.name] if where == "above" else []), "-p", "no:html"
    )
    (zoo.root.parent / "pytest.ini").unlink()
    assert result.ret == 4
    assert "this is no run of their gate" in result.stderr.str()
