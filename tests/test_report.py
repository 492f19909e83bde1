"""Reports say what the outcome holds, escape what others wrote, and show pictures that can be opened."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import pytest

from harness.gates import Bound, Gate
from harness.measures import Measurement
from harness.outcome import Outcome
from harness.report import markdown, summary_lines, write_reports
from harness.report.figures import training_curves
from harness.report.html import details, scorecard
from harness.training import Epoch

FAIL = Gate("rotate-ccw-015", "rotation", "accuracy", panel=Bound(0.851, "", 0.868, 0.006, 20)).judge(
    Measurement("accuracy", 0.812, 10_000, (0.804, 0.82), detail="worst pair Shirt→Coat 14%")
)
PASS = Gate("clean", "clean", "accuracy", hand=Bound(0.9)).judge(Measurement("accuracy", 0.921, 10_000, (0.915, 0.926)))
COUNT = Gate("pair-a-b", "pairs", "pair_failures", "at_most").judge(
    Measurement("pair_failures", 17, 10_000, (10.0, 27.0), unit="images")
)
ERROR = Gate("flip", "flip", "accuracy").unjudged("error", "the model raised")
OUTCOME = Outcome(
    verdicts=(COUNT, PASS, FAIL),
    errors=(),
    omissions=(),
    failures=("test_own.py::test_mine",),
    profile="default",
    models={
        "candidate": {"path": "runs/new.safetensors", "sha256": "c0ffee" * 10 + "0000", "architecture": "fashion-cnn"},
        "baseline": {"path": "models/b.safetensors", "sha256": "beef" * 16, "architecture": "fashion-cnn"},
    },
    data={"name": "fashion-mnist", "split": "test", "sha256": "d" * 64, "n": 10_000},
    recipe={"about": "20 healthy retrains"},
    provenance="20 healthy retrains; the candidate's recipe is the same",
    gates_sha256="e" * 64,
    versions={"python": "3"},
    command="pytest stress_tests --candidate runs/new.safetensors",
)
EVIL = "<script>alert('x')</script>"


# Text.


def test_the_markdown_holds_verdict_models_data_failures_and_command():
    text = markdown(OUTCOME)
    assert text.startswith(
        "## ❌ Model quality gate: FAIL: 1 of 2 gates hold; worse: rotation, test_own.py::test_mine\n"
    )
    assert "- candidate: `runs/new.safetensors` (`c0ffeec0ffee`)" in text
    assert "- data: fashion-mnist, test split, 10000 images" in text
    assert "- failed: `test_own.py::test_mine`" in text
    assert "| rotate-ccw-015 | 0.8120 | 0.8510 | rotate-ccw-015: accuracy 0.8120 < floor 0.8510" in text
    assert "Reproduce: `pytest stress_tests --candidate runs/new.safetensors`" in text
    assert "| clean |" not in text


@pytest.mark.parametrize(
    ("changes", "icon", "line"),
    [
        ({"verdicts": (PASS,), "failures": ()}, "✅", "PASS: 1 of 1 gates hold"),
        ({"omissions": ("2000 of 10000 images",)}, "⚠️", "- partial: 2000 of 10000 images"),
        ({"errors": ("flip: the model | raised\nNaN",)}, "❌", r"- **could not judge**: flip: the model \| raised NaN"),
    ],
    ids=["pass", "partial", "error"],
)
def test_the_markdown_shows_the_verdict_at_a_glance(changes, icon, line):
    text = markdown(replace(OUTCOME, **changes))
    assert text.startswith(f"## {icon} ")
    assert line in text


def test_pipes_and_line_breaks_do_not_break_the_table():
    nasty = replace(FAIL, detail="a|b\nc")
    (row,) = [
        line for line in markdown(replace(OUTCOME, verdicts=(nasty,))).splitlines() if line.startswith("| rotate")
    ]
    assert r"a\|b c" in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 5


def test_the_markdown_lists_errors_before_failures():
    rows = re.findall(r"^\| ([a-z]\S+) \|", markdown(replace(OUTCOME, verdicts=(FAIL, ERROR))), re.MULTILINE)
    assert rows == ["gate", "flip", "rotate-ccw-015"]
    assert "| flip |  |  | flip: error: the model raised |" in markdown(replace(OUTCOME, verdicts=(ERROR,)))


def test_the_summary_has_a_line_per_failure_and_the_place_of_the_report():
    lines = summary_lines(OUTCOME, Path("reports"))
    assert lines[0] == f"candidate runs/new.safetensors: {OUTCOME.headline}"
    assert f"  {FAIL.explain('reports/stress.html')}" in lines
    assert "pictures in reports/stress.html#rotate-ccw-015" in lines[1]
    assert "  test_own.py::test_mine: failed" in lines
    assert lines[-4:] == [
        "bounds: 20 healthy retrains; the candidate's recipe is the same",
        "1 of the bounds set by hand: clean",
        "1 measurements reported only, without a bound",
        "report: reports/stress.html",
    ]
    assert [line for line in lines if "clean" in line] == ["1 of the bounds set by hand: clean"]


def test_the_summary_says_what_was_left_out_and_what_went_wrong():
    lines = summary_lines(replace(OUTCOME, omissions=("half",), errors=("NaN",)), Path("reports"))
    assert {"  partial: half", "  NaN"} <= set(lines)


def test_both_files_are_written_and_readable(tmp_path):
    write_reports(OUTCOME, tmp_path / "reports")
    assert json.loads((tmp_path / "reports" / "stress.json").read_text()) == json.loads(json.dumps(OUTCOME.as_json()))
    assert (tmp_path / "reports" / "stress.md").read_text(encoding="utf-8") == markdown(OUTCOME)
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["stress.json", "stress.md"]


# The scorecard.


class Page(HTMLParser):
    """Tags and ids of a page, and whether its tags are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.ids, self.links, self.open = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name == "href"]
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_gate_has_an_anchor_and_every_link_its_target():
    page = Page(scorecard(OUTCOME))
    assert sorted(page.ids) == ["clean", "pair-a-b", "rotate-ccw-015"]
    assert page.links == ["#rotate-ccw-015"]


def test_failures_come_first():
    page = Page(scorecard(replace(OUTCOME, verdicts=(COUNT, PASS, FAIL, ERROR))))
    assert page.ids == ["flip", "rotate-ccw-015", "clean", "pair-a-b"]
    assert page.links == ["#flip", "#rotate-ccw-015"]


def test_the_scorecard_holds_what_was_judged_and_how():
    page = html.unescape(scorecard(OUTCOME))
    assert f'<p class="headline fail">{OUTCOME.headline}</p>' in page
    for fact in ("runs/new.safetensors", "c0ffeec0ffee", "fashion-mnist, test split, 10000 images", OUTCOME.command):
        assert fact in page
    assert "20 healthy retrains" in page
    assert "test_own.py::test_mine: failed" in page
    assert '<td>✗ fails</td><td class="number">0.8120</td><td class="number">≥ 0.8510</td>' in page
    assert "0.8680 ± 0.006" in page
    assert '<td>reported</td><td class="number">17</td>' in page


def test_a_run_in_which_all_holds_has_no_list_of_failures():
    assert "What got worse" not in scorecard(replace(OUTCOME, verdicts=(PASS,), failures=()))


@pytest.mark.parametrize(
    "outcome",
    [
        replace(OUTCOME, models={"candidate": {"path": EVIL, "sha256": EVIL, "architecture": EVIL}}),
        replace(OUTCOME, verdicts=(replace(FAIL, detail=EVIL),)),
        replace(OUTCOME, verdicts=(replace(FAIL, gate=replace(FAIL.gate, id=EVIL, family=EVIL)),)),
        replace(OUTCOME, errors=(EVIL,)),
        replace(OUTCOME, omissions=(EVIL,)),
        replace(OUTCOME, failures=(EVIL,)),
        replace(OUTCOME, command=EVIL),
        replace(OUTCOME, provenance=EVIL),
        replace(OUTCOME, data={**OUTCOME.data, "name": EVIL, "split": EVIL}),
    ],
    ids=["model", "detail", "id", "error", "omission", "failure", "command", "provenance", "data"],
)
def test_what_others_wrote_cannot_become_markup(outcome):
    page = scorecard(outcome)
    assert "script" not in Page(page).tags
    assert "&lt;script&gt;" in page


def test_the_details_hold_the_explanation_and_the_panels():
    page = details(replace(FAIL, detail=EVIL), ["<img alt='one'>", "<img alt='two'>"])
    assert Page(page).tags.count("img") == 2
    assert html.escape(FAIL.explain().split(";")[0]) in page
    assert "script" not in Page(page).tags


# Curves.


def test_training_curves_show_loss_and_accuracy_of_both_splits(tmp_path):
    history = [Epoch(1, 0.9, 0.6, 0.8, 0.7), Epoch(2, 0.5, 0.8, 0.6, 0.9), Epoch(3, 0.3, 0.9, 0.7, 0.8)]
    figure = training_curves(history)
    loss, correct = figure.axes
    assert (loss.get_ylabel(), correct.get_ylabel()) == ("loss", "accuracy")
    assert {axes.get_xlabel() for axes in (loss, correct)} == {"epoch"}
    lines = {line.get_label(): line for line in correct.lines}
    assert set(lines) == {"training", "validation", "kept: epoch 2"}
    assert list(lines["validation"].get_ydata()) == [0.7, 0.9, 0.8]
    assert [list(line.get_ydata()) for line in loss.lines][:2] == [[0.9, 0.5, 0.3], [0.8, 0.6, 0.7]]
    figure.savefig(tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 0


def test_training_curves_of_one_epoch_can_be_drawn(tmp_path):
    training_curves([Epoch(1, 0.9, 0.6, 0.8, 0.7)]).savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
