"""Exit status and all three reports agree, whatever fails around the verdict: the end of a run, by its records."""

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from outcomes import BROKEN, EMPTY, FAIL, OLD_REPORTS, PASS, leave_old_reports

from harness.base.errors import ChangedError
from harness.plugin.exit_status import concluded
from harness.report.redraw import reports_of
from harness.report.refusal import PROTOCOL as REFUSED_PROTOCOL
from harness.report.refusal import ROLES as REFUSED_ROLES
from harness.report.refusal import Claim, agreed_verdict, mark_of_page, mark_of_summary
from harness.run.reported import Reported

pytestmark = pytest.mark.usefixtures("unchecked")
RUN = "a" * 32
PASSES, FAILS = replace(EMPTY, verdicts=(PASS,), run=RUN), replace(EMPTY, verdicts=(PASS, FAIL), run=RUN)
PARTIAL, ERROR = replace(PASSES, omissions=("half",)), replace(PASSES, errors=("[TEST] mine",))


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def ended(folder, outcome, status, *, changed="", **reported) -> tuple[int, str, str]:
    """Return exit status, verdict and reasons of a run with this outcome that pytest ends with this status."""
    claim = Claim(folder, ["pytest"], RUN)
    claim.take(wait=False)
    expect = raising(ChangedError(changed)) if changed else lambda: None
    reports = {} if outcome is None else reports_of(outcome.as_files()[0], {}.get, where="stress.json")[1]
    run = SimpleNamespace(outcome=outcome, reports=reports, reported=Reported(**reported), expect_same_inputs=expect)
    try:
        final = concluded(run, claim, status)
    finally:
        claim.release()
    return final, agreed_verdict(folder, run=RUN), " ".join(json.loads((folder / "stress.json").read_text())["errors"])


@pytest.mark.parametrize(
    ("outcome", "status", "facts", "expected"),
    [
        pytest.param(PASSES, 0, {}, (0, "pass", ""), id="pass"),
        pytest.param(FAILS, 1, {}, (1, "fail", ""), id="fail"),
        pytest.param(PARTIAL, 0, {}, (0, "partial", ""), id="partial"),
        pytest.param(replace(FAILS, omissions=("half",)), 1, {}, (1, "partial", ""), id="partial-fail"),
        pytest.param(ERROR, 4, {}, (4, "error", "[TEST] mine"), id="error"),
        pytest.param(replace(PASSES, verdicts=(BROKEN,)), 4, {}, (4, "error", ""), id="broken"),
        pytest.param(replace(PASSES, verdicts=()), 4, {}, (4, "error", ""), id="nothing-judged"),
        pytest.param(FAILS, 0, {}, (4, "error", "[PYTEST] the run ended with exit status 0 though its verdict has 1"),
                     id="hidden-fail"),
        pytest.param(PASSES, 1, {}, (4, "error", "exit status 1 though its verdict has 0"), id="other-status"),
        pytest.param(PASSES, 5, {}, (4, "error", "exit status 5 though its verdict has 0"), id="no-tests"),
        pytest.param(ERROR, 0, {}, (4, "error", "[TEST] mine [PYTEST] the run ended with"), id="hidden-error"),
        pytest.param(PARTIAL, 2, {"interrupted": True}, (2, "partial", ""), id="interrupted"),
        pytest.param(PASSES, 2, {}, (4, "error", "exit status 2 though"), id="status-of-an-interrupt"),
        pytest.param(None, 4, {}, (4, "error", "[PYTEST] pytest ended the run with exit status 4 and without"),
                     id="no-outcome"),
        pytest.param(None, 0, {"errors": ["[CRASH] gw0"]}, (4, "error", "[CRASH] gw0"), id="no-outcome-known-why"),
        pytest.param(None, 2, {"interrupted": True}, (2, "error", "exit status 2"), id="no-outcome-interrupted"),
        pytest.param(PASSES, 0, {"changed": "net.pth: changed"}, (4, "error", "net.pth: changed"), id="changed"),
        pytest.param(FAILS, 1, {"changed": "net.pth: changed"}, (4, "error", "net.pth: changed"), id="fail-changed"),
        pytest.param(ERROR, 4, {"changed": "net.pth: changed"}, (4, "error", "[TEST] mine"), id="error-changed"),
    ],
)  # fmt: skip
def test_the_end_of_a_run(tmp_path, outcome, status, facts, expected):
    *ending, why = ended(tmp_path, outcome, status, **facts)
    *expected, said = expected
    assert ending == expected
    assert said in why
    assert said or not why or outcome.errors


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "MemoryError"),
        (KeyboardInterrupt(), "the run came to no end: it was interrupted"),
        (OSError(28, "full"), "full"),
        (ChangedError("it has changed"), "it has changed"),
    ],
)
def test_reports_that_cannot_be_published_are_inconclusive(tmp_path, capsys, error, said):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Claim, "publish", raising(error))
        found = ended(tmp_path, PASSES, 0)
    assert found[:2] == (4, "error")
    assert said in found[2]
    assert said in capsys.readouterr().err


# Whole runs.


def test_what_fails_while_the_page_or_the_outcome_is_made_is_inconclusive(shared, monkeypatch):
    for place in ("report.html.page_of", "report.text.markdown", "plugin.looking_back.outcome_of"):
        with monkeypatch.context() as patch:
            patch.setattr(f"harness.{place}", raising(ImportError("libGL.so.1: cannot open")))
            ran = shared.once(page=True, files={"note": place})
        assert ran.ending == (4, "error")
        assert "libGL.so.1" in ran.why


@pytest.mark.parametrize("name", ["cv2", "matplotlib.backends.backend_svg"])
def test_a_package_that_is_missing_is_named_before_the_run(shared, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    ran = shared.once(files={"note": name})
    assert ran.ending == (4, "error")
    assert f"the package {name.partition('.')[0]} cannot be imported" in ran.why
    assert "pip install" in ran.stderr.str()
    assert "Traceback" not in ran.stderr.str()


def test_parts_of_the_plugin_and_of_pytest_that_are_off_change_no_verdict(shared):
    own = [f"no:harness.plugin.{name}" for name in ("hooks", "fixtures", "planning", "parametrization", "verdicts")]
    off = [*own, "no:terminal", "no:cacheprovider"]
    bad = shared.save("bad.safetensors", blind=True).name
    assert shared.once(*(part for each in off for part in ("-p", each)), "--candidate", bad).ending == (1, "fail")
    assert shared.once("-p", "no:capture").ending == (0, "pass")


def test_the_plugin_itself_cannot_be_switched_off(zoo):
    """Its guard is an entry point of its own; here it is loaded by name, as an older installation has none."""
    plain = "def test_plain():\n    pass\n"
    off = ("-p", "no:harness.plugin", "-p", "harness.plugin.guard")
    (zoo.tests / "test_plain.py").write_text(plain)
    leave_old_reports(zoo.root / "reports")
    assert zoo.pytester.runpytest_inprocess(*off, "stress_tests/test_plain.py").ret == 4
    report = zoo.report()
    assert agreed_verdict(zoo.root / "reports", run=report["run"]) == "error"
    assert "harness.plugin is switched off (-p no:harness.plugin)" in report["errors"][0]
    (zoo.root / "tests").mkdir()
    (zoo.root / "tests/test_plain.py").write_text(plain)
    assert zoo.pytester.runpytest_inprocess(*off, "tests").ret == 0
    points = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points["pytest11"]["harness.plugin.guard"] == "harness.plugin.guard"


@pytest.mark.processes
def test_another_plugin_that_cannot_be_imported_is_4_with_reports(zoo):
    """The configuration that `init` writes loads the gate first, whatever the order of installed packages."""
    (zoo.root / "broken/pytest_html").mkdir(parents=True)
    (zoo.root / "broken/pytest_html/__init__.py").write_text("raise ImportError('no libfoo', name='pytest_html')\n")
    line = ("-m", "pytest", "-p", "harness.plugin", "stress_tests", "--stress-set", "data=npz:zoo.npz")
    paths = [str(zoo.root / "broken"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    ran = subprocess.run(
        [sys.executable, *line], cwd=zoo.root, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 4, ran.stdout + ran.stderr
    assert "ERROR: [PACKAGE] the package pytest_html cannot be imported (no libfoo)" in ran.stderr
    assert "pytest_html cannot be imported" in zoo.report()["errors"][0]


OTHER = "import pytest\n\n@pytest.hookimpl(trylast=True)\ndef {hook}(session=None):\n    {does}\n"


@pytest.mark.parametrize(
    ("hook", "line"),
    [
        ("pytest_sessionfinish", "session.exitstatus = 0"),
        ("pytest_unconfigure", "raise SystemExit(0)"),
        ("pytest_unconfigure", "raise RuntimeError('late')"),
    ],
    ids=["status", "leaves", "raises"],
)
def test_another_plugin_that_ends_a_run_otherwise_leaves_no_line_of_it(shared, hook, line):
    bad = shared.save("bad.safetensors", blind=True).name
    code = OTHER.format(hook=hook, does=line).replace("session=None", "session" if "finish" in hook else "")
    ran = shared.once("--candidate", bad, files={"conftest.py": code})
    assert ran.ending == (4, "error")
    assert {line.verdict for line in ran.history} <= {"error"}


def test_a_page_that_goes_elsewhere_leaves_one_here_of_any_path(shared):
    name = os.fsdecode(b"models/\xff.safetensors")
    (shared.root / name).write_bytes((shared.root / "models/augmented.safetensors").read_bytes())
    ran = shared.once("--html", "elsewhere.html", "--junit-xml", "junit.xml", "--candidate", name, page=True)
    assert ran.ending == (0, "pass")
    assert "\\udcff" in ran.summary
    assert len(ran.history) == 1


@pytest.mark.parametrize(
    ("place", "error"),
    [("hooks.leave", OverflowError("date")), ("sinks.read_history", OSError(28, "full")), ("sinks.leave_line", None)],
)
def test_a_history_that_fails_changes_no_verdict(shared, monkeypatch, place, error):
    monkeypatch.setattr(f"harness.plugin.{place}", raising(error or MemoryError()))
    assert shared.once("-k", "clean", files={"note": place}).ending == (0, "partial")


def test_a_history_that_cannot_be_read_or_drawn_changes_no_verdict(zoo, monkeypatch):
    assert zoo.run().ret == 0
    path = zoo.root / "reports/history.jsonl"
    line = {**json.loads(path.read_text()), "candidate": "0" * 64}
    odd = {**line, "at": "9999-12-31T23:59:59-12:00"}
    path.write_text(f"{json.dumps(odd)}\n{json.dumps(line)}\n")
    monkeypatch.setattr("harness.report.history._body", raising(OverflowError("date value out of range")))
    ran = zoo.run(page=True)
    assert (ran.ret, zoo.report()["verdict"]) == (0, "pass")
    assert f"{path}: line 1: is no JSON with a date in UTC" in ran.stdout.str()
    assert "The run history cannot be drawn" in (zoo.root / "reports/stress.html").read_text()


# Refusals.


def test_a_refusal_has_the_keys_of_every_report(shared):
    from harness.checks.roles import ROLES
    from harness.perturb import PROTOCOL

    refused, judged = shared.once("--stress-samples", "-1"), shared.once("-p", "no:capture")
    assert set(refused.report) == set(judged.report)
    assert (tuple(ROLES), PROTOCOL) == (REFUSED_ROLES, REFUSED_PROTOCOL)


@pytest.mark.parametrize("change", ["run", "verdict", "missing", "text", "list"])
@pytest.mark.parametrize("name", sorted(OLD_REPORTS))
def test_reports_that_differ_agree_on_nothing(tmp_path, name, change):
    Claim(tmp_path, ["pytest"], RUN).refuse("no")
    assert agreed_verdict(tmp_path, run=RUN) == "error"
    path = tmp_path / name
    if change == "missing":
        path.unlink()
    elif change in {"text", "list"}:
        path.write_text("[]" if change == "list" else "PASS")
    else:
        path.write_text(path.read_text().replace(*{"run": (RUN, "b" * 32), "verdict": ("error", "pass")}[change]))
    assert agreed_verdict(tmp_path, run=RUN) == ""
    assert mark_of_page("a", "pass") not in mark_of_summary("a", "pass")
