"""Many candidates are ranked by what the gate said of each, and the page says where each wins."""

import re

import pytest
from outcomes import EMPTY

from harness.checks import Check, Threshold, Verdict
from harness.report.ranking import ranking_lines, ranking_page
from harness.run.outcome import Outcome
from harness.run.ranking import Judged, best_behaviors, ranked, wins

EVIL = "<script>alert('x')</script>"


def judged(name: str, values: dict[str, float], *, std: float | None = 0.01, **changes) -> Judged:
    """Return what the gate says of a candidate with these accuracies, each of a family of its own, threshold 0.8."""
    verdicts = tuple(
        Verdict(
            Check(row, row.partition("-")[0], "accuracy", panel=Threshold(0.8, mean=0.85, std=std)),
            "pass" if value >= 0.8 else "fail",
            "accuracy",
            value=value,
            threshold=0.8,
            n=100,
        )
        for row, value in values.items()
    )
    facts = {item: getattr(EMPTY, item) for item in Outcome.__dataclass_fields__}
    report = Outcome(**{**facts, "verdicts": verdicts, **changes}).as_json()
    return Judged.of(name, f"runs/{name}.safetensors", report)


STEADY = judged("steady", {"clean": 0.85, "pose-1": 0.84, "pose-2": 0.84})
SHARP = judged("sharp", {"clean": 0.88, "pose-1": 0.81, "pose-2": 0.84})
BROKEN = judged("broken", {"clean": 0.90, "pose-1": 0.79, "pose-2": 0.9})
REFUSED = judged("refused", {}, errors=(f"the model raised {EVIL}",))
ALL = ranked([REFUSED, BROKEN, SHARP, STEADY])


def test_failing_checks_count_first_then_the_tightest():
    assert [one.name for one in ALL] == ["steady", "sharp", "broken", "refused"]
    assert BROKEN.failing == ["pose-1"]
    assert BROKEN.margins == {"clean": pytest.approx(10.0), "pose": pytest.approx(-1.0)}
    assert SHARP.tightest == ("pose", pytest.approx(1.0))


def test_a_failed_test_without_a_row_ranks_a_candidate_last_and_is_named():
    mine = judged("mine", {"clean": 0.95}, failed_tests=(f"test_own.py::test_mine[{EVIL}]",))
    candidates = ranked([mine, STEADY, BROKEN])
    assert [one.name for one in candidates] == ["steady", "mine", "broken"], "though its gate passes by most"
    (line,) = [line for line in ranking_lines(candidates) if "without a check" in line]
    assert line.startswith("mine fails tests without a check: test_own.py::test_mine")
    page = ranking_page(candidates, {})
    assert "mine fails tests without a check" in page
    assert EVIL not in page


def test_a_row_is_won_by_who_is_plainly_ahead_of_all_others():
    led = {win.row: (win.candidate, win.lead) for win in wins(ALL)}
    assert led == {
        "clean": ("broken", pytest.approx(2.0)),
        "pose-1": ("steady", pytest.approx(3.0)),
        "pose-2": ("broken", pytest.approx(6.0)),
    }
    assert best_behaviors(ALL) == {"broken": ["clean"], "steady": ["pose"]}
    near = [judged("a", {"clean": 0.85}), judged("b", {"clean": 0.859})]
    assert wins(near) == []
    assert best_behaviors(near) == {}
    assert wins([STEADY, REFUSED]) == [], "there is nobody to be ahead of"


def test_of_errors_fewer_win():
    def counting(name, value):
        row = {
            "id": "pairs",
            "family": "pairs",
            "role": "candidate",
            "status": "pass",
            "value": value,
            "threshold": 30.0,
        }
        more = {"direction": "at_most", "reference_std": 5.0, "reference_mean": 20.0, "unit": "images"}
        checks = [{**row, **more}]
        report = {"verdict": "pass", "errors": [], "failed_tests": [], "candidate": None, "checks": checks}
        return Judged.of(name, name, report)

    assert [(win.candidate, win.lead) for win in wins([counting("many", 25), counting("few", 10)])] == [("few", 3.0)]
    assert counting("few", 10).margins == {"pairs": 4.0}


def test_the_terminal_says_rank_and_wins():
    lines = ranking_lines(ALL)
    assert [line.split()[:4] for line in lines[1:5]] == [
        ["1", "steady", "pass", "0"],
        ["2", "sharp", "pass", "0"],
        ["3", "broken", "fail", "1"],
        ["–", "refused", "error", "0"],
    ]
    assert (
        "broken wins pose-2 by 6.0, clean by 2.0 (standard deviations of the reference models ahead of the next)"
        in lines
    )
    assert any(line.startswith("refused has no verdict: the model raised") for line in lines)


def test_the_page_ranks_draws_and_lists_every_row():
    page = ranking_page(ALL, {"checks": "g.toml"})
    assert "<title>4 candidates by the gate</title>" in page
    assert page.count("data:image/svg+xml") == 1
    assert re.search(r"<td>Clean images</td><td>clean</td><td>broken</td><td>2.0</td>", page)
    assert "✗ 79.0%" in page
    assert EVIL not in page


def test_fifty_candidates_are_one_small_page_that_fetches_nothing():
    rows = [f"family{row % 14}-{row:03}" for row in range(200)]
    many = [
        judged(f"candidate-{number:02}", {row: 0.80 + (number * 7 + at * 3) % 40 / 200 for at, row in enumerate(rows)})
        for number in range(50)
    ]
    page = ranking_page(ranked(many), {"checks": "g.toml"})
    assert len(page.encode()) <= 1_000_000
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert page.count("<tr>") > 250
    print(f"{len(page.encode())} bytes")
