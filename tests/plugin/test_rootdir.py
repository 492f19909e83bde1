"""The path of a candidate in another project does not make that project's folder the root."""

import pytest
from zoo import GatedZoo

from harness.run.request import joined


@pytest.fixture
def other(tmp_path_factory):
    """Another project, with a configuration of its own."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    return folder


def run(pytester, zoo, *candidate, tests=("stress_tests",)):
    return pytester.runpytest_inprocess("-p", "no:html", "--stress-set", f"data={zoo.data}", *candidate, *tests)


def test_a_path_behind_the_option_is_an_error_that_says_how(pytester, other):
    zoo = GatedZoo(pytester)
    path = zoo.save(other / "good.safetensors")
    result = run(pytester, zoo, "--candidate", str(path), tests=())
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*took its root directory, {other}, *Join option and path*: --candidate={path}*"])


def test_a_path_joined_to_the_option_is_none_of_pytests(pytester, other):
    zoo = GatedZoo(pytester)
    path = zoo.save(other / "good.safetensors")
    assert run(pytester, zoo, f"--candidate={path}").ret == 0


def test_tests_named_before_it_decide(pytester, other):
    zoo = GatedZoo(pytester)
    path = zoo.save(other / "good.safetensors")
    result = pytester.runpytest_inprocess(
        "-p", "no:html", "stress_tests", "--stress-set", f"data={zoo.data}", "--candidate", str(path)
    )
    assert result.ret == 0


def test_commands_join_them():
    given = [
        "stress_tests",
        "--candidate",
        "/o/x.pth",
        "--checks=g.toml",
        "-n",
        "2",
        "--incumbent",
        "--baseline",
        "none",
    ]
    assert joined(given) == [
        *("stress_tests", "--candidate=/o/x.pth", "--checks=g.toml", "-n", "2", "--incumbent", "--baseline=none"),
    ]
