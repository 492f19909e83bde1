"""The gate in Python: what it returns, what a notebook shows, and the examples of its page."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outcomes import (
    BROKEN,
    EMPTY,
    FAIL,
    MISSING,
    OLD_REPORTS,
    PASS,
    REPORTED,
    outcome_with,
    verdict,
)
from zoo import Zoo

import harness
from harness.base.errors import InputError, PackageError
from harness.checks.roles import ROLES
from harness.report.api import gate, judged
from harness.report.pictures import source_of
from harness.run.inner import _captured, execute
from harness.run.outcome import Outcome
from harness.run.request import RunRequest
from harness.run.result import RunResult
from harness.run.settings import SETTINGS
from harness.run.shown import CaptionLine, Case, Column, ExamplePictures, Face
from harness.run.stress_json import record_and_images

PAGE = Path(__file__).parents[2] / "docs/python.md"


def example(name: str) -> str:
    return re.search(
        rf"<!-- file: {name} -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL
    )[1]


@pytest.fixture
def zoo(pytester, monkeypatch, runs):
    """The repository with a checkpoint to judge; runs are in this process."""
    place = Zoo(pytester.path)
    (place.root / "pytest.ini").write_text(
        f"[pytest]\naddopts = -p no:cacheprovider -p no:html --stress-set data={place.data}\n"
    )
    place.save("new.safetensors")
    monkeypatch.chdir(place.root)
    return place


def test_it_has_few_parameters_and_takes_every_setting(monkeypatch):
    parameters = inspect.signature(gate).parameters
    assert len(parameters) - 1 == 14
    assert {each.default for name, each in parameters.items() if name in SETTINGS} == {None}
    monkeypatch.setattr("harness.report.api.judged", lambda request, **_: request)
    asked = gate("new.pth", data="npz:a.npz", size=64, model_args={"depth": 2}, profile="quick")
    assert asked.given == {
        "profile": "quick",
        "data": "npz:a.npz",
        "size": "64",
        "model_args": {"depth": 2},
    } | {name: asked.given[name] for name in ("roles", "tests", "options", "root")}
    assert asked.roles == {"candidate": "new.pth"}


def test_it_is_public_and_loads_nothing_before_it_is_asked_for():
    assert harness.gate is gate
    code = (
        "import sys, harness; print(sorted({'torch', 'numpy', 'harness.report.api'} & "
        "set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'gates'"):
        _ = harness.gates


def test_the_example_of_its_page_says_what_fails(zoo, capfd):
    zoo.save("new.safetensors", blind=True)
    exec(compile(example("gate_new.py"), "gate_new.py", "exec"), {})
    said = capfd.readouterr().out
    assert "FAIL: " in said
    assert re.search(r"^clean 0\.25 0\.85$", said, re.MULTILINE)


def test_a_training_stops_at_the_first_epoch_that_passes(zoo):
    names: dict = {}
    exec(compile(example("early.py"), "early.py", "exec"), names)
    zoo.save("worse.safetensors", blind=True)
    assert names["first_that_passes"](["worse.safetensors"]) is None


def test_a_result_has_the_verdict_and_every_value(zoo):
    result = gate("new.safetensors", progress=False)
    assert (result.verdict, result.passed, result.exit_status, result.errors) == (
        "pass",
        True,
        0,
        (),
    )
    assert {check.id: check.status for check in result.checks} == dict.fromkeys(
        ["clean", "clean-bee", "rotate-ccw-010", "confident-errors"], "pass"
    )
    clean = result.checks[0]
    assert (clean.family, clean.threshold, clean.direction, clean.n) == (
        "clean",
        0.85,
        "at_least",
        400,
    )
    assert result.report == json.loads((zoo.root / "reports/stress.json").read_text())
    assert str(result) == result.headline
    shown = result._repr_html_()
    assert f"<b>{result.headline}</b>" in shown
    assert "<td>clean</td><td>pass</td><td>0.92" in shown
    assert "<td>≤ 10</td>" in shown


def image(width: int, level: int) -> str:
    return source_of(np.full((width, width, 1), level, np.uint8))


def left_by(outcome: Outcome, folder: Path) -> RunResult:
    """Return the result of a run with this outcome, whose record and pictures are in a folder."""
    record, files = record_and_images(outcome)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return RunResult(1, folder, json.loads(record))


def test_a_notebook_shows_the_images_that_fail(tmp_path):
    small, shifted, large = image(28, 10), image(28, 90), image(160, 200)
    said = (CaptionLine("✗ ant <b>", "wrong", 0.9), CaptionLine("bee", "right", 0.1))
    view = Column("candidate", image(28, 50), said, "")
    moved = (
        Column("image 1", small, (), "image 1, bee"),
        Column("→ as seen", shifted, (), ""),
        view,
    )
    clean = (Column("image 2", small, (), "image 2, bee"), view)
    face = Face(large, "cat", "dog 90%", "", "")
    shown = ExamplePictures((Case(moved, ""), Case(clean, "")), faces=(face,))
    passing = ExamplePictures((Case((replace(moved[0], image=image(28, 70)),), ""),))
    pictures = {"bad": shown, "good": passing}
    result = left_by(outcome_with(EMPTY, verdicts=(FAIL, PASS), pictures=pictures), tmp_path)

    found = re.findall(r'<img src="([^"]*)" width="(\d+)"([^>]*)>', result._repr_html_())
    sharp = ' style="image-rendering:pixelated"'
    assert [(source, width) for source, width, _ in found] == [
        (shifted, "112"),
        (small, "112"),
        (large, "96"),
    ]
    assert [look.partition(" alt=")[0] for *_, look in found] == [sharp, sharp, ""]
    assert re.findall(r"<br>(.*?)</figure>", result._repr_html_()) == [
        "image 1, bee: ✗ ant &lt;b&gt;",
        "image 2, bee: ✗ ant &lt;b&gt;",
        "cat: dog 90%",
    ]

    shutil.rmtree(tmp_path / "stress")
    assert "<img" not in result._repr_html_(), "pictures that are gone are left out"
    assert "<td>bad</td><td>fail</td>" in result._repr_html_()


def test_a_notebook_shows_failures_first_and_folds_the_rest(tmp_path):
    near, far = verdict("fail", "near", value=0.84), verdict("fail", "far", value=0.5)
    verdicts = (PASS, near, REPORTED, far, MISSING, BROKEN)
    shown = left_by(outcome_with(EMPTY, verdicts=verdicts), tmp_path)._repr_html_()
    assert re.findall(r"<tr><td>(.*?)</td>", shown) == [
        "broken",
        "far",
        "near",
        "good",
        "shown",
        "absent",
    ]
    first, folded = shown.split("<details>")
    assert first.count("<tr><td>") == 3
    assert folded.startswith("<summary>1 pass, 1 informational, 1 not applicable</summary><table>")
    passing = left_by(outcome_with(EMPTY, verdicts=(PASS,)), tmp_path)._repr_html_()
    assert passing.count("<table>") == 1
    assert "<details open><summary>1 pass</summary>" in passing


def test_a_result_is_a_table_of_pandas(tmp_path):
    verdicts = (
        PASS,
        replace(FAIL, detail="top confusion"),
        replace(REPORTED, threshold=None, interval=None),
    )
    table = left_by(outcome_with(EMPTY, verdicts=verdicts), tmp_path).to_pandas()
    assert table.index.name == "id"
    assert table["status"].to_dict() == {"good": "pass", "bad": "fail", "shown": "informational"}
    assert table.query("status == 'fail' and value < threshold").index.tolist() == ["bad"]
    bad = table.loc["bad"]
    assert (bad["n"], bad["interval_low"], bad["interval_high"], bad["detail"]) == (
        100,
        0.7,
        0.9,
        "top confusion",
    )
    assert {
        name: str(table[name].dtype) for name in ("value", "threshold", "interval_low", "n")
    } == {
        "value": "float64",
        "threshold": "float64",
        "interval_low": "float64",
        "n": "int64",
    }
    assert table[["threshold", "interval_low"]].loc["shown"].isna().all()


@pytest.mark.parametrize(
    "report", [None, {"verdict": "error", "checks": []}], ids=["none", "a refusal"]
)
def test_a_result_without_checks_is_an_empty_table_of_the_same_columns(tmp_path, report):
    table = RunResult(4, tmp_path, report).to_pandas()
    assert table.empty
    whole = left_by(outcome_with(EMPTY, verdicts=(PASS,)), tmp_path).to_pandas()
    assert table.columns.tolist() == whole.columns.tolist()


def test_without_pandas_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        PackageError, match=r"needs pandas, .*; pip install 'stress-harness\[pandas\]'\n"
    ):
        RunResult(0, tmp_path).to_pandas()


def test_what_cannot_be_judged_is_a_result_that_says_why(zoo):
    result = gate("none.safetensors", progress=False)
    assert (result.verdict, result.exit_status) == ("error", 4)
    assert "none.safetensors: cannot be opened" in result.errors[0]


def test_a_setting_that_is_none_is_refused_by_its_name(zoo):
    with pytest.raises(InputError, match=r"^size 0: expected a number of pixels"):
        gate("new.safetensors", size="0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"profile": "fast"}, "^profile fast: expected one of quick, default, thorough"),
        ({"backend": "gpu"}, "^backend gpu: expected one of process, ray"),
        ({"channels": 2}, "^channels 2: expected one of 1, 3"),
        ({"model_args": "a=1"}, "^model_args 'a=1': expected a table"),
        ({"options": "-x"}, "options are a list of texts"),
        ({"reports": ""}, "^reports '': expected a text that is not empty"),
        ({"candidate": ""}, "^candidate '': expected a text that is not empty"),
        ({"candidate": 5}, "^candidate 5: expected text"),
        ({"timeout": "abc"}, "^timeout 'abc': expected a number"),
        ({"samples": True}, "^samples True: expected a whole number"),
        ({"samples": 1.5}, "^samples 1.5: expected a whole number"),
        ({"no_cache": "never"}, "^no_cache 'never': expected true or false"),
        (
            {"normalisation": "imagenet"},
            "^normalisation: unknown setting; did you mean normalization?",
        ),
        ({"teachers": "big.safetensors"}, "^teachers: unknown setting; "),
        ({"plan": True}, "^plan: unknown setting"),
    ],
)
def test_a_value_that_a_setting_cannot_have_is_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        gate(**arguments)


@pytest.mark.parametrize("name", [name for name in (*ROLES, *SETTINGS) if name != "plan"])
def test_every_setting_has_a_type(name):
    with pytest.raises(InputError, match=f"^{name} <.*>: expected "):
        gate(**{name: object()})


def test_numbers_of_numpy_are_numbers(monkeypatch):
    monkeypatch.setattr("harness.report.api.judged", lambda request, **_: request)
    assert gate(samples=np.int64(5), timeout=np.float32(9)).samples == 5


def test_a_run_that_crashes_is_a_verdict_with_reports(tmp_path, monkeypatch):
    """Nothing of an earlier run passes as this one's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/stress.json").write_text('{"verdict": "pass"}')
    monkeypatch.setattr("harness.run.inner._captured", lambda *_: (-11, ()))
    result = gate("new.safetensors", progress=False)
    assert (result.verdict, result.exit_status, result.status) == ("error", 4, -11)
    assert "the signal SIGSEGV and without a verdict" in result.errors[0]
    assert json.loads((tmp_path / "reports/stress.json").read_text())["verdict"] == "error"
    assert result.page.exists()


@pytest.mark.parametrize("option", ["--stress-plan"])
def test_a_call_that_judges_nothing_changes_no_report(zoo, option):
    for name, text in OLD_REPORTS.items():
        (zoo.root / "reports").mkdir(exist_ok=True)
        (zoo.root / "reports" / name).write_text(text)
    request = RunRequest(
        roles={"candidate": "new.safetensors"},
        tests=("stress_tests",),
        options=(option,),
        root=zoo.root,
    )
    result = judged(request)
    assert (result.exit_status, result.report) == (0 if "plan" in option else 4, None)
    assert {path.name: path.read_text() for path in (zoo.root / "reports").iterdir()} == OLD_REPORTS


def test_a_folder_that_cannot_be_written_keeps_its_reports(zoo):
    (zoo.root / "reports").write_text("in the way")
    result = judged(
        RunRequest(roles={"candidate": "new.safetensors"}, tests=("stress_tests",), root=zoo.root)
    )
    assert (result.exit_status, result.verdict) == (4, "error")
    assert "reports cannot be written" in result.errors[0]


def test_a_run_starts_without_the_request_and_tells_its_lines_as_they_come(tmp_path):
    (tmp_path / "test_one.py").write_text(
        "import os, sys\ndef test_one(): print([name for name in os.environ if 'REQUEST_FILE' in "
        "name], sys.argv)\n"
    )
    lines: list[str] = []
    request = RunRequest(
        root=tmp_path, options=(str(tmp_path), "-q", "-s", "-p", "no:cacheprovider")
    )
    result = execute(request, on_line=lines.append)
    assert f"[] ['pytest', '{tmp_path}', '-q'" in " ".join(result.printed)
    assert "1 passed" in lines[-1]
    assert result.printed == tuple(lines)
    assert isinstance(result, RunResult)


def _reports_that_pass(folder):
    folder.mkdir(exist_ok=True)
    for name in ("stress.html", "stress.md"):
        (folder / name).write_text("PASS")
    (folder / "stress.json").write_text('{"verdict": "pass"}')
    return ()


def test_output_that_is_no_text_is_shown_as_far_as_it_is():
    printed = []
    code = "import sys; sys.stdout.buffer.write(b'caf\\xe9 done\\n')"
    status, lines = _captured([sys.executable, "-c", code], os.environ, printed.append)
    assert (status, lines) == (0, ("caf\ufffd done",))
