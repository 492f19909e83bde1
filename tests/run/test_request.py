"""A request says in Python what a command line says to pytest; each is made of the other."""

import dataclasses
from pathlib import Path

import pytest

from harness.base.errors import InputError
from harness.checks.roles import ROLES
from harness.run.request import RunRequest, command_line, joined, request_of, value_in
from harness.run.settings import SETTINGS

ASKED = RunRequest(
    {"candidate": Path("new.pth"), "baseline": "none"},
    checks="shop/checks.toml",
    model="shop:net",
    model_arg=("width=2", "depth=3"),
    data="folder:photos",
    size="64x96",
    channels=3,
    antialias="no",
    profile="quick",
    samples=70,
    no_cache=True,
    budget="20m",
    ray_gpus=0.5,
    reports="out",
)


def test_every_setting_is_an_argument_and_has_its_default():
    known = {each.name: each.default for each in dataclasses.fields(RunRequest)} | dict.fromkeys(ROLES)
    assert {setting.argument: setting.default for setting in SETTINGS.values()}.items() <= known.items()


def test_a_request_survives_its_command_line():
    line = command_line(dataclasses.replace(ASKED, tests=("shop",), options=("-x",)))
    assert line[0] == "shop"
    assert {"--candidate=new.pth", "--checks=shop/checks.toml", "--stress-reports=out", "--stress-no-cache"} <= set(
        line
    )
    assert dataclasses.replace(request_of(line), model_arg=ASKED.model_arg, options=()) == dataclasses.replace(
        ASKED, roles={"candidate": "new.pth", "baseline": "none"}
    )
    assert request_of(line).options == ("shop", "-x")


def test_the_configuration_counts_and_the_command_goes_before_it(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --stress-data npz:a.npz --stress-size 8\n")
    (tmp_path / "stress_tests").mkdir()
    asked = request_of(["--stress-size=9", "-q"], tests=tmp_path / "stress_tests")
    assert (asked.data, asked.size, asked.options) == ("npz:a.npz", "9", ("-q",))


def test_a_line_that_is_wrong_is_refused():
    with pytest.raises(InputError, match="invalid choice: 'slow'"):
        request_of(["--stress-profile", "slow"])


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (["--stress-reports", "a"], "a"),
        (["--stress-reports=a", "--stress-reports=b"], "b"),
        (["--stress-reports"], None),
        (["-q"], None),
    ],
)
def test_the_last_value_on_a_line_counts(line, value):
    assert value_in(line, "reports") == value


def test_paths_are_joined_to_their_options():
    assert joined(["a", "--candidate", "b", "--stress-size", "8"]) == ["a", "--candidate=b", "--stress-size", "8"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (RunRequest({"candidate": "none"}), "candidate none: the gate needs a candidate; name a checkpoint"),
        (RunRequest(budget="soon"), "budget soon: expected a time"),
        (RunRequest(timeout=-1), "timeout -1: expected seconds"),
        (RunRequest(ray_workers=2), "are settings of the backend ray"),
        (RunRequest(size="0"), "size 0: expected a number of pixels"),
    ],
)
def test_what_is_none_is_told_by_its_setting(asked, said):
    with pytest.raises(InputError, match=said):
        asked.expect_sound()
