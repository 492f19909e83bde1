"""The reports as text.

Terminal, Markdown, annotations, and the headline that all of them begin with.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outcomes import BROKEN, EMPTY, MISSING, PASS, REPORTED, outcome_with, verdict
from overviews import model, overview, rate

from harness.checks import Check, Threshold, Verdict
from harness.checks.wording import excused
from harness.measures import Measurement
from harness.measures.accuracy import ACCURACY
from harness.measures.flips import Flips
from harness.measures.statistics import related
from harness.report.diagnosis import conclusion, diagnose, notes, top_regression
from harness.report.html import comparison_page, page_of
from harness.report.pictures import source_of
from harness.report.text import annotation, annotation_lines, markdown, summary_lines
from harness.report.wording import measured_and_required, non_inferiority
from harness.run.findings import SelfCheck
from harness.run.headline import counts_in_words, headline
from harness.run.outcome import Outcome
from harness.run.shown import CaptionLine, Case, Column, ExamplePictures, Face, address_of
from harness.run.stress_json import record_and_images

REPORTS = Path("reports")


def share(check: Check, value: float, **facts) -> Verdict:
    return check.judge(
        Measurement(ACCURACY, value, 10_000, (value - 0.008, value + 0.008), **facts)
    )


TURNED = Check(
    "rotate-ccw-015", "rotation", "accuracy", panel=Threshold(0.851, "", 0.868, 0.006, 20)
)
FAIL = share(TURNED, 0.812, detail="top confusion Shirt→Coat 14% of 1,000")
HELD = share(Check("clean", "clean", "accuracy", hand=Threshold(0.9)), 0.921)
ERROR = Check("flip", "flip", "accuracy").unjudged("error", "the model raised")
OUTCOME = outcome_with(
    EMPTY,
    verdicts=(REPORTED, HELD, FAIL),
    failed_tests=("test_own.py::test_mine",),
    models={
        "candidate": {
            "path": "runs/new.safetensors",
            "sha256": "c0ffee" * 10,
            "architecture": "fashion-cnn",
        }
    },
    provenance="20 reference models; the candidate's recipe is the same",
    command="pytest stress_tests --candidate runs/new.safetensors",
)


def failures(families: dict[str, int]) -> Outcome:
    """Return the outcome of a run in which so many checks of each family fail, and one passes."""
    checks = [
        Check(
            f"{family}-row-{row:04}",
            family,
            "accuracy",
            panel=Threshold(0.9 - row / 1000, "", 0.91, 0.004, 20),
        )
        for family, count in families.items()
        for row in range(count)
    ]
    passing = [
        Check(f"{family}-holds", family, "accuracy", hand=Threshold(0.1)) for family in families
    ]
    judged = tuple(
        share(check, 0.5, detail="top confusion Shirt→Coat 14% of 1,000")
        for check in (*checks, *passing)
    )
    return outcome_with(OUTCOME, verdicts=judged, failed_tests=())


# Markdown.


def test_the_markdown_holds_verdict_models_data_failures_and_command():
    text = markdown(OUTCOME)
    assert text.startswith(
        "## ❌ Model quality gate: FAIL: 1 of 2 checks and 1 other test fail; "
        "worse: rotated images, test_own.py::test_mine"
    )
    for line in (
        "- candidate: `runs/new.safetensors` (`c0ffeec0ffee`)",
        "- data: fashion-mnist, test split, 10000 images",
        "- **failed**: `test_own.py::test_mine`",
        "| rotation | 1 of 1 fail | rotate-ccw-015 | 81.2% | ≥ 85.1% | 3.9 points |  |",
        "- rotate-ccw-015: accuracy 0.8120 < threshold 0.8510",
        "Reproduce: `pytest stress_tests --candidate runs/new.safetensors`",
    ):
        assert line in text
    assert "clean |" not in text


@pytest.mark.parametrize(
    ("changes", "icon", "line"),
    [
        ({"verdicts": (HELD,), "failed_tests": ()}, "✅", "PASS: 1 of 1 checks pass"),
        ({"omissions": ("2000 of 10000 images",)}, "⚠️", "- **partial**: 2000 of 10000 images"),
        (
            {"errors": ("flip: the model | raised\nNaN",)},
            "❌",
            r"- **inconclusive**: flip: the model \| raised NaN",
        ),
    ],
    ids=["pass", "partial", "error"],
)
def test_the_markdown_shows_the_verdict_at_a_glance(changes, icon, line):
    text = markdown(outcome_with(OUTCOME, **changes))
    assert text.startswith(f"## {icon} ")
    assert line in text


def test_the_markdown_of_a_pass_says_what_was_judged_and_nothing_else():
    assert markdown(outcome_with(OUTCOME, verdicts=(HELD,), failed_tests=())).splitlines() == [
        "## ✅ Model quality gate: PASS: 1 of 1 checks pass",
        "",
        "Clean accuracy 92.1%.",
        "Report: [stress.html](stress.html)",
        "",
        "- 1 of the thresholds set by hand: clean",
        "",
        "What was judged:",
        "",
        "- candidate: `runs/new.safetensors` (`c0ffeec0ffee`)",
        "- data: fashion-mnist, test split, 10000 images",
        "- thresholds: 20 reference models; the candidate's recipe is the same",
        "",
        "Reproduce: `pytest stress_tests --candidate runs/new.safetensors`",
    ]


RAN = outcome_with(
    OUTCOME,
    failed_tests=(),
    models={
        role: {
            "path": f"runs/{role}.safetensors",
            "sha256": "c0ffee" * 10,
            "architecture": "fashion-cnn",
        }
        for role in ("candidate", "baseline", "incumbent")
    },
    data={
        **OUTCOME.inputs.data,
        "pipeline": "pixels of the data, gray, size unchanged, uncropped, /255, mean and std",
    },
    remarks=("a remark on the thresholds of this run",),
    overview=overview(),
    self_checks=(SelfCheck("identity", "pass", "the same bits"),),
    id="0" * 32,
)


@pytest.mark.parametrize(
    "verdicts", [(HELD, REPORTED), (HELD, FAIL, REPORTED)], ids=["pass", "fail"]
)
def test_the_provenance_of_a_summary_is_shorter_than_its_findings(verdicts):
    findings, provenance = markdown(outcome_with(RAN, verdicts=verdicts)).split("What was judged:")
    assert len(provenance.splitlines()) < len(findings.splitlines())
    assert "a remark on the thresholds" in findings
    judged = re.findall(r"^- ([^:]*):", provenance, re.MULTILINE)
    roles = ["candidate", "baseline", "last accepted model (incumbent)"]
    assert judged == [*roles, "data", "thresholds", "run"]


def picture(level: int) -> str:
    return source_of(np.full((28, 28, 1), level, np.uint8))


PLAIN, MAP, FACE = picture(10), picture(100), picture(200)
SHIRT = Column("image 7", PLAIN, (CaptionLine("true: Shirt", "right"),), "image 7, Shirt")
MAPPED = Case(
    (SHIRT, Column("candidate", MAP, (CaptionLine("✗ Coat", "wrong", 0.9),), "looks")),
    "Image 7, Shirt.",
)
WITHOUT_MAP = Case(
    (SHIRT, Column("candidate", "", (CaptionLine("✗ Coat", "wrong", 0.9),), "looks")),
    "Image 7, Shirt.",
)
FACED = ExamplePictures(
    faces=(Face(FACE, "Shirt", "Coat", "", "image 9: Shirt predicted as <Coat>"),)
)


@pytest.mark.parametrize(
    ("pictures", "image", "alt", "caption"),
    [
        (
            ExamplePictures((MAPPED,)),
            MAP,
            "image 7, Shirt: ✗ Coat",
            "rotate-ccw-015: ✗ Coat. Image 7, Shirt.",
        ),
        (
            ExamplePictures((WITHOUT_MAP,)),
            PLAIN,
            "image 7, Shirt: ✗ Coat",
            "rotate-ccw-015: ✗ Coat. Image 7, Shirt.",
        ),
        (
            FACED,
            FACE,
            "image 9: Shirt predicted as &lt;Coat&gt;",
            "rotate-ccw-015: image 9: Shirt predicted as &lt;Coat>",
        ),
    ],
    ids=["with a map", "without a map", "a sheet"],
)
def test_a_summary_shows_one_picture_of_the_worst_failing_check(pictures, image, alt, caption):
    near = replace(FAIL, value=0.85, check=replace(TURNED, id="near"))
    other = ExamplePictures((Case((replace(SHIRT, image=picture(50)),), "Another."),))
    shown = {"rotate-ccw-015": pictures, "near": other, "clean": other}
    outcome = outcome_with(OUTCOME, verdicts=(HELD, near, FAIL), pictures=shown)
    _, images = record_and_images(outcome)
    lines = markdown(outcome).splitlines()
    (at,) = [at for at, line in enumerate(lines) if "<img" in line]
    name = next(name for name, content in images.items() if address_of(content) == image)
    assert lines[at : at + 3] == [f'<img src="{name}" width="168" alt="{alt}">', "", caption]


@pytest.mark.parametrize(
    "changes", [{"verdicts": (HELD,)}, {"pictures": {}}], ids=["pass", "no picture"]
)
def test_a_summary_without_a_failure_or_a_picture_shows_none(changes):
    shown = {"rotate-ccw-015": FACED, "clean": FACED}
    assert "<img" not in markdown(outcome_with(OUTCOME, **{"pictures": shown, **changes}))


@pytest.mark.parametrize("here", [False, True])
def test_paths_of_a_summary_begin_at_the_folder_of_the_run(tmp_path, monkeypatch, here):
    monkeypatch.chdir(tmp_path if here else "/")
    known = outcome_with(OUTCOME, folder="" if here else str(tmp_path))
    said = f"{tmp_path}/models/incumbent.toml and /data{tmp_path}/x and ~{tmp_path}/y"
    (line,) = [
        line
        for line in markdown(outcome_with(known, notices=(said,))).splitlines()
        if "**note**" in line
    ]
    assert line == f"- **note**: models/incumbent.toml and /data{tmp_path}/x and ~{tmp_path}/y"
    named = outcome_with(
        known,
        command=f"pytest --candidate={tmp_path}/runs/new.safetensors '--checks={tmp_path}/a b'",
    )
    assert markdown(named).endswith(
        "Reproduce: `pytest --candidate=runs/new.safetensors '--checks=a b'`\n"
    )
    assert said in markdown(outcome_with(OUTCOME, notices=(said,), folder="/"))


def test_pipes_and_line_breaks_break_neither_table_nor_list():
    nasty = replace(FAIL, check=replace(FAIL.check, family="ro|ta\ntion"), detail="a|b\nc")
    lines = markdown(outcome_with(OUTCOME, verdicts=(nasty,))).splitlines()
    (row,) = [line for line in lines if line.startswith("| ro")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 8
    (said,) = [line for line in lines if line.startswith("- rotate-ccw-015: ")]
    assert r"a\|b c" in said


def test_the_markdown_lists_errors_first_then_the_worst_family():
    worse = replace(FAIL, check=replace(FAIL.check, family="worst"), value=0.1)
    text = markdown(outcome_with(OUTCOME, verdicts=(FAIL, PASS, worse, ERROR)))
    rows = re.findall(r"^\| ([a-z]\S+) \| (\d[^|]*) \|", text, re.MULTILINE)
    assert rows == [
        ("flip", "1 of 1 not judged"),
        ("worst", "1 of 1 fail"),
        ("rotation", "1 of 1 fail"),
    ]
    assert "\n- flip: error: the model raised\n" in text


def test_of_many_failures_the_markdown_fits_on_a_screen_and_drops_none():
    """As many failures as the shipped baseline has, in families of all sizes."""
    families = {f"family-{at:02}": 2 * at + 1 for at in range(10)} | {"single": 3}
    text = markdown(failures(families))
    assert len(text.encode()) < 5_000
    counts = dict(re.findall(r"^\| (\S+) \| (\d+ of \d+) fail \|", text, re.MULTILINE))
    assert counts == {name: f"{count} of {count + 1}" for name, count in families.items()}
    named = re.findall(r"^\| (\S+) \|.*\| ([^|]*-row-[^|]*) \|$", text, re.MULTILINE)
    others = {
        name: len(re.findall("-row-", ids)) + int((re.findall(r"and (\d+) more$", ids) or [0])[0])
        for name, ids in named
    }
    assert others == {name: count - 1 for name, count in families.items() if count > 1}
    many = tuple(f"test_own.py::test_{at}" for at in range(25))
    text = markdown(outcome_with(OUTCOME, errors=many, failed_tests=many))
    for title in (r"\*\*failed\*\*", r"\*\*inconclusive\*\*"):
        assert len(re.findall(f"^- {title}: .?test_own", text, re.MULTILINE)) == 10
        assert re.search(f"^- {title}: 15 more, listed in stress.html$", text, re.MULTILINE)


# The terminal.


def test_the_summary_ends_with_verdict_failures_and_report():
    assert summary_lines(OUTCOME, REPORTS) == [
        "thresholds: 20 reference models; the candidate's recipe is the same",
        "1 of the thresholds set by hand: clean",
        f"{counts_in_words(OUTCOME.results)}",
        f"candidate runs/new.safetensors: {headline(OUTCOME)}",
        "  Clean accuracy 92.1%.",
        "  Likely cause: geometry. Clean accuracy passes, and most failing checks rotate, "
        "translate or flip images (rotated images). Look at the augmentation: its angles, shifts "
        "and flips.",
        "  Failing checks: geometry 1 of 1.",
        "  failed: test_own.py::test_mine",
        f"  {FAIL.explain('reports/stress.html')}",
        "report: reports/stress.html",
    ]
    assert "pictures in reports/stress.html#rotate-ccw-015" in FAIL.explain("reports/stress.html")
    lines = summary_lines(outcome_with(OUTCOME, omissions=("half",), errors=("NaN",)), REPORTS)
    assert {"  partial: half", "  inconclusive: NaN"} <= set(lines)


def test_of_many_failures_a_summary_has_the_worst_of_each_behavior():
    lines = summary_lines(failures(dict.fromkeys(("a", "b", "c"), 20)), REPORTS)
    assert [line.split(":")[0] for line in lines[-12:-8]] == [
        "  a-row-0000",
        "  b-row-0000",
        "  c-row-0000",
        "  a-row-0001",
    ]
    assert lines[-2] == "  and 50 more checks do not pass, listed in the report, and above with -v"


def test_the_counts_add_up():
    outcome = outcome_with(OUTCOME, verdicts=(REPORTED, HELD, FAIL, ERROR, MISSING))
    assert counts_in_words(outcome.results) == (
        "5 checks: 1 without a result, 1 fail, 1 pass, 1 informational (without a threshold), 1 "
        "not applicable"
    )
    assert counts_in_words(outcome.results) in summary_lines(outcome, REPORTS)
    assert f"- {counts_in_words(outcome.results)}" in markdown(outcome)


def test_no_p_is_nought():
    flips = {
        "new_failures": [1],
        "fixed_failures": [],
        "net": -0.1661,
        "interval": [-0.17, -0.16],
        "mcnemar_p": 0.0,
    }
    outcome = outcome_with(OUTCOME, verdicts=(replace(FAIL, flips=flips),))
    assert any("(McNemar p < 0.0001)" in note for note in notes(outcome))
    assert related(0.0123) == "= 0.012"


@pytest.mark.parametrize(
    ("lost", "gained", "n", "said"),
    [
        (
            20,
            18,
            10_000,
            "; at 95% confidence it loses at most 0.1 points, less than the margin of 1",
        ),
        (0, 0, 500, "; at 95% confidence it loses at most 0.0 points, less than the margin of 1"),
        # The bound is 0.2 + 1.645 sqrt(9 - 500 * 0.002^2) / 500 = 1.2 points: (0.987 / 0.8)^2 of
        # 500 images, 261 more.
        (5, 4, 500, "the margin is 1: about 270 more labeled images would decide"),
        (
            24,
            9,
            200,
            "; a loss of up to 12.1 points cannot be excluded at 95% confidence, the margin is 1",
        ),
    ],
)
def test_a_pass_against_the_incumbent_says_which_loss_it_excludes(lost, gained, n, said):
    """A candidate may lose net more than the margin on few images.

    These cannot tell it from chance.
    """
    changed = Flips(n, np.arange(lost), np.arange(gained), {}, {})
    passed = replace(
        FAIL, status="pass", threshold=-0.01, value=changed.net, n=n, flips=changed.as_json()
    )
    assert non_inferiority(passed).endswith(said)
    (note,) = (
        note for note in notes(outcome_with(OUTCOME, verdicts=(passed,))) if "McNemar" in note
    )
    assert note.endswith(said)
    assert non_inferiority(replace(passed, status="fail")) == ""


# Passes beyond a threshold, and gates that judge little.


BY_CHANCE = verdict("pass", "regression-clean", family="regression", value=-0.011, threshold=-0.01)
BY_CHANCE = replace(
    BY_CHANCE,
    check=replace(BY_CHANCE.check, significance=0.001),
    flips={
        "net": -0.011,
        "interval": (-0.03, 0.008),
        "mcnemar_p": 0.21,
        "new_failures": [1],
        "fixed_failures": [3],
    },
)


def test_beyond_its_threshold_a_pass_says_what_excuses_it():
    assert excused(BY_CHANCE) == "not significant (p = 0.21, fails below 0.001)"
    assert (
        excused(verdict("pass", value=0.84, threshold=0.85))
        == "the 95% interval reaches the threshold"
    )
    assert measured_and_required(BY_CHANCE)[1].endswith(", or p ≥ 0.001")
    assert not any(map(excused, (PASS, FAIL, REPORTED)))
    page = page_of(outcome_with(EMPTY, verdicts=(PASS, BY_CHANCE)))
    assert 'id="report-worse"' not in page
    assert "or p ≥ 0.001" in page
    assert "not significant (p = 0.21, fails below 0.001)" in page


@pytest.mark.parametrize(("informational", "fit"), [(1, True), (2, True), (3, False)])
def test_a_gate_that_judges_little_calls_no_model_fit(informational, fit):
    shown = tuple(
        replace(REPORTED, check=replace(REPORTED.check, id=f"shown-{at}"))
        for at in range(informational)
    )
    outcome = outcome_with(EMPTY, verdicts=(PASS, BY_CHANCE, *shown))
    said = diagnose(outcome).sentence
    assert ("fit to ship" in said) is fit
    if not fit:
        assert (
            said == "c.safetensors passes all 2 checks that have a threshold; 3 are informational."
        )
        assert headline(outcome) == "PASS: 2 of 2 checks pass; 3 informational"


# The headline.


INCUMBENT = model(
    "incumbent", roles=("incumbent",), confusion=((950, 40, 10), (60, 930, 10), (5, 5, 990))
)
WORSE = model(right=0.88, confusion=((880, 115, 5), (70, 920, 10), (5, 70, 925)))


def test_the_headline_has_clean_accuracy_and_the_top_regression():
    outcome = outcome_with(EMPTY, verdicts=(PASS, FAIL), overview=overview(WORSE, INCUMBENT, n=60))
    first, second, *_ = diagnose(outcome).facts
    assert first == "Clean accuracy 88.0%, incumbent 90.0% (−2.0 points)."
    assert second == "top −7.0 and shoe −6.5 points, mostly predicted as shirt."
    page, text = page_of(outcome), markdown(outcome)
    assert first in page
    assert second in page
    assert {first, second} <= set(text.splitlines())
    assert "|  | candidate | incumbent |" in text
    assert "| clean accuracy | 88.0% (n=300) | 90.0% (n=300) |" in text


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (
            model(confusion=((880, 115, 5), (130, 860, 10), (5, 5, 990))),
            "top −7.0 points, mostly predicted as shirt, and shirt −7.0 points, mostly predicted "
            "as top",
        ),
        (model(confusion=((940, 50, 10), (60, 930, 10), (5, 5, 990))), ""),
        (
            model(confusion=INCUMBENT.confusion, corners=rate(0.6)),
            "At the corners of ±10°, ±2 px, accuracy is 60.0%, incumbent 80.0% (−20.0 points)",
        ),
    ],
    ids=["targets of their own", "within chance", "under pose"],
)
def test_the_top_regression(mine, said):
    assert top_regression(overview(mine, INCUMBENT)) == said


@pytest.mark.parametrize(
    "others", [(model("baseline", right=0.99),), ()], ids=["baseline", "alone"]
)
def test_a_baseline_of_another_recipe_shows_no_regression(others):
    outcome = outcome_with(EMPTY, verdicts=(PASS,), overview=overview(WORSE, *others))
    assert len(diagnose(outcome).facts) == 1


def test_without_an_incumbent_accuracy_stands_beside_reference_models():
    check = Check(
        "clean",
        "clean",
        "accuracy",
        panel=Threshold(0.91, mean=0.926, std=0.002, reference_models=20),
    )
    outcome = outcome_with(
        EMPTY,
        verdicts=(share(check, 0.88),),
        overview=overview(WORSE, model("baseline", right=0.99)),
    )
    assert diagnose(outcome).facts[0] == "Clean accuracy 88.0%, reference models 92.6% ± 0.2."
    shipped = outcome_with(outcome, overview=overview(WORSE, INCUMBENT))
    assert diagnose(shipped).facts[0] == "Clean accuracy 88.0%, incumbent 90.0% (−2.0 points)."


def test_a_comparison_concludes():
    flips = {"new_failures": [1, 2, 3], "fixed_failures": [4], "mcnemar_p": 0.00001}
    found = overview(WORSE, INCUMBENT, n=60)
    said = (
        "3 new and 1 fixed errors, p < 0.0001; top −7.0 and shoe −6.5 points, mostly predicted as "
        "shirt."
    )
    assert conclusion(found, flips) == said
    assert said.replace("<", "&lt;") in comparison_page(found, flips, {"data": "shop"}, {})


# Annotations on GitHub.


def commands(**changes) -> list[tuple[str, str]]:
    """Return (title, message) of each command, read as GitHub reads them."""
    found = []
    for line in annotation_lines(outcome_with(EMPTY, **changes), REPORTS / "stress.html"):
        title, message = re.fullmatch(r"::error title=([^:,\r\n]*)::([^\r\n]*)", line).groups()
        for code, character in (
            ("%3A", ":"),
            ("%2C", ","),
            ("%0D", "\r"),
            ("%0A", "\n"),
            ("%25", "%"),
        ):
            title, message = title.replace(code, character), message.replace(code, character)
        found.append((title, message))
    return found


NEAR, FAR = verdict("fail", "near", value=0.84), verdict("fail", "far", value=0.5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"verdicts": (PASS, REPORTED, MISSING)}, []),
        ({"verdicts": (PASS, NEAR, FAR)}, [("far", FAR.explain()), ("near", NEAR.explain())]),
        ({"failed_tests": ("test_own.py::test_mine",)}, [("test_own.py::test_mine", "failed")]),
        (
            {
                "verdicts": (NEAR, BROKEN),
                "errors": ("the model returned NaN",),
                "self_checks": (SelfCheck("turned-020", "fail", "nobody noticed"),),
            },
            [
                ("the run is inconclusive", "the model returned NaN"),
                ("the run is inconclusive", "[SELF_CHECK] self-check turned-020: nobody noticed"),
                ("near", NEAR.explain()),
            ],
        ),
    ],
    ids=["pass", "the worst first", "tests", "reasons first"],
)
def test_annotations_name_what_fails(changes, expected):
    assert commands(**changes) == expected


@pytest.mark.parametrize("count", [10, 11, 30])
def test_github_shows_ten_so_the_last_of_more_counts_the_rest(count):
    found = commands(
        verdicts=tuple(verdict("fail", f"gate-{number:02}") for number in range(count))
    )
    assert len(found) == 10
    told = f"{count - 9} more checks or tests fail; they are listed in reports/stress.html"
    assert found[-1][0] == "gate-09" if count == 10 else found[-1] == (f"{count - 9} more", told)


@pytest.mark.parametrize(
    ("title", "message", "line"),
    [
        ("a", "50% of Shirt", "::error title=a::50%25 of Shirt"),
        ("a", "one\r\ntwo", "::error title=a::one%0D%0Atwo"),
        ("a", "x: y, z::w", "::error title=a::x: y, z::w"),
        ("a,file=b.py::c", "d", "::error title=a%2Cfile=b.py%3A%3Ac::d"),
        ("50%\n", "%0A", "::error title=50%25%0A::%250A"),
    ],
)
def test_nothing_in_a_text_ends_or_adds_a_command(title, message, line):
    assert annotation(title, message) == line
