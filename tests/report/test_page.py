"""The page of a run.

Its sections and their order, the table of checks, models side by side, images, and escaping.
"""

import html
import importlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path, PurePath

import numpy as np
import pytest
from outcomes import EMPTY, FAIL, PASS, outcome_with
from overviews import CHANGES, model, overview, rate

from harness.checks import Check, Threshold, Verdict
from harness.checks.families import FAMILIES
from harness.features.consensus.measures import CONSENSUS_SET_ERRORS
from harness.features.golden.measures import GOLDEN_RIGHT
from harness.features.golden.report import section as golden
from harness.features.skew.family import costliest
from harness.features.skew.family import section as serving
from harness.measures import Measurement, Unit
from harness.measures.accuracy import ACCURACY, PAIR_FAILURES
from harness.measures.failures import UNIQUE_CONFIDENT
from harness.measures.panel.label_errors import LabelError, LabelErrors, WithoutLabelErrors
from harness.measures.worst_poses import ROBUST_ACCURACY
from harness.perturb import Pose
from harness.report import html as pages
from harness.report.html import SECTIONS, comparison_page, page_of
from harness.report.mistakes import confusions, label_error_section
from harness.report.page import Section, render, table
from harness.report.refusal import refusal, refused_reports
from harness.report.sections import (
    checks,
    corruption_heat_map,
    corruption_map,
    examples,
    group_dots,
    margins,
    slices,
)
from harness.report.tables import models, robust_accuracies
from harness.report.text import summary_lines
from harness.report.wording import row_of, terms
from harness.run.findings import SelfCheck
from harness.run.history import History
from harness.run.history_line import line_of
from harness.run.overview import KindChange, KindCount, Mistake, Reference
from harness.run.request import rerun_command
from harness.run.results import OtherTest
from harness.run.shown import Case, Column, ExamplePictures

ROOT = Path(__file__).parents[2]
EVIL = "</h2><script>alert('x')</script>"


def share(check: Check, value: float, **facts) -> Verdict:
    return check.judge(Measurement(ACCURACY, value, 10_000, (value - 0.01, value + 0.01), **facts))


def count(check: Check, value: int) -> Verdict:
    return check.judge(Measurement(PAIR_FAILURES, value, 10_000, (value - 9.0, value + 9.0)))


TURNED = Check(
    "turned", "rotation", "accuracy", panel=Threshold(0.851, "", 0.868, 0.006, 20, 3.1, 0.0123)
)
WORSE = share(TURNED, 0.812)
PAIR = Check(
    "pair",
    "pairs",
    "pair_failures",
    "at_most",
    keys={"pair": ("Shirt", "Coat")},
    hand=Threshold(30),
)
VERDICTS = (
    share(replace(TURNED, id="good"), 0.9),
    share(
        replace(TURNED, id="reported", informational="they differ"),
        0.5,
        detail="top confusion Shirt→Coat",
    ),
    WORSE,
    share(replace(TURNED, id="hair", panel=Threshold(0.8121)), 0.812),
    share(Check("boot", "class", "accuracy", class_name="Boot", hand=Threshold(0.5)), 0.9),
    count(PAIR, 17),
    Check("flip", "flip", "accuracy").unjudged("not_applicable", "letters"),
)
OUTCOME = outcome_with(EMPTY, verdicts=VERDICTS)


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


def compared(*models, **facts):
    """Return an overview of so few images that no curves are drawn, which takes a second."""
    return overview(*models, n=60, **facts)


def part(name: str, **facts) -> str:
    """Return a section of the page of a run."""
    _, _, found = page_of(outcome_with(OUTCOME, **facts)).partition(f'<h2 id="report-{name}">')
    return re.split('<section class="section"|</main>', found)[0]


def plain(cell: str) -> str:
    return html.unescape(re.sub("<[^>]*>", "", cell)).strip()


def cells(table: str) -> list[list[str]]:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    return [[plain(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


# Sections.


def headings(page: str) -> list[str]:
    nav = page[page.index("<nav") : page.index("</nav>")]
    found = re.findall(r'<h2 id="report-([a-z-]+)">(.*?)</h2>', page)
    assert re.findall(r'<a href="#report-([a-z-]+)">(.*?)</a>', nav) == found
    return [name for name, _ in found]


def test_sections_with_something_to_say_stand_in_their_order(monkeypatch):
    tests = (
        OtherTest("test_own.py::test_a", "passed"),
        OtherTest("test_own.py::test_b", "failed", f"E\n{EVIL}"),
    )
    known = outcome_with(
        EMPTY,
        overview=compared(),
        tests=tests,
        self_checks=(SelfCheck("identity", "pass", "equal"),),
    )
    page = page_of(known)
    order = [
        "comparison",
        "failures",
        "covered",
        "figures",
        "self-checks",
        "checks",
        "words",
        "tests",
    ]
    assert headings(page) == order
    listed = page[page.index('id="report-tests"') :]
    assert "<summary>2 tests: 1 passed, 1 failed</summary>" in listed
    assert listed.index("test_b") < listed.index("test_a"), "what fails comes first"
    assert "E\n&lt;/h2&gt;" in listed

    def weather(outcome) -> Section:
        return Section(
            "weather", f"Weather {EVIL}", table(["day", EVIL], [(outcome.run.profile, EVIL)])
        )

    monkeypatch.setattr(pages, "SECTIONS", (weather, lambda _: None, *SECTIONS))
    page = page_of(EMPTY)
    assert headings(page) == ["weather", "covered", "checks", "words"]
    assert '>default</td><td data-title="&lt;/h2&gt;&lt;script&gt;' in page
    assert "<script>alert" not in page
    with pytest.raises(Exception, match="'run' was not provided"):
        render("banner", kind="pass", sentence="All hold.", facts=())


def test_the_section_of_the_guide_stands_where_it_says(tmp_path, monkeypatch):
    text = (ROOT / "docs/add-section.md").read_text("utf-8")
    source = Path(pages.__file__).read_text("utf-8")
    for name, before, code in re.findall(
        r"<!-- insert: (\S+) before ([^\n]*) -->\n```python\n(.*?)```\n", text, re.DOTALL
    ):
        assert name == "harness/report/html.py"
        start, end = source.split(f"\n{before}\n")
        source = f"{start}\n{code}{before}\n{end}"
    (tmp_path / "extended.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    page = importlib.import_module("extended").page_of(outcome_with(EMPTY, verdicts=(PASS, FAIL)))
    assert "lowest" in headings(page)
    assert page.index("80.0%</td>", page.index('id="report-lowest"')) > 0


def test_the_page_says_what_was_judged_and_how():
    page = html.unescape(page_of(OUTCOME))
    assert "<title>FAIL · c.safetensors · Model quality gate</title>" in page
    assert "<strong>c.safetensors got worse: 2 of 5 checks fail.</strong>" in page
    assert "<span>FAIL: 2 of 5 checks fail</span>" in page, (
        "the same count, and behaviors stand below"
    )
    for fact in (
        "c.safetensors",
        "cccccccccccc",
        "fashion-mnist, test split, 10000 images",
        OUTCOME.run.command,
    ):
        assert fact in page
    missing = "compared: it raised <x>"
    assert missing in html.unescape(part("comparison", overview_missing=missing))


def box(page: str) -> str:
    """Return the text of the box at the top of a page."""
    _, _, found = page.partition('<div class="headline')
    return plain(found.partition("</div>")[0].partition(">")[2])


BROKEN = SelfCheck("identity", "fail", "other logits")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"errors": ("[MODEL] it returned NaN",)}, "[MODEL] it returned NaN"),
        (
            {"errors": (BROKEN.reason,), "self_checks": (BROKEN,)},
            "self-check identity: other logits",
        ),
        (
            {"verdicts": (), "omissions": ("no threshold judged the candidate",)},
            "no threshold judged the candidate",
        ),
    ],
    ids=["error", "self-check", "nothing-judged"],
)
def test_why_a_run_is_inconclusive_stands_in_the_box_at_the_top(changes, reason):
    page = page_of(outcome_with(OUTCOME, failed_tests=(), **changes))

    assert reason in box(page)
    assert html.unescape(page).count(reason) == 1, "once"


def test_the_page_of_a_refusal_has_its_reason_in_the_box():
    record = refusal(("[DATA] no such file",), ["pytest", "stress_tests"])

    page = refused_reports(record)["stress.html"].decode()

    assert "[DATA] no such file" in box(page)


def test_many_reasons_stand_below_the_box():
    page = page_of(outcome_with(OUTCOME, errors=tuple(f"[MODEL] reason {at}" for at in range(5))))

    assert "reason 2" in box(page)
    assert "reason 3" not in box(page)
    assert "inconclusive: [MODEL] reason 4" in page


def test_examples_stand_right_below_the_verdict():
    shown = ExamplePictures((Case((Column("image 1", "data:1", (), "image 1"),), "Image 1."),))
    page = page_of(outcome_with(OUTCOME, pictures={"turned": shown}))

    assert page.index('class="headline') < page.index('id="report-example"') < page.index("<nav")
    assert page.count('id="report-example"') == 1


def test_terminal_and_page_count_the_same_self_checks():
    checks = [SelfCheck(f"check-{at}", "pass", "equal") for at in range(14)]
    known = outcome_with(
        EMPTY, self_checks=(*checks, SelfCheck("slices-moved", "not_applicable", "no slices"))
    )

    assert "14 of 14 self-checks pass" in summary_lines(known, PurePath("reports"))
    assert "<summary>14 of 14 self-checks pass; 1 not applicable</summary>" in page_of(known)


@pytest.mark.parametrize(
    "changes",
    [
        {"models": {"candidate": {"path": EVIL, "sha256": EVIL, "architecture": EVIL}}},
        {
            "verdicts": (
                replace(WORSE, detail=EVIL, check=replace(WORSE.check, id=EVIL, family=EVIL)),
            )
        },
        {"errors": (EVIL,), "omissions": (EVIL,), "failed_tests": (EVIL,)},
        {
            "command": EVIL,
            "provenance": EVIL,
            "data": {**OUTCOME.inputs.data, "name": EVIL, "split": EVIL},
        },
        {
            "overview": overview(
                model(EVIL, roles=(EVIL,)), model("b"), classes=(EVIL, "$\\bad$", EVIL)
            )
        },
        {
            "pictures": {"turned": ExamplePictures((Case((), EVIL),), EVIL)},
            "tests": (OtherTest(EVIL, EVIL, EVIL),),
        },
    ],
    ids=["model", "check", "reasons", "data", "overview", "pictures"],
)
def test_what_others_wrote_cannot_become_markup(changes):
    page = page_of(outcome_with(OUTCOME, **changes))
    assert Page(page.removeprefix("<!DOCTYPE html>")).tags.count("script") == 1, "the page's own"
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(("drop", "shown"), [(0.04, "4.0 points"), (0.953, "")])
def test_a_row_has_no_detectable_drop_that_no_model_can_lose(drop, shown):
    panel = Threshold(
        0.5, mean=0.9, std=0.01, reference_models=1, minimum_detectable_drop=drop, n=400
    )
    row = row_of(share(Check("clean", "clean", "accuracy", panel=panel), 0.9))
    assert row["minimum_detectable_drop"] == (shown, drop if shown else None)


def test_every_check_has_an_anchor_and_every_link_its_target():
    page = Page(page_of(OUTCOME).removeprefix("<!DOCTYPE html>"))
    named = [
        name
        for name in page.ids
        if not name.startswith(("report-", "word-", "about-", "pictures-", "zoom"))
    ]
    assert named == ["turned", "hair", "good", "boot", "pair", "reported", "flip"], (
        "failures come first"
    )
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= {*page.ids}
    assert {f"#pictures-{name}" for name in named} <= {*page.links}
    words = {
        "about-rotation",
        "about-pairs",
        "word-threshold",
        "word-reference-models",
        "word-minimum-detectable-drop",
    }
    assert words <= {link[1:] for link in page.links}
    assert [page.ids.count(f"word-{name}") for name in terms()] == [1] * len(terms())
    own = page_of(
        outcome_with(EMPTY, verdicts=(share(replace(TURNED, id="own", family="own"), 0.1),))
    )
    assert "about-own" not in own
    assert "http" not in own


def test_every_shipped_behavior_is_explained_as_its_page_is():
    for name, family in FAMILIES.items():
        assert (
            f"`{name}`"
            in (ROOT / f"docs/{family.page}.md").read_text("utf-8").split("**What.**")[0]
        )


# Failing behaviors and their pictures.


def test_what_got_worse_stands_by_behavior_with_its_worst_case():
    other = share(replace(TURNED, id="rotate-ccw-020", pose=Pose(20.0)), 0.7)
    top = part("worse", verdicts=(PASS, WORSE, other))
    assert "Rotated images" in top
    assert "2 of 2 fail" in top
    assert '<a href="#rotate-ccw-020">rotated by 20° counter-clockwise</a>' in top
    assert all(cell in top for cell in (">70.0%<", "≥ 85.1%", "86.8% ± 0.6"))
    assert "turned" not in top
    assert part("worse", verdicts=(PASS,)) == ""


KNOWN = Threshold(30, mean=12.2, std=4.2, reference_models=20, k=4)
CONSENSUS = Check("consensus", "consensus", "consensus_set_errors", panel=KNOWN)


def lost(value: int, check: Check = CONSENSUS) -> Verdict:
    return check.judge(
        Measurement(CONSENSUS_SET_ERRORS, value, 10_000, (1.0, 90.0), detail="of 8514")
    )


def pictured(*names: str) -> dict[str, ExamplePictures]:
    return {
        name: ExamplePictures(tuple(Case((), f"{name} {rank}") for rank in "123")) for name in names
    }


def test_consensus_set_errors_lead_the_examples_then_the_worst_check():
    other = replace(CONSENSUS, id="mirrored")
    known = outcome_with(
        EMPTY,
        verdicts=(WORSE, lost(35), lost(90, other)),
        pictures=pictured("turned", "consensus", "mirrored"),
    )
    body = examples(known).body
    assert "90 consensus-set errors, of 8514. Reference models: 12 images ± 4.2." in body
    assert body.index("mirrored 1") < body.index("mirrored 2")
    assert "mirrored 3" not in body, "the failing behaviors stand not far below"
    assert 'href="#pictures-mirrored"' in body
    worst = examples(outcome_with(known, pictures=pictured("turned"))).body
    assert "turned 1" in worst
    assert "turned 2" not in worst
    assert examples(outcome_with(known, pictures={})) is None
    assert examples(outcome_with(known, verdicts=(lost(20),))) is None


def test_details_hold_the_explanation_pictures_and_what_is_left_out():
    shown = html.unescape(str(checks(outcome_with(OUTCOME, pictures=pictured("turned"))).body))
    assert WORSE.explain() in shown
    assert "turned 3" in shown
    assert "omitted" not in shown
    left_out = {
        "turned": ExamplePictures(omitted=2),
        "hair": ExamplePictures(omitted=1),
        "good": ExamplePictures(omitted=None),
    }
    shown = html.unescape(str(checks(outcome_with(OUTCOME, pictures=left_out)).body))
    for said in ("2 pictures omitted", "1 picture omitted", '<p class="omitted">pictures omitted'):
        assert said in shown
    command = f"<code>{OUTCOME.run.command} -k '[turned]' --stress-reports reports/turned</code>"
    assert f"to keep this page small; to see what is missing: {command}" in shown


# The table of checks.


def rows(*verdicts: Verdict) -> dict[str, list[str]]:
    """The cells of each row but the last, as text, by the row's id."""
    body = str(checks(outcome_with(EMPTY, verdicts=verdicts)).body)
    assert body.count("<table") == 1
    found = re.findall(r'<tr id="([^"]*)"[^>]*>(.*?)</tr>', body, re.DOTALL)
    return {name: cells(f"<tr>{row}</tr>")[0][:-1] for name, row in found}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (49, ["49 images", "≤ 41 images", "8 images of 10,000"]),
        (42, ["42 images", "≤ 41 images", "1 image of 10,000"]),
        (41, ["41 images", "≤ 41 images", ""]),
    ],
)
def test_a_threshold_of_counts_is_a_whole_number_that_holds(value, expected):
    verdict = count(
        Check("pair", "pairs", "pair_failures", "at_most", panel=Threshold(41.9, n=10_000)), value
    )
    assert rows(verdict)["pair"][2:5] == expected
    assert f"{value} {'>' if value > 41 else '<='} threshold 41 " in verdict.explain()
    assert verdict.threshold == 41.9, "it is judged by the calibrated number"


def test_numbers_are_those_of_the_headline():
    found = rows(*VERDICTS)
    assert found["turned"][1:8] == [
        "✗ fails",
        "81.2%",
        "≥ 85.1%",
        "3.9 points",
        "86.8% ± 0.6",
        "1.2 points",
        "10,000",
    ]
    assert found["hair"][2:5] == ["81.20%", "≥ 81.21%", "1 image of 10,000"]
    assert found["pair"][1:8] == ["✓ passes", "17 images", "≤ 30 images", "", "", "", "10,000"]
    assert found["reported"][1:4] == ["informational", "50.0%", ""]
    assert found["reported"][8] == "top confusion Shirt→Coat; they differ"
    assert found["flip"][1:4] == ["not applicable", "", ""]
    assert "Single classes: Boot" in found["boot"][0]
    labels = re.findall("<label>(<input type=.checkbox.*?)</label>", str(checks(OUTCOME).body))
    statuses = ["✗ fails (2)", "✓ passes (3)", "informational (1)", "not applicable (1)"]
    assert list(map(plain, labels)) == statuses, "it can be filtered by them"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("pytest", "pytest -k '[turned]' --stress-reports reports/turned"),
        (
            "pytest -q --stress-reports out -x",
            "pytest -q -x -k '[turned]' --stress-reports out/turned",
        ),
        (
            "pytest --stress-reports=out/ -n 2",
            "pytest -n 2 -k '[turned]' --stress-reports out/turned",
        ),
        (
            "pytest -k 'clean or flip' gate",
            "pytest gate -k '[turned]' --stress-reports reports/turned",
        ),
        (
            "pytest -kclean --stress-reports a --stress-reports=b",
            "pytest -k '[turned]' --stress-reports b/turned",
        ),
        (
            "pytest --candidate 'a b.pt'",
            "pytest --candidate 'a b.pt' -k '[turned]' --stress-reports reports/turned",
        ),
    ],
)
def test_the_command_of_a_check_says_nothing_twice(given, expected):
    body = html.unescape(str(checks(outcome_with(EMPTY, verdicts=(WORSE,), command=given)).body))
    assert f'data-copy="{expected}"' in body
    assert 'data-copy="#turned"' in body


def test_a_command_selects_its_check_alone(pytester):
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.parametrize('stress_check', ['flip', 'flips', 'flip-invariance'])\n"
        "def test_flip(stress_check): ...\n"
    )
    *_, selected, _reports, _folder = rerun_command(["pytest"], "flip").split()
    assert selected == "'[flip]'"
    pytester.runpytest_inprocess("-k", selected.strip("'")).assert_outcomes(passed=1, deselected=2)


# Models side by side.


GRID = Check("worst", "search", "robust_accuracy", keys={"grid": "augmentation-range"}).judge(
    Measurement(ROBUST_ACCURACY, 0.612, 2_000, (0.59, 0.63))
)


def test_robust_accuracy_of_the_incumbent_is_that_of_its_own_run():
    judged = {**EMPTY.inputs.models, "incumbent": {"path": "i", "sha256": "a" * 64}}
    outcome = outcome_with(EMPTY, verdicts=(GRID,), models=judged)
    own = replace(line_of(outcome), candidate="a" * 64, robust_accuracy=0.7)
    found = robust_accuracies(outcome_with(outcome, history=History((own, line_of(outcome)))))
    assert [(role, of.value, of.n) for role, of in found.items()] == [
        ("candidate", 0.612, 2_000),
        ("incumbent", 0.7, 2_000),
    ]


def test_every_worsening_is_marked_unless_the_recipe_is_another():
    worse = model(
        right=0.79,
        confident_errors=388,
        per_class=(rate(0.5), rate(0.79), rate(0.9)),
        corners=rate(0.4),
    )
    beside = model("incumbent", right=0.8, confident_errors=133)
    top = plain(part("comparison", verdicts=(GRID,), overview=compared(worse, beside)))
    assert all(said in top for said in ("▽ 79.0%", "▼ 40.0%", "▼ 388", "61.2%", "n=2,000", "4.0%"))
    assert top.count("▼") + top.count("▽") == 3 + 2, "and the legend"
    page = page_of(
        outcome_with(EMPTY, verdicts=(PASS,), overview=compared(worse, model("baseline")))
    )
    page = re.sub("<style>.*?</style>|<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "▼" not in page
    assert "▽" not in page


def test_failures_by_kind_stand_side_by_side_with_what_is_new():
    whole = part(
        "failures", overview=compared(changes=CHANGES), thumbnails={"17": "data:17", "4": "data:4"}
    )
    titles, everything, pair = cells(whole)[:3]
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
    assert (
        "<details><summary>New errors, which the baseline does not make: 1 of 5, the most confident"
        in whole
    )
    assert (
        "2 of 300 images are wrong in most of 9 poses (baseline 2): 2 of them, the most confident "
        "first" in whole
    )
    captions = [
        " ".join(plain(text).split())
        for text in re.findall(r"<figcaption>(.*?)</figcaption>", whole)
    ]
    assert captions[0].replace(" ", "") == "top→shirt96%·image17"
    assert [caption.split()[-1] for caption in captions[1:]] == ["4", "17"], "the surer first"
    assert re.findall(r'src="([^"]*)"', whole) == ["data:17", "data:4", "data:17"]
    assert 'alt="image 17: top predicted as shirt, confidence 96%; baseline correct, 70%"' in whole
    against = compared(model(), model("incumbent"), changes=replace(CHANGES, against="incumbent"))
    assert "<details open><summary>New errors" in part("failures", overview=against)
    alone = part("failures", overview=compared(model(persistent=None)))
    assert cells(alone)[0] == ["kind", "candidate", "candidate, corners"]
    assert "<summary>New errors" not in alone
    assert part("failures", overview=compared(model(failures=()))) == ""


def test_more_new_mistakes_than_gone_are_marked():
    worse = model(
        right=0.5, failures=(KindCount("any error", 388, 0.5), KindCount("top↔shirt", 41, 0.13))
    )
    beside = model(
        "incumbent", failures=(KindCount("any error", 133, 0.1), KindCount("top↔shirt", 40, 0.125))
    )
    changes = replace(
        CHANGES, by_kind=(KindChange("any error", 300, 45, 88), KindChange("top↔shirt", 3, 2, 38))
    )
    _, everything, pair = cells(
        part("failures", overview=compared(worse, beside, changes=changes))
    )[:3]
    assert everything == ["any error", "▼ 388", "133", "▼ 300", "45", "88", "▼ 50.0%", "10.0%"]
    assert pair == ["top↔shirt", "▽ 41", "40", "▽ 3", "2", "38", "▽ 13.0%", "12.5%"]


def test_changes_since_the_incumbent_stand_in_a_table():
    flips = {"new_failures": list(range(1714)), "fixed_failures": list(range(53)), "net": -0.1661}
    flips |= {"interval": [-0.17, -0.16], "mcnemar_p": 0.0}
    row = cells(part("incumbent", verdicts=(replace(WORSE, flips=flips),)))[1]
    assert (row[0], row[-1]) == ("turned", "< 0.0001")
    assert row[1:3] == ["▼ 1714", "53"]


def test_the_incumbent_is_the_reference_if_it_is_another_model():
    three = compared(
        model(), model("baseline", right=0.5), model("incumbent", roles=("incumbent",))
    )
    assert three.reference.name == "incumbent"
    assert (
        compared(model(roles=("candidate", "incumbent")), model("baseline")).reference.name
        == "baseline"
    )
    assert compared(model()).reference is None
    own = model(failures=(KindCount("any error", 30, 0.2), KindCount(UNIQUE_CONFIDENT, 3, 0.1)))
    assert "of 300, 3 unique" in models(overview(own))
    assert "unique" not in models(overview())


def test_the_page_of_a_comparison_stands_alone_and_escapes():
    flips = {
        "new_failures": [1, 2],
        "fixed_failures": [],
        "mcnemar_p": 0.5,
        "by_class": {EVIL: [2, 0]},
        "by_pair": {},
    }
    content = comparison_page(overview(model(EVIL), model("plain")), flips, {"data": EVIL}, {})
    page = Page(content.removeprefix("<!DOCTYPE html>"))
    assert page.tags.count("script") == 1
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert "All 2 new and 0 fixed failures: compare with --failures FILE.csv" in content
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", content)


# Images.


def test_each_confusion_has_its_images_the_most_frequent_first():
    known = Reference(20, 3, "top", 0.81)
    mistakes = (
        Mistake(17, "top", "shirt", 0.96, known),
        Mistake(4, "shoe", "shirt", 0.5),
        Mistake(9, "top", "shirt", 0.4),
    )
    outcome = outcome_with(
        EMPTY, overview=overview(mistakes=mistakes), thumbnails={"17": "data:17"}
    )
    body = html.unescape(str(confusions(outcome).body))
    assert re.findall(r"<details( open)?><summary>(.*?)</summary>", body) == [
        (" open", "top → shirt: 10 images"),
        ("", "shoe → shirt: 10 images"),
    ]
    assert re.findall(r"image (\d+)</?[bf]", body) == ["17", "9", "4"]
    said = "reference models: top 81%, 3 of 20 wrong"
    assert f'alt="image 17: top predicted as shirt, confidence 96%; {said}" src="data:17"' in body
    assert f"96% · {said} · image 17" in body
    assert "30 of 300 clean images are predicted wrong. Pictures show 3 of them." in body
    assert confusions(EMPTY) is None
    assert confusions(outcome_with(EMPTY, overview=overview())) is None


CLEAN = Check(
    "clean",
    "clean",
    "accuracy",
    panel=Threshold(0.92, mean=0.93, std=0.002, reference_models=20, k=4),
)
SUSPECTS = (
    LabelError(17, "top", EVIL, 0.97, 0.002, 20, 0.003),
    LabelError(4, "shoe", "top", 0.9, 0.01, 19, 0.01),
)


def suspected(*, std: float = 0.002, **rest) -> str:
    first = model(without_label_errors=WithoutLabelErrors(0.9, 298, 2, **rest))
    some = overview(first, label_errors=LabelErrors(300, 20, SUSPECTS))
    clean = share(replace(CLEAN, panel=replace(CLEAN.panel, std=std)), 0.93)
    known = outcome_with(
        EMPTY, verdicts=(clean,), overview=some, thumbnails={"17": "data:17", "4": "data:4"}
    )
    return str(label_error_section(known).body)


def test_label_errors_stand_with_pictures_and_both_verdicts():
    rest = {"reference_mean": 0.94, "reference_std": 0.001}
    body = suspected(**rest)
    assert "against the labels of 2 of 300 images" in body
    assert "Clean accuracy with all images 93.0%, which passes: at least 92.0%" in body
    floor = 0.94 - 4 * (1 / 298) * np.sqrt(1.05)
    assert (
        f"without the suspected label errors 90.0%, which fails: at least {100 * floor:.1f}%"
        in body
    )
    assert body.count("<img") == 2
    assert "<script>" not in body
    wide = f"at least {100 * (0.94 - 4 * 0.01 * np.sqrt(1.05)):.1f}%, the threshold"
    assert wide in suspected(std=0.01, **rest), "its spread is no smaller than the check's"
    assert (
        "without the suspected label errors 90.0%. 2 of its errors are on suspected label errors."
        in suspected()
    )


def test_why_label_errors_are_not_told_is_said():
    section = label_error_section(
        outcome_with(EMPTY, overview=overview(label_errors_missing=f"only 2 {EVIL}"))
    )
    assert section.title == "Suspected label errors"
    assert "only 2" in section.body
    assert "<script>" not in section.body
    assert label_error_section(EMPTY) is None
    assert label_error_section(outcome_with(EMPTY, overview=overview())) is None


def test_golden_images_stand_with_pictures_those_that_are_wrong_first():
    def row(name: str, value: float, reason: str) -> Verdict:
        hand = Threshold(1, reason=reason, n=1, date="2026-11-26")
        check = Check(name, "golden", "golden_right", class_name="shoe", hand=hand)
        return check.judge(
            Measurement(GOLDEN_RIGHT, value, 1, (0.0, 1.0), detail=f"shoe; {reason}")
        )

    verdicts = row("golden-a", 1.0, "complaint 7"), row("golden-b", 0.0, EVIL)
    body = golden(
        outcome_with(
            EMPTY, verdicts=verdicts, thumbnails={"golden-a": "data:a", "golden-b": "data:b"}
        )
    ).body
    assert "1 of 2 images that must never be wrong again are correct; " in body
    assert re.findall(r'src="([^"]*)"', body) == ["data:b", "data:a"]
    assert "<script>" not in body
    assert golden(EMPTY) is None


# Margins, corruptions, groups and pipelines.


PANEL = Threshold(0.85, mean=0.89, std=0.01, reference_models=20, k=3.9, n=10_000)


def accuracy(family: str, value: float, name: str = "", **facts) -> Verdict:
    return share(Check(name or family, family, "accuracy", **{"panel": PANEL, **facts}), value)


def test_each_family_has_its_smallest_margin_beside_that_of_the_incumbent():
    pairs = Threshold(40, mean=30, std=5, reference_models=20, n=10_000)
    verdicts = (
        accuracy("clean", 0.87),
        accuracy("rotation", 0.88, "slight"),
        accuracy("rotation", 0.83, "worst"),
        accuracy("flip", 0.2),
        accuracy("shift", 0.9, panel=None, hand=Threshold(0.5)),
        accuracy("search", 0.9, informational="they differ"),
        count(Check("pair", "pairs", "pair_failures", panel=pairs), 38),
    )
    models = {**EMPTY.inputs.models, "incumbent": {"path": "i", "sha256": "a" * 64}}
    outcome = outcome_with(EMPTY, verdicts=verdicts, models=models)
    before = replace(line_of(outcome), candidate="a" * 64, margins={"clean": 3.25, "flip": 1.0})
    _, *found = cells(
        margins(outcome_with(outcome, history=History((before, line_of(outcome))))).body
    )
    assert [(row[3], row[1], row[2]) for row in found] == [
        ("flip", "▼ −65.0", "+1.0"),
        ("pair", "+0.4", "–"),
        ("clean", "+2.0", "+3.2"),
    ], "rotation fails, stands above, and has no margin of the incumbent"
    for differs in ({"checks": "f" * 64}, {"data": "f" * 64}, {"profile": "quick"}):
        other = History((replace(before, **differs),))
        titles, *rows = cells(margins(outcome_with(outcome, history=other)).body)
        assert titles == ["behavior", "margin", "check"], "a run that is no comparison"
        assert [row[2] for row in rows] == ["pair", "clean"], "failing behaviors stand above"
    assert margins(outcome_with(EMPTY, verdicts=verdicts[1:3])) is None, "one family makes no table"
    assert margins(outcome_with(EMPTY, verdicts=(verdicts[0], *verdicts[2:4]))) is None, (
        "one that passes makes none, either"
    )


def test_the_map_of_corruptions_has_differences_failing_ones_first():
    def at(name: str, severity: int, value: float, **facts) -> Verdict:
        keys = {"corruption": name, "severity": severity}
        return accuracy("corruption", value, f"{name}-{severity}", keys=keys, **facts)

    verdicts = (
        at("fog", 1, 0.88),
        at("fog", 2, 0.86, informational="they differ"),
        at("blur", 1, 0.80),
    )
    body = corruption_map(outcome_with(EMPTY, verdicts=verdicts)).body
    assert "2 of 3 have a threshold" in body
    assert "under 2 corruptions at five severities; 1 checks fail." in body
    found = {"blur": {1: verdicts[2]}, "fog": {1: verdicts[0], 2: verdicts[1]}}
    axes = corruption_heat_map(found, compared=True).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["blur", "fog"]
    assert [text.get_text() for text in axes.texts if text.get_text()] == [
        "✗ −9.0",
        "−1.0",
        "(−3.0)",
    ]
    axes = corruption_heat_map(found, compared=False).axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text()] == [
        "✗ 80.0",
        "88.0",
        "(86.0)",
    ]
    alone = corruption_map(
        outcome_with(EMPTY, verdicts=(*verdicts, at("jpeg", 1, 0.5, panel=None)))
    ).body
    assert "Accuracy in percent" in alone, "accuracy itself where reference models are not known"
    assert corruption_map(outcome_with(EMPTY, verdicts=verdicts[:2])) is None


def group(name: str, value: float, status="pass", *, n=200, informational="") -> Verdict:
    keys, panel = {"by": "camera", "group": name}, Threshold(0.8, mean=0.9, std=0.01)
    check = Check(
        f"{value}", "slice", "group_accuracy", panel=panel, informational=informational, keys=keys
    )
    near, limit = (value - 0.04, value + 0.03), None if informational else 0.8
    return Verdict(
        check, status, "group_accuracy", value=value, threshold=limit, n=n, interval=near
    )


FRONT, REAR = group("front", 0.91), group("rear", 0.75, "fail")
TINY = group(EVIL, 0.6, "informational", n=9, informational="9 images are too few")


def test_groups_have_dots_by_column():
    worst = Check("worst-site", "slice", "worst_group_accuracy", keys={"by": "site", "least": 50})
    site = Verdict(
        worst, "informational", "worst_group_accuracy", value=0.7, n=400, interval=(0.6, 0.8)
    )
    body = slices(outcome_with(EMPTY, verdicts=(PASS, FRONT, REAR, TINY, site))).body
    assert body.count("data:image/svg+xml") == 1, "there is no group of a site"
    assert "1 of 3 checks by camera fail" in body
    assert "Lowest: &lt;/h2&gt;&lt;script&gt;" in body
    assert slices(outcome_with(EMPTY, verdicts=(PASS,))) is None
    many = tuple(group(f"g{at}", 0.5 + at / 200) for at in range(60))
    assert "The 40 lowest of 60." in slices(outcome_with(EMPTY, verdicts=many)).body


def test_a_dot_stands_at_its_value_in_the_color_of_its_status():
    axes = group_dots([TINY, REAR, FRONT], overall=0.88).axes[0]
    dots = [container.lines[0] for container in axes.containers if hasattr(container, "has_xerr")]
    assert [list(dot.get_xdata()) for dot in dots] == [pytest.approx([60, 91]), pytest.approx([75])]
    assert [dot.get_marker() for dot in dots] == ["o", "X"]
    assert dots[0].get_color() != dots[1].get_color()
    bars = [bar for container in axes.containers for bar in getattr(container, "patches", [])]
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [
        (pytest.approx(88.0), pytest.approx(4.0))
    ] * 3
    assert 80.0 in [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "|"]
    assert [label.get_text() for label in axes.get_yticklabels()][1:] == [
        "rear (200)",
        "front (200)",
    ]


def served(skew: str, metric: str, value: float, status="informational", *, detail="") -> Verdict:
    threshold = None if status == "informational" else 0.02
    hand, keys = threshold and Threshold(threshold), {"skew": skew}
    check = Check(
        f"skew-{skew}-{metric}", "skew", f"served_{metric}", "at_most", hand=hand, keys=keys
    )
    unit = Unit.DIFFERENCE if "lost" in metric else Unit.SHARE
    return Verdict(
        check,
        status,
        check.metric,
        value=value,
        threshold=threshold,
        n=500,
        detail=detail,
        unit=unit,
    )


def test_the_costliest_pipelines_are_listed_the_greatest_loss_first():
    slight = served("bits-6", "correct_predictions_lost", 0.004, detail="served with 6 bits")
    great = served("bgr", "correct_predictions_lost", 0.19, "fail", detail="served with BGR")
    changed = served("bgr", "predictions_changed", 0.31, detail="served with BGR, it would change")
    alone = served("gray", "predictions_changed", 0.1, detail=EVIL)
    gained = served("float16", "correct_predictions_lost", -0.01, detail="served in float16")
    data = {"pipeline": "Pillow 12, RGB"}
    outcome = outcome_with(EMPTY, verdicts=(PASS, slight, gained, alone, changed, great), data=data)
    body = serving(outcome).body
    assert costliest(outcome) == [great.detail, slight.detail]
    assert body.index(great.detail) < body.index(slight.detail)
    assert gained.detail not in body
    assert "The reference pipeline: Pillow 12, RGB." in body
    assert "Of 4 other pipelines, 1 of 5 checks fail." in body
    assert EVIL not in body
    assert serving(outcome_with(EMPTY, verdicts=(PASS,))) is None
    assert changed.detail in serving(outcome_with(outcome, verdicts=(changed,))).body
    assert "The costliest first" not in serving(outcome_with(outcome, verdicts=(gained,))).body
