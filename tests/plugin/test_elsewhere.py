"""In projects without a check the plugin is silent, and takes nothing that is theirs."""

import re
import sys

import pytest
from zoo import GatedZoo


def test_plugin_is_silent_elsewhere(pytester):
    pytester.makepyfile("def test_nothing():\n    pass\n")
    result = pytester.runpytest_inprocess()
    assert result.ret == 0
    assert "model quality gate" not in result.stdout.str()
    assert not (pytester.path / "reports").exists()


def test_a_process_that_has_imported_the_harness_warns_of_nothing(pytester):
    """An example is that of `stress-harness gate`, in a project that makes errors of warnings."""
    pytester.makepyfile("def test_nothing():\n    pass\n")
    code = (
        "import harness.base.termination, pytest, sys; sys.exit(pytest.main(['-p', 'no:cacheprovider', '-W', 'error']))"
    )
    done = pytester.run(sys.executable, "-c", code)
    assert done.ret == 0, done.stderr.str()
    assert "warning" not in done.stdout.str()


def test_tests_of_others_may_use_the_word_gate(pytester):
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


@pytest.mark.parametrize(
    "project",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"stress_tests/test_load.py": "def test_load():\n    pass\n"}, id="other-stress-tests"),
    ],
)
def test_options_of_common_names_are_left_to_projects_without_a_gate(pytester, project):
    """As an entry point the plugin is loaded in every project of the environment it is installed in."""
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
    for name, text in project.items():
        (pytester.path / name).parent.mkdir(exist_ok=True)
        (pytester.path / name).write_text(text)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1 + len(project))
    assert "model quality gate" not in result.stdout.str()
    assert not (pytester.path / "reports").exists()


def test_every_option_has_help(pytester):
    (pytester.mkdir("stress_tests") / "checks.toml").touch()
    text = pytester.runpytest_inprocess("--help").stdout.str()
    options = {"candidate", "baseline", "incumbent", "original", "checks"}
    options |= {f"stress-{name}" for name in ("profile", "samples", "budget", "plan", "reports", "device", "backend")}
    found = set(re.findall(r"(?m)^  --([\w-]+)", text))
    assert options - found == set()
    assert {name for name in found if name.startswith("stress-")} - options == {"stress-no-cache", "stress-set"}


def test_conftest_and_entry_point_together_register_once(pytester):
    zoo = GatedZoo(pytester)
    (zoo.root / "conftest.py").write_text('pytest_plugins = ["harness.plugin"]\n')
    result = zoo.run("--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_accuracy_survives_rotation?rotate-ccw-010?"])


def test_collecting_only_loads_neither_models_nor_torch(pytester):
    zoo = GatedZoo(pytester)
    (zoo.root / "models/augmented.safetensors").unlink()
    code = (
        "import sys, pytest; status = pytest.main(['--collect-only', '-q', 'stress_tests']); "
        "print(sorted({'torch', 'cv2', 'matplotlib'} & set(sys.modules)), int(status))"
    )
    result = pytester.runpython_c(code)
    result.stdout.fnmatch_lines(["*test_accuracy_survives_rotation?rotate-ccw-010?", "[[]] 0"])


def test_the_path_of_a_checkpoint_does_not_decide_the_root(pytester):
    zoo = GatedZoo(pytester)
    other = zoo.root.parent / f"{zoo.root.name}-other"
    (other / "stress_tests").mkdir(parents=True)
    (other / "stress_tests/checks.toml").write_text(
        zoo.checks.read_text().replace("threshold = 0.85", "threshold = 0.01")
    )
    (other / "pytest.ini").write_text("[pytest]\n")
    checkpoint = zoo.save("new.safetensors").rename(other / "new.safetensors")
    data = ("--stress-set", f"data={zoo.data}", "-p", "no:html")
    result = pytester.runpytest_inprocess(*data, "--candidate", checkpoint)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*took its root directory, {other}, *the tests, {zoo.root}. *"])
    assert not (other / "reports").exists(), "nothing is written there"
    assert pytester.runpytest_inprocess(*data, f"--candidate={checkpoint}").ret == 0
    assert zoo.report()["checks"][0]["threshold"] == 0.85
