"""A run belongs to one project.

It takes nothing of projects without a gate, and no root or code of another's.
"""

import re
import sys

import pytest

from harness.base.user_code import is_name
from harness.checks import read_checks
from harness.checks.edits import with_settings

pytestmark = pytest.mark.usefixtures("unchecked")


def test_plugin_is_silent_elsewhere(pytester):
    """Tests of others may use the word gate."""
    pytester.makepyfile(
        """
        import pytest
        from harness.checks import Check

        @pytest.mark.parametrize("stress_check", [Check("a", "a", "accuracy")])
        def test_own_gate(stress_check):
            assert stress_check.id == "a"
        """
    )
    result = pytester.runpytest_inprocess()
    assert result.ret == 0
    assert "model quality gate" not in result.stdout.str()
    assert not (pytester.path / "reports").exists()


def test_a_process_that_has_imported_the_harness_warns_of_nothing(pytester):
    """An example is that of `stress-harness gate`, in a project that makes errors of warnings."""
    pytester.makepyfile("def test_nothing():\n    pass\n")
    code = (
        "import harness.base.termination, pytest, sys; sys.exit(pytest.main(['-p', "
        "'no:cacheprovider', '-W', 'error']))"
    )
    done = pytester.run(sys.executable, "-c", code)
    assert done.ret == 0, done.stderr.str()
    assert "warning" not in done.stdout.str()


def test_options_of_common_names_are_left_to_projects_without_a_gate(pytester):
    """As an entry point the plugin is loaded in every project of its environment."""
    pytester.makeconftest(
        """
        import pytest

        def pytest_addoption(parser):
            for name in ("--candidate", "--baseline", "--incumbent", "--checks"):
                parser.addoption(name, default="theirs")

        @pytest.fixture
        def candidate(request):
            return request.config.getoption("--candidate")
        """
    )
    pytester.makepyfile(
        """
        import sys

        import pytest

        @pytest.mark.gate
        def test_theirs(candidate, pytestconfig):
            assert candidate == pytestconfig.getoption("--checks") == "theirs"
            assert "torch" not in sys.modules
        """
    )
    (pytester.mkdir("stress_tests") / "test_load.py").write_text(
        "def test_load():\n    pass\n"
    )  # Another's.
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=2)
    assert "model quality gate" not in result.stdout.str()
    assert not (pytester.path / "reports").exists()


def test_every_option_has_help(pytester):
    (pytester.mkdir("stress_tests") / "checks.toml").touch()
    text = pytester.runpytest_inprocess("--help").stdout.str()
    options = {"candidate", "baseline", "incumbent", "original", "checks"}
    options |= {
        f"stress-{name}"
        for name in ("profile", "samples", "budget", "plan", "reports", "device", "backend")
    }
    found = set(re.findall(r"(?m)^  --([\w-]+)", text))
    assert options - found == set()
    assert {name for name in found if name.startswith("stress-")} - options == {
        *("stress-no-cache", "stress-set", "stress-stop", "stress-unlabeled")
    }


def test_collecting_only_loads_neither_models_nor_torch(zoo):
    """The plugin named by a conftest, too, registers once."""
    (zoo.root / "conftest.py").write_text('pytest_plugins = ["harness.plugin"]\n')
    (zoo.root / "models/augmented.safetensors").unlink()
    code = (
        "import sys, pytest; status = pytest.main(['--collect-only', '-q', 'stress_tests']); "
        "print(sorted({'torch', 'cv2', 'matplotlib'} & set(sys.modules)), int(status))"
    )
    result = zoo.pytester.runpython_c(code)
    result.stdout.fnmatch_lines(["*test_accuracy_survives_rotation?rotate-ccw-010?", "[[]] 0"])


# The root directory.


def test_the_path_of_a_checkpoint_does_not_decide_the_root(zoo, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "stress_tests").mkdir()
    lenient = zoo.checks.read_text().replace("threshold = 0.85", "threshold = 0.01")
    (other / "stress_tests/checks.toml").write_text(lenient)
    (other / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    path = zoo.save(other / "new.safetensors")

    def run(*arguments):
        data = ("--stress-set", f"data={zoo.data}", "-p", "no:html")
        return zoo.pytester.runpytest_inprocess(*data, *arguments)

    result = run("--candidate", path)
    assert result.ret == 4
    said = f"*took its root directory, {other}, *the tests, {zoo.root}. Join option and path*"
    result.stderr.fnmatch_lines([said])
    assert not (other / "reports").exists(), "nothing is written there"
    assert run(f"--candidate={path}").ret == 0
    assert zoo.report()["checks"][0]["threshold"] == 0.85
    assert zoo.pytester.runpytest_inprocess(
        "-p", "no:html", "stress_tests", "--stress-set", f"data={zoo.data}", "--candidate", path
    ).ret == 0, "tests named before it decide"  # fmt: skip


# The project's table.

TRAP = {"data": "trap:images", "model": "trap:network", "transform": "trap:pixels"}


def test_a_foreign_checks_file_names_no_code_and_set_wins(zoo):
    (zoo.root / "trap.py").write_text("import os\nos._exit(7)\n")
    text, before = zoo.checks.read_text(), read_checks(zoo.checks).sha256
    (zoo.root / "foreign.toml").write_text(with_settings(text, TRAP))
    zoo.checks.write_text(with_settings(text, {"data": zoo.data, "no_overview": True, "size": 9}))
    line = ("-p", "no:html", "stress_tests", "--checks", "foreign.toml", "--stress-set", "size=16")
    result = zoo.pytester.runpytest_inprocess(*line)
    assert result.ret == 0, result.stdout.str()
    assert zoo.report()["checks_sha256"] == before
    assert all(map(is_name, TRAP.values())), "else this proves nothing"


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        (
            '[gate]\ndata = "npz:zoo.npz"\nsise = 8\n',
            (),
            "sise: unknown setting; did you mean size?",
        ),
        ("gate = 3\n", (), "checks.toml: gate: expected a table, found 3"),
    ],
)
def test_what_is_wrong_in_the_settings_ends_with_4_in_one_sentence(shared, table, line, said):
    head, end = (table.encode(), b"") if table.startswith("gate") else (b"", table.encode())
    ran = shared.once(
        *line, files={"stress_tests/checks.toml": lambda text: head + text + b"\n" + end}
    )
    assert ran.ending == (4, "error")
    (reason,) = ran.report["errors"]
    assert said in reason
    assert said in ran.stderr.str()
