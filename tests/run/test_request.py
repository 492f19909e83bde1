"""A request says in Python what a command line says to pytest; each is made of the other."""

import json
import re
from pathlib import Path

import pytest

from harness.base.errors import InputError
from harness.base.groups import values_of
from harness.run.project import project_of
from harness.run.request import (
    OWN,
    RunRequest,
    command_line,
    own_settings,
    request_of,
)
from harness.run.settings import IN_TABLE

ASKED = RunRequest(
    roles={"candidate": "new.pth", "baseline": "none"},
    checks="shop/checks.toml",
    model="shop:net",
    model_args={"width": 2, "deep": True},
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
    options=("-x",),
)
TABLE = """\
schema = 2

[gate]
data = "npz:a.npz"
size = 8
model_args = { width = 2, depth = 3 }

[data]
"""


def test_a_request_travels_as_json_and_is_shown_as_a_line():
    asked = ASKED.but(
        instead=("harness.features.exports.image_export", {"folder": "out"}),
        record=frozenset({"clean"}),
        answers=Path("answers"),
    )
    assert RunRequest(**json.loads(json.dumps(asked.plain))) == asked
    line = command_line(ASKED.but(tests=("shop",)))
    assert line[0] == "shop"
    assert {
        "--candidate=new.pth",
        "--checks=shop/checks.toml",
        "--stress-no-cache",
        "--stress-set=size=64x96",
    } <= {*line}
    assert request_of(line[1:]) == ASKED


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stress_tests").mkdir()
    return tmp_path


def test_the_line_goes_before_set_and_set_before_the_table(project):
    (project / OWN).write_text(TABLE)
    line = [
        "--stress-set",
        "size=9",
        "--stress-set=model_args.depth=4",
        "--stress-samples",
        "5",
        "-q",
    ]
    asked = request_of(line, root=project)
    assert (asked.data, asked.size, asked.samples, asked.options) == ("npz:a.npz", "9", 5, ("-q",))
    assert asked.model_args == {"width": 2, "depth": 4}
    assert request_of(line).data == "fashion-mnist"
    given = project_of(project / OWN, {"size": "10"}, ["--stress-set", "channels=1"]).request
    assert (given.data, given.size, given.channels) == ("npz:a.npz", "10", 1)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("sise = 8", "sise: unknown setting; did you mean size?"),
        ('channels = "3"', "channels 3: expected one of 1, 3"),
        ("size = 8.5", "size 8.5: expected text"),
        ("no_overview = 1", "no_overview 1: expected true or false"),
        ("samples = 5", "samples: it changes from run to run; give --stress-samples"),
        ("size = 8\ncrop = 4", "size and crop: size stretches images"),
        ("size = 1\nsize = 2", "cannot be read"),
    ],
)
def test_a_wrong_table_is_refused_in_one_sentence(project, entry, said):
    (project / OWN).write_text(f"[gate]\n{entry}\n\n[data]\n")
    with pytest.raises(
        InputError, match=rf"^{re.escape(str(project / OWN))}: .*\[gate\].*{re.escape(said)}"
    ):
        own_settings(project)


@pytest.mark.parametrize(
    ("word", "value"), [('"yes"', True), ('"no"', False), ("true", True), ("false", False)]
)
def test_a_setting_that_is_on_or_off_takes_yes_and_no(project, word, value):
    (project / OWN).write_text(f"[gate]\nno_overview = {word}\n\n[data]\n")
    assert own_settings(project)["no_overview"] in {value, word.strip('"')}
    assert request_of([], root=project).no_overview is value
    assert request_of(["--stress-set", f"no_overview={word.strip(chr(34))}"]).no_overview is value


def test_yes_stays_a_text_where_it_is_one():
    assert request_of(["--stress-set", "antialias=no", "--stress-set", "size=8"]).antialias == "no"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--stress-profile", "slow"], "invalid choice: 'slow'"),
        (["--stress-set", "sise=8"], "sise: unknown setting; did you mean size?"),
        (["--stress-set", "timeout=soon"], "timeout 'soon': expected a number"),
        (["--stress-set", "size"], "set: expected KEY=VALUE, found 'size'"),
        (["--stress-set", "samples=8"], "it is an option of its own, --stress-samples"),
    ],
)
def test_a_line_that_is_wrong_is_refused(line, said):
    with pytest.raises(InputError, match=re.escape(said)):
        request_of(line)


def test_a_setting_twice_is_refused():
    with pytest.raises(InputError, match="size: it is set twice"):
        values_of(["size=8", "size=9"], IN_TABLE)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"roles": {"candidate": "none"}},
            "candidate none: the gate needs a candidate; name a checkpoint",
        ),
        ({"budget": "soon"}, "budget soon: expected a time"),
        ({"timeout": -1.0}, "timeout -1: expected a number of at least 0"),
        ({"size": "0"}, "size 0: expected a number of pixels"),
    ],
)
def test_what_is_none_is_told_by_its_setting(given, said):
    with pytest.raises(InputError, match=said):
        RunRequest(**given).expect_sound()
