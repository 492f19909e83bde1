"""Pictures of a history: in the report, on a page of its own, and the recipe of MLflow."""

import re
import runpy
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from outcomes import EMPTY, outcome_with, verdict

from harness.report.history import (
    accuracy_over_runs,
    history,
    history_lines,
    history_page,
    margin_map,
)
from harness.report.html import page_of
from harness.run.history import History
from harness.run.history_line import line_of
from harness.run.stress_json import record_and_images

FAMILIES = (
    *(
        "clean",
        "class",
        "consensus",
        "pairs",
        "confidence",
        "rotation",
        "shift",
        "pose",
        "search",
        "flip",
        "gain",
    ),
    *("flips", "attention", "corruption"),
)
EVIL = "<script>alert('x')</script>"


def run(number: int, *, failing: int = 0):
    """Return the line of a candidate with 100 checks; some fail."""
    verdicts = tuple(
        verdict(
            "fail" if at < failing else "pass",
            f"gate-{at:03}",
            family=FAMILIES[at % len(FAMILIES)],
            value=value,
        )
        for at in range(100)
        for value in (0.84 if at < failing else 0.86,)
    )
    models = {"candidate": {"path": f"runs/{number}.safetensors", "sha256": f"{number:064x}"[::-1]}}
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
    return replace(
        line_of(outcome_with(EMPTY, verdicts=verdicts, models=models), at=at),
        clean=0.9,
        worst_pose=0.7,
    )


def known(*failing: int) -> History:
    return History(tuple(run(number, failing=count) for number, count in enumerate(failing)))


def test_the_report_says_since_when_a_gate_has_failed():
    section = history(outcome_with(EMPTY, history=known(0, 1, 2)))
    cell = "<td[^>]*>(.*?)</td>"
    rows = re.findall(f"<tr>{cell}{cell}{cell}</tr>", section.body)
    assert rows[:2] == [
        ("gate-000", "2026-01-02 00:00 (10000000)", "2 candidates in a row"),
        ("gate-001", "2026-01-03 00:00 (20000000)", "1 candidate in a row"),
    ]
    assert section.body.count("data:image/svg+xml") == 2
    assert 'id="report-history"' in page_of(outcome_with(EMPTY, history=known(0, 1)))


def test_a_first_run_has_no_history_but_for_what_cannot_be_read():
    assert (
        "2 candidates in a row, or longer: the first one shown"
        in history(outcome_with(EMPTY, history=known(1, 1))).body
    )
    assert history(EMPTY) is None
    assert history(outcome_with(EMPTY, history=known(1))) is None
    damaged = replace(known(1), damaged=(f"h.jsonl: line 2: {EVIL}",))
    assert "h.jsonl: line 2: &lt;script&gt;" in history(outcome_with(EMPTY, history=damaged)).body


def test_the_figures_hold_what_the_runs_measured():
    lines = known(0, 3, 99).lines
    upper, lower = accuracy_over_runs(lines).axes
    assert [list(curve.get_ydata()) for curve in upper.lines] == [[90.0] * 3, [70.0] * 3]
    assert list(lower.lines[0].get_ydata()) == [0, 3, 99]
    axes = margin_map(["one", "two", "three"], [line.margins for line in lines]).axes[0]
    values = np.asarray(axes.collections[0].get_array()).reshape(len(FAMILIES), 3)
    assert (values[0] == [pytest.approx(1.18), pytest.approx(-1.18), pytest.approx(-1.18)]).all()
    crosses = {
        (text.get_position()[0] - 0.5, text.get_position()[1] - 0.5)
        for text in axes.texts
        if text.get_text()
    }
    assert crosses == {(1, row) for row in range(3)} | {(2, row) for row in range(len(FAMILIES))}
    assert [label.get_text().split()[0] for label in lower.get_xticklabels()] == [
        "01-01",
        "01-02",
        "01-03",
    ]


def test_fifty_candidates_are_one_small_page_that_fetches_nothing():
    fifty = known(*range(0, 100, 2))
    page = history_page(fifty, source=EVIL)
    assert page.count("runs/") == 0
    assert len(re.findall(r"<td[^>]*>2026-", page)) == 50 + 98
    assert len(page.encode()) <= 1_000_000
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert EVIL not in page
    print(f"{len(page.encode())} bytes")


def test_each_profile_and_data_has_a_part_of_its_own():
    both = History((*known(0, 1).lines, replace(run(7), profile="quick")))
    page, lines = history_page(both, source="h.jsonl"), history_lines(both)
    data = "data fashion-mnist (dddddddd)"
    titles = [f"1 candidate, quick profile, {data}", f"2 candidates, default profile, {data}"]
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == titles
    assert [line for line in lines if line in titles] == titles
    assert "  gate-000 fails since 2026-01-02 00:00 (10000000), 1 candidate in a row" in lines
    assert [line for line in history_lines(both, last=1) if line.startswith("2026")] == [
        lines[2],
        lines[7],
    ]
    partial = replace(known(0), lines=(replace(run(0), verdict="partial"),))
    assert history_lines(partial) == ["1 runs, none with the verdict pass or fail"]


JUDGED = outcome_with(
    EMPTY,
    verdicts=(
        verdict("pass", value=0.92, std=0.01),
        verdict("fail", "bad", family="pairs", value=0.8, std=0.02),
        verdict("informational", "far", value=float("inf")),
        replace(verdict("error", "broken"), value=None),
    ),
)


def test_the_recipe_of_mlflow_logs_a_verdict(monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="no mlflow: pip install mlflow-skinny")
    text = (Path(__file__).parents[2] / "docs/history.md").read_text()
    (tmp_path / "log_verdict.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/stress.html").write_text("page")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    client = mlflow.MlflowClient((tmp_path / "runs").as_uri())
    client.create_registered_model("fashion")
    for outcome in (outcome_with(JUDGED, verdicts=JUDGED.results.verdicts[:1]), JUDGED):
        version = str(client.create_model_version("fashion", "runs:/new").version)
        (tmp_path / "reports/stress.json").write_text(record_and_images(outcome)[0])
        monkeypatch.setattr(sys, "argv", ["log_verdict.py", "fashion", version])
        runpy.run_path("log_verdict.py", run_name="__main__")
        assert (
            client.get_model_version("fashion", version).tags["stress.verdict"] == outcome.verdict
        )
    assert client.get_model_version_by_alias("fashion", "gated").version in {1, "1"}, (
        "only a pass gets the alias"
    )
    last, first = client.search_runs([client.get_experiment_by_name("robustness").experiment_id])
    assert (first.data.metrics, last.data.metrics) == ({"clean": 0.92}, {"clean": 0.92, "bad": 0.8})
    assert last.data.tags["stress.candidate_sha256"] == "c" * 64
    found = [each.path for each in client.list_artifacts(last.info.run_id, "stress")]
    assert found == ["stress/stress.html", "stress/stress.json"]
