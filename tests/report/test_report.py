"""Reports say what the outcome holds, escape what others wrote, and show pictures that can be opened."""

import html
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from overviews import CHANGES, model, overview, rate

from harness.checks import Check, Threshold
from harness.measures import Measurement
from harness.measures.accuracy import ACCURACY, PAIR_FAILURES
from harness.measures.statistics import related
from harness.measures.worst_poses import ROBUST_ACCURACY
from harness.networks.training import Epoch
from harness.perturb import Pose
from harness.report.diagnosis import notes
from harness.report.html import comparison_page, details, page_of
from harness.report.plots import training_curves
from harness.report.sections import corruption_heat_map
from harness.report.text import markdown, summary_lines
from harness.run.outcome import Outcome
from harness.run.overview import KindChange, KindCount

FAIL = Check("rotate-ccw-015", "rotation", "accuracy", panel=Threshold(0.851, "", 0.868, 0.006, 20)).judge(
    Measurement(ACCURACY, 0.812, 10_000, (0.804, 0.82), detail="top confusion Shirt→Coat 14% of 1,000")
)
PASS = Check("clean", "clean", "accuracy", hand=Threshold(0.9)).judge(
    Measurement(ACCURACY, 0.921, 10_000, (0.915, 0.926))
)
COUNT = Check("pair-a-b", "pairs", "pair_failures", "at_most").judge(
    Measurement(PAIR_FAILURES, 17, 10_000, (10.0, 27.0))
)
ERROR = Check("flip", "flip", "accuracy").unjudged("error", "the model raised")
OUTCOME = Outcome(
    verdicts=(COUNT, PASS, FAIL),
    errors=(),
    omissions=(),
    failed_tests=("test_own.py::test_mine",),
    profile="default",
    models={
        "candidate": {"path": "runs/new.safetensors", "sha256": "c0ffee" * 10 + "0000", "architecture": "fashion-cnn"},
        "baseline": {"path": "models/b.safetensors", "sha256": "beef" * 16, "architecture": "fashion-cnn"},
    },
    data={"name": "fashion-mnist", "split": "test", "sha256": "d" * 64, "n": 10_000},
    recipe={"about": "20 reference models"},
    provenance="20 reference models; the candidate's recipe is the same",
    checks_sha256="e" * 64,
    versions={"python": "3"},
    command="pytest stress_tests --candidate runs/new.safetensors",
)
EVIL = "<script>alert('x')</script>"


# Text.


def test_the_markdown_holds_verdict_models_data_failures_and_command():
    text = markdown(OUTCOME)
    assert text.startswith(
        "## ❌ Model quality gate: FAIL: 1 of 2 checks pass; worse: rotation, test_own.py::test_mine\n"
    )
    assert "- candidate: `runs/new.safetensors` (`c0ffeec0ffee`)" in text
    assert "- data: fashion-mnist, test split, 10000 images" in text
    assert "- **failed**: `test_own.py::test_mine`" in text
    assert "| rotation | 1 of 1 fail | rotate-ccw-015 | 81.2% | ≥ 85.1% | 3.9 points |  |" in text
    assert "- rotate-ccw-015: accuracy 0.8120 < threshold 0.8510" in text
    assert "Reproduce: `pytest stress_tests --candidate runs/new.safetensors`" in text
    assert "clean |" not in text


@pytest.mark.parametrize(
    ("changes", "icon", "line"),
    [
        ({"verdicts": (PASS,), "failed_tests": ()}, "✅", "PASS: 1 of 1 checks pass"),
        ({"omissions": ("2000 of 10000 images",)}, "⚠️", "- **partial**: 2000 of 10000 images"),
        ({"errors": ("flip: the model | raised\nNaN",)}, "❌", r"- **inconclusive**: flip: the model \| raised NaN"),
    ],
    ids=["pass", "partial", "error"],
)
def test_the_markdown_shows_the_verdict_at_a_glance(changes, icon, line):
    text = markdown(replace(OUTCOME, **changes))
    assert text.startswith(f"## {icon} ")
    assert line in text


def test_the_markdown_of_a_pass_says_what_was_judged_and_nothing_else():
    text = markdown(
        replace(OUTCOME, verdicts=(PASS,), failed_tests=(), models={"candidate": OUTCOME.models["candidate"]})
    )
    assert text.splitlines() == [
        "## ✅ Model quality gate: PASS: 1 of 1 checks pass",
        "",
        "Clean accuracy 92.1%.",
        "Report: [stress.html](stress.html)",
        "",
        "What was judged:",
        "",
        "- candidate: `runs/new.safetensors` (`c0ffeec0ffee`)",
        "- data: fashion-mnist, test split, 10000 images",
        "- thresholds: 20 reference models; the candidate's recipe is the same",
        "- 1 of the thresholds set by hand: clean",
        "",
        "Reproduce: `pytest stress_tests --candidate runs/new.safetensors`",
    ]


def test_paths_of_a_summary_begin_at_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = f"{tmp_path}/models/incumbent.toml and /data{tmp_path}/x and ~{tmp_path}/y"
    (line,) = [line for line in markdown(replace(OUTCOME, notices=(said,))).splitlines() if "**note**" in line]
    assert line == f"- **note**: models/incumbent.toml and /data{tmp_path}/x and ~{tmp_path}/y"
    named = replace(OUTCOME, command=f"pytest --candidate={tmp_path}/runs/new.safetensors '--checks={tmp_path}/a b'")
    assert markdown(named).endswith("Reproduce: `pytest --candidate=runs/new.safetensors '--checks=a b'`\n")
    monkeypatch.chdir("/")
    assert said in markdown(replace(OUTCOME, notices=(said,)))


def test_the_counts_add_up():
    absent = Check("x", "flip", "accuracy").unjudged("not_applicable", "for this reason")
    outcome = replace(OUTCOME, verdicts=(COUNT, PASS, FAIL, ERROR, absent))
    assert outcome.counts == (
        "5 checks: 1 without a result, 1 fail, 1 pass, 1 informational (without a threshold), 1 not applicable"
    )
    assert outcome.counts in summary_lines(outcome, Path("reports"))
    assert f"- {outcome.counts}" in markdown(outcome)


def test_pipes_and_line_breaks_break_neither_table_nor_list():
    nasty = replace(FAIL, check=replace(FAIL.check, family="ro|ta\ntion"), detail="a|b\nc")
    lines = markdown(replace(OUTCOME, verdicts=(nasty,))).splitlines()
    (row,) = [line for line in lines if line.startswith("| ro")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 8
    (said,) = [line for line in lines if line.startswith("- rotate-ccw-015: ")]
    assert r"a\|b c" in said


def test_the_markdown_lists_errors_before_failures():
    rows = re.findall(
        r"^\| ([a-z]\S+) \| (\d[^|]*) \|", markdown(replace(OUTCOME, verdicts=(FAIL, ERROR))), re.MULTILINE
    )
    assert rows == [("flip", "1 of 1 not judged"), ("rotation", "1 of 1 fail")]
    assert "\n- flip: error: the model raised\n" in markdown(replace(OUTCOME, verdicts=(ERROR,)))


def test_the_summary_ends_with_verdict_failures_and_report():
    assert summary_lines(OUTCOME, Path("reports")) == [
        "thresholds: 20 reference models; the candidate's recipe is the same",
        "1 of the thresholds set by hand: clean",
        f"{OUTCOME.counts}",
        f"candidate runs/new.safetensors: {OUTCOME.headline}",
        "  Clean accuracy 92.1%.",
        "  Likely cause: geometry. Clean accuracy passes, and most failing checks rotate, translate or flip images "
        "(rotation). Look at the augmentation: its angles, shifts and flips.",
        "  Failing checks: geometry 1 of 1.",
        "  failed: test_own.py::test_mine",
        f"  {FAIL.explain('reports/stress.html')}",
        "report: reports/stress.html",
    ]
    assert "pictures in reports/stress.html#rotate-ccw-015" in FAIL.explain("reports/stress.html")


def of_families(failing: dict[str, int]) -> Outcome:
    """Return the outcome of a run in which so many checks of each family fail, and one passes."""
    checks = [
        Check(f"{family}-row-{row:04}", family, "accuracy", panel=Threshold(0.9 - row / 1000, "", 0.91, 0.004, 20))
        for family, count in failing.items()
        for row in range(count)
    ]
    passing = [Check(f"{family}-holds", family, "accuracy", hand=Threshold(0.1)) for family in failing]
    measured = Measurement(ACCURACY, 0.5, 10_000, (0.49, 0.51), detail="top confusion Shirt→Coat 14% of 1,000")
    return replace(OUTCOME, verdicts=tuple(check.judge(measured) for check in (*checks, *passing)), failed_tests=())


def many_failures(families: int, of_each: int) -> Outcome:
    checks = [
        Check(f"{family:02}-{row:03}", f"family-{family:02}", "accuracy", hand=Threshold(0.9 - row / 1000))
        for row in range(of_each)
        for family in range(families)
    ]
    measured = Measurement(ACCURACY, 0.5, 10_000, (0.49, 0.51), detail="top confusion Shirt→Coat 14% of 1,000")
    return replace(OUTCOME, verdicts=tuple(check.judge(measured) for check in checks), failed_tests=())


def test_of_many_failures_a_summary_has_the_worst_of_each_behaviour():
    lines = summary_lines(many_failures(3, 20), Path("reports"))
    assert [line.split(":")[0] for line in lines[-12:-8]] == ["  00-000", "  01-000", "  02-000", "  00-001"]
    assert lines[-2] == "  and 50 more checks do not pass, listed in the report, and above with -v"
    assert len(summary_lines(many_failures(30, 1), Path("reports"))) == 4 + 10 + 2


def test_of_many_failures_the_markdown_fits_on_a_screen_and_drops_none():
    """As many failures as the shipped baseline has, in families of all sizes."""
    outcome = of_families({f"family-{at:02}": 2 * at + 1 for at in range(10)} | {"single": 3})
    text = markdown(outcome)
    assert len(outcome.failed) == 103
    assert len(text.encode()) < 5_000
    counts = dict(re.findall(r"^\| (\S+) \| (\d+ of \d+) fail \|", text, re.MULTILINE))
    assert counts == {f"family-{at:02}": f"{2 * at + 1} of {2 * at + 2}" for at in range(10)} | {"single": "3 of 4"}
    named = re.findall(r"^\| (\S+) \|.*\| ([^|]*-row-[^|]*) \|$", text, re.MULTILINE)
    others = {
        family: len(re.findall("-row-", ids)) + int((re.findall(r"and (\d+) more$", ids) or [0])[0])
        for family, ids in named
    }
    assert others == {family: int(count.split()[0]) - 1 for family, count in counts.items() if count != "1 of 2"}


def test_the_markdown_has_the_family_first_that_misses_by_most():
    worse = replace(FAIL, check=replace(FAIL.check, family="worst"), value=0.1)
    text = markdown(replace(OUTCOME, verdicts=(FAIL, PASS, worse)))
    assert text.index("| worst |") < text.index("| rotation |")


def test_the_markdown_has_ten_errors_and_counts_the_others():
    many = tuple(f"test_own.py::test_{at}" for at in range(25))
    text = markdown(replace(OUTCOME, errors=many, failed_tests=many))
    for title in (r"\*\*failed\*\*", r"\*\*inconclusive\*\*"):
        assert len(re.findall(f"^- {title}: .?test_own", text, re.MULTILINE)) == 10
        assert re.search(f"^- {title}: 15 more, listed in stress.html$", text, re.MULTILINE)


def test_the_summary_says_what_was_left_out_and_what_went_wrong():
    lines = summary_lines(replace(OUTCOME, omissions=("half",), errors=("NaN",)), Path("reports"))
    assert {"  partial: half", "  inconclusive: NaN"} <= set(lines)


# The page_of.


def compared(*models, **facts):
    """Return an overview of so few images that no curves are drawn, which takes a second."""
    return overview(*models, n=60, **facts)


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
        if tag not in {"img", "meta", "br", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checks_of(page: Page) -> list[str]:
    others = ("report-", "word-", "about-", "pictures-")
    return [name for name in page.ids if name != "zoom" and not name.startswith(others)]


def test_every_gate_has_an_anchor_and_every_link_its_target():
    shown = {verdict.check.id: details(verdict, []) for verdict in OUTCOME.verdicts}
    page = Page(page_of(replace(OUTCOME, details=shown)))
    assert sorted(checks_of(page)) == ["clean", "pair-a-b", "rotate-ccw-015"]
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= {*page.ids}
    assert {f"#pictures-{check}" for check in checks_of(page)} <= {*page.links}


def test_failures_come_first():
    page = Page(page_of(replace(OUTCOME, verdicts=(COUNT, PASS, FAIL, ERROR))))
    assert checks_of(page) == ["flip", "rotate-ccw-015", "clean", "pair-a-b"]
    assert [link for link in page.links if not link.startswith(("#report-", "#word-", "#about-"))][:2] == [
        "#flip",
        "#rotate-ccw-015",
    ]


def test_what_got_worse_stands_by_behavior_with_its_worst_case():
    other = replace(FAIL, check=replace(FAIL.check, id="rotate-ccw-020", pose=Pose(20.0)), value=0.7)
    page = page_of(replace(OUTCOME, verdicts=(PASS, FAIL, other)))
    top = page[page.index('id="report-worse"') : page.index('id="report-covered"')]
    assert "Rotated images" in top
    assert "2 of 2 fail" in top
    assert '<a href="#rotate-ccw-020">rotated by 20° counter-clockwise</a>' in top
    for cell in (">70.0%<", "≥ 85.1%", "86.8% ± 0.6"):
        assert cell in top
    assert "rotate-ccw-015" not in top


def test_the_example_is_that_of_the_worst_gate_that_has_one():
    worse = replace(FAIL, check=replace(FAIL.check, id="worse"), value=0.1)
    pictures = {FAIL.check.id: "<img alt='an example'>"}
    page = page_of(replace(OUTCOME, verdicts=(FAIL, worse), examples=pictures))
    assert "<img alt='an example'>" in page[: page.index('id="report-covered"')]
    assert 'id="report-example"' not in page_of(OUTCOME)


def test_the_comparison_marks_what_is_significantly_worse():
    grid = Check("worst", "search", "robust_accuracy", keys={"grid": "augmentation-range"}).judge(
        Measurement(ROBUST_ACCURACY, 0.612, 2_000, (0.59, 0.63))
    )
    models = (model(right=0.8, roles=("candidate",)), model("incumbent", right=0.9))
    page = html.unescape(page_of(replace(OUTCOME, verdicts=(grid,), overview=compared(*models))))
    top = page[page.index('id="report-comparison"') : page.index('id="report-covered"')]
    assert "▼ 80.0%" in top
    assert "▼ 90.0%" not in top
    assert "61.2%" in top
    assert "n=2,000" in top
    assert "4.0%" in top, "the expected calibration error"


def test_a_comparison_that_could_not_be_made_says_why():
    assert "compared: it raised &lt;x&gt;" in page_of(replace(OUTCOME, overview_missing="compared: it raised <x>"))


def cells(table: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_failures_by_kind_stand_side_by_side_with_what_is_new():
    page = page_of(replace(OUTCOME, overview=compared(changes=CHANGES)))
    part = page[page.index('id="report-failures"') : page.index('id="report-covered"')]
    titles, everything, pair = cells(part)[:3]
    assert titles == [
        "kind",
        "candidate",
        "baseline",
        "new",
        "fixed",
        "shared",
        "candidate, corners",
        "baseline, corners",
    ]
    assert everything == ["any error", "30", "60", "5", "7", "25", "20.0%", "20.0%"]
    assert pair == ["top↔shirt", "20", "40", "2", "3", "18", "12.5%", "12.5%"]
    assert "<details><summary>New errors, which the baseline does not make: 1 of 5, the most confident" in part
    against = replace(CHANGES, against="incumbent")
    shipped = page_of(replace(OUTCOME, overview=compared(model(), model("incumbent"), changes=against)))
    assert "<details open><summary>New errors" in shipped
    assert "2 of 300 images are wrong in most of 9 poses (baseline 2): 2 of them, the most confident first" in part
    Page(page)


def captions(part: str) -> list[str]:
    found = re.findall(r"<figcaption>(.*?)</figcaption>", part)
    return [" ".join(html.unescape(re.sub("<[^>]+>", " ", text)).split()) for text in found]


def test_mistakes_have_faces_with_chips_the_most_confident_first():
    faces = {number: np.full((8, 8, 1), number, np.uint8) for number in (17, 4)}
    outcome = replace(OUTCOME, overview=compared(changes=CHANGES), thumbnails=faces)
    page = page_of(outcome)
    part = page[page.index('id="report-failures"') : page.index('id="report-covered"')]
    new, *persistent = captions(part)
    assert new == "top → shirt 96% · image 17"
    assert [caption.split()[-1] for caption in persistent] == ["4", "17"], "the surer first"
    assert part.count("<img") == 3
    assert 'alt="image 17: top predicted as shirt, confidence 96%; baseline correct, 70%"' in part


def test_more_new_mistakes_than_gone_are_marked():
    worse = model(right=0.5, failures=(KindCount("any error", 388, 0.5), KindCount("top↔shirt", 41, 0.13)))
    beside = model("incumbent", failures=(KindCount("any error", 133, 0.1), KindCount("top↔shirt", 40, 0.125)))
    changes = replace(CHANGES, by_kind=(KindChange("any error", 300, 45, 88), KindChange("top↔shirt", 3, 2, 38)))
    page = page_of(replace(OUTCOME, overview=compared(worse, beside, changes=changes)))
    _, everything, pair = cells(page[page.index('id="report-failures"') :])[:3]
    plain = [[re.sub("<[^>]+>", "", cell) for cell in row] for row in (everything, pair)]
    assert plain[0] == ["any error", "▼ 388", "133", "▼ 300", "45", "88", "▼ 50.0%", "10.0%"]
    assert plain[1] == ["top↔shirt", "▽ 41", "40", "▽ 3", "2", "38", "▽ 13.0%", "12.5%"]


def test_a_model_alone_has_failures_without_changes():
    part = page_of(replace(OUTCOME, overview=compared(model(persistent=None))))
    assert ["kind", "candidate", "candidate, corners"] in cells(part)
    assert "<summary>New errors" not in part
    assert 'id="report-failures"' not in page_of(replace(OUTCOME, overview=compared(model(failures=()))))


def test_nothing_alarms_against_a_baseline_of_another_recipe():
    worse = model(right=0.5, corners=rate(0.2), confusion=((10, 90, 0), (85, 15, 0), (0, 0, 100)), confident_errors=900)
    outcome = replace(OUTCOME, verdicts=(PASS,), failed_tests=(), overview=compared(worse, model("baseline")))
    page = re.sub("<style>.*?</style>|<script>.*?</script>", "", page_of(outcome), flags=re.DOTALL)
    assert "▼" not in page
    assert "▽" not in page
    same = replace(outcome, overview=compared(worse, model("incumbent")))
    assert "▼" in page_of(same)


def test_every_worsening_is_marked_as_plain_or_as_what_chance_may_explain():
    worse = model(
        right=0.79,
        confident_errors=388,
        per_class=(rate(0.5), rate(0.79), rate(0.9)),
        corners=rate(0.4),
    )
    beside = model("incumbent", right=0.8, confident_errors=133)
    page = page_of(replace(OUTCOME, overview=compared(worse, beside)))
    top = re.sub("<[^>]+>", "", page[page.index('id="report-comparison"') : page.index('id="report-failures"')])
    for said in ("▽ 79.0%", "▼ 40.0%", "▼ 388"):
        assert said in top
    assert top.count("▼") + top.count("▽") == 3 + 2, "and the legend"


def damaged(name: str, severity: int, value: float, *, threshold: float | None = None):
    check = Check(
        f"corrupt-{name}-{severity}",
        "corruption",
        "accuracy",
        hand=None if threshold is None else Threshold(threshold),
        keys={"corruption": name, "severity": severity},
        words=(name, f"{severity} of 5"),
    )
    return check.judge(Measurement(ACCURACY, value, 1_000, (value - 0.01, value + 0.01)))


DAMAGED = (
    damaged("fog", 2, 0.536),
    damaged("fog", 1, 0.7, threshold=0.75),
    damaged("contrast", 5, 0.199),
    damaged("contrast", 4, 0.25),
    damaged("contrast", 1, 0.9, threshold=0.8),
)


def test_damage_is_a_map_by_kind_and_severity_that_says_what_is_judged():
    page = page_of(replace(OUTCOME, verdicts=(PASS, *DAMAGED)))
    part = page[page.index('id="report-damage"') : page.index('id="report-covered"')]
    axes = corruption_heat_map({"fog": {1: DAMAGED[1], 2: DAMAGED[0]}}, compared=False).axes[0]
    assert [text.get_text() for text in axes.texts][:3] == ["✗ 70.0", "(53.6)", ""]
    assert "2 of 5 have a threshold" in part
    assert "of 1,000" in part
    Page(page)
    assert 'id="report-damage"' not in page_of(replace(OUTCOME, verdicts=(PASS, *DAMAGED[:2])))


def test_self_checks_stand_below_the_figures():
    from harness.run.outcome import SelfCheck

    checks = (SelfCheck("identity", "pass", "the same bits"),)
    page = page_of(replace(OUTCOME, overview=compared(), self_checks=checks))
    assert page.index('id="report-figures"') < page.index('id="report-self-checks"')


def test_no_p_is_nought():
    flips = {
        "new_failures": list(range(1714)),
        "fixed_failures": list(range(53)),
        "net": -0.1661,
        "interval": [-0.17, -0.16],
        "mcnemar_p": 0.0,
        "by_class": {"Dress": [921, 32]},
        "by_pair": {},
    }
    verdict = replace(FAIL, flips=flips, check=replace(FAIL.check, family="regression"))
    outcome = replace(OUTCOME, verdicts=(verdict,))
    page = html.unescape(page_of(outcome))
    row = next(row for row in cells(page[page.index('id="report-incumbent"') :]) if row[0] == FAIL.check.id)
    assert row[-1] == "< 0.0001"
    assert [re.sub("<[^>]+>", "", cell) for cell in row[1:3]] == ["▼ 1714", "53"]
    assert any("(McNemar p < 0.0001)" in note for note in notes(outcome))
    assert related(0.0123) == "= 0.012"


def test_the_incumbent_is_what_hints_compare_with_when_it_is_another_model():
    three = compared(model(), model("baseline", right=0.5), model("incumbent", roles=("incumbent",)))
    assert three.reference.name == "incumbent"
    assert compared(model(roles=("candidate", "incumbent")), model("baseline")).reference.name == "baseline"
    assert compared(model()).reference is None


def test_the_scorecard_holds_what_was_judged_and_how():
    page = html.unescape(page_of(OUTCOME))
    assert "<strong>new.safetensors got worse: 2 of 2 checks fail.</strong>" in page
    assert f"<span>{OUTCOME.headline}</span>" in page
    for fact in ("runs/new.safetensors", "c0ffeec0ffee", "fashion-mnist, test split, 10000 images", OUTCOME.command):
        assert fact in page
    assert "20 reference models" in page
    assert "failed: test_own.py::test_mine" in page


def test_a_run_in_which_all_holds_has_no_list_of_failures():
    assert "Failing behaviors" not in page_of(replace(OUTCOME, verdicts=(PASS,), failed_tests=()))


@pytest.mark.parametrize(
    "outcome",
    [
        replace(OUTCOME, models={"candidate": {"path": EVIL, "sha256": EVIL, "architecture": EVIL}}),
        replace(OUTCOME, verdicts=(replace(FAIL, detail=EVIL),)),
        replace(OUTCOME, verdicts=(replace(FAIL, check=replace(FAIL.check, id=EVIL, family=EVIL)),)),
        replace(OUTCOME, errors=(EVIL,)),
        replace(OUTCOME, omissions=(EVIL,)),
        replace(OUTCOME, failed_tests=(EVIL,)),
        replace(OUTCOME, command=EVIL),
        replace(OUTCOME, provenance=EVIL),
        replace(OUTCOME, data={**OUTCOME.data, "name": EVIL, "split": EVIL}),
        replace(OUTCOME, overview=overview(model(EVIL, roles=(EVIL,)), model("b"), classes=(EVIL, "$\\bad$", EVIL))),
    ],
    ids=["model", "detail", "id", "error", "omission", "failed-test", "command", "provenance", "data", "overview"],
)
def test_what_others_wrote_cannot_become_markup(outcome):
    page = page_of(outcome)
    assert Page(page).tags.count("script") == 1, "the page's own"
    assert "&lt;script&gt;" in page


def test_the_details_hold_the_explanation_and_the_pictures():
    page = details(replace(FAIL, detail=EVIL), ["<img alt='one'>", "<img alt='two'>"])
    assert Page(page).tags.count("img") == 2
    assert html.escape(FAIL.explain().split(";")[0]) in page
    assert "script" not in Page(page).tags


# Curves.


def test_training_curves_show_loss_and_accuracy_of_both_splits(tmp_path):
    history = [Epoch(1, 0.9, 0.6, 0.8, 0.7), Epoch(2, 0.5, 0.8, 0.6, 0.9), Epoch(3, 0.3, 0.9, 0.7, 0.8)]
    figure = training_curves({"new": [asdict(epoch) for epoch in history]}, kept=2)
    loss, correct = figure.axes
    assert (loss.get_ylabel(), correct.get_ylabel()) == ("loss", "accuracy, %")
    assert correct.get_xlabel() == "epoch"
    lines = {line.get_label(): line for line in correct.lines}
    assert set(lines) == {"new, training", "new, validation", "kept: epoch 2"}
    assert list(lines["new, validation"].get_ydata()) == pytest.approx([70, 90, 80])
    assert [list(line.get_ydata()) for line in loss.lines][:2] == [[0.9, 0.5, 0.3], [0.8, 0.6, 0.7]]
    figure.savefig(tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 0


def test_training_curves_of_one_epoch_are_points_that_can_be_seen():
    figure = training_curves({"new": [asdict(Epoch(1, 0.9, 0.6, 0.8, 0.7))]}, kept=1)
    for axes in figure.axes:
        shown = [line for line in axes.lines if line.get_label().startswith("new")]
        assert [line.get_marker() for line in shown] == ["o", "o"]


# The page of a comparison.


def test_the_page_of_a_comparison_stands_alone_and_escapes():
    flips = {"new_failures": [1, 2], "fixed_failures": [], "mcnemar_p": 0.5, "by_class": {EVIL: [2, 0]}, "by_pair": {}}
    content = comparison_page(overview(model(EVIL), model("plain")), flips, {"data": EVIL}, {})
    page = Page(content.removeprefix("<!DOCTYPE html>"))
    assert page.tags.count("script") == 1
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert "All 2 new and 0 fixed failures: compare with --failures FILE.csv" in content
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", content)
