"""Finished runs are ranked by their records.

Verdicts, failing checks, margins, and the checks that each wins.
"""

import json
import subprocess
import sys
from functools import reduce

import pytest
from outcomes import EMPTY, outcome_with

from harness import cli
from harness.checks import Check, Threshold, Verdict
from harness.features.comparison.ranking import Pair, Run, rank, run_of
from harness.run.stress_json import stress_json


def record(
    name: str, values: dict[str, float], *, std: float | None = 0.01, **changes
) -> dict[str, object]:
    """Return the record of a candidate with these accuracies.

    Each is of a family of its own, with threshold 0.8.
    """
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
    models = {
        "candidate": {
            "path": f"runs/{name}.safetensors",
            "sha256": name,
            "architecture": "fashion-cnn",
        }
    }
    facts = {"verdicts": verdicts, "models": models, **changes}
    return json.loads(json.dumps(stress_json(outcome_with(EMPTY, **facts))))


def judged(name: str, values: dict[str, float], **changes) -> Run:
    return run_of(record(name, values, **changes), f"{name}/stress.json")


VALUES = {
    "steady": {"clean": 0.85, "pose-1": 0.84, "pose-2": 0.84},
    "sharp": {"clean": 0.88, "pose-1": 0.81, "pose-2": 0.84},
    "broken": {"clean": 0.90, "pose-1": 0.79, "pose-2": 0.9},
}
RUNS = {name: judged(name, values) for name, values in VALUES.items()}
ALL = rank([RUNS["broken"], RUNS["sharp"], RUNS["steady"]])


def test_a_verdict_counts_first():
    assert list(ALL.runs) == ["steady", "sharp", "broken"]
    assert ALL.pairs["broken"]["steady"] == Pair(ahead=2, behind=1)
    assert RUNS["broken"].failing == ["pose-1"]
    assert RUNS["broken"].margins == {"pose": pytest.approx(-1.0), "clean": pytest.approx(10.0)}
    assert next(iter(RUNS["sharp"].margins.items())) == ("pose", pytest.approx(1.0))


def test_as_many_checks_are_counted_as_in_the_headline_of_the_run():
    plain = record("mine", VALUES["broken"])
    baseline = Check(
        "baseline-clean", "baseline", "accuracy", role="baseline", panel=Threshold(0.8)
    )
    verdict = Verdict(baseline, "pass", "accuracy", value=0.9, threshold=0.8, n=100).as_json()
    plain["checks"].append(json.loads(json.dumps(verdict)))

    ranking = rank([run_of(plain, "mine/stress.json")])

    assert "1 of 4" in ranking.lines[1]


def test_the_better_model_ranks_first_though_one_of_its_checks_is_tight():
    best = judged("best", {"clean": 0.88, "flip": 0.88, "pose-1": 0.801})
    middle = judged("middle", {"clean": 0.86, "flip": 0.86, "pose-1": 0.83})
    last = judged("last", {"clean": 0.84, "flip": 0.84, "pose-1": 0.83})
    ranking = rank([last, middle, best])
    assert list(ranking.runs) == ["best", "middle", "last"]
    assert ranking.pairs["best"] == {"last": Pair(2, 1), "middle": Pair(2, 1)}
    assert [line.split()[:5] for line in ranking.lines[1:4]] == [
        ["1", "best", "pass", "2", "of"],
        ["2", "middle", "pass", "1", "of"],
        ["3", "last", "pass", "0", "of"],
    ]


def test_a_lead_within_chance_wins_no_pair_and_the_margin_breaks_the_tie():
    near = rank([judged("a", {"clean": 0.85}), judged("b", {"clean": 0.859})])
    assert near.pairs["b"]["a"] == Pair(0, 0)
    assert list(near.runs) == ["b", "a"]


def test_two_candidates_compare_on_their_common_checks_on_as_many_images():
    found = record("sampled", {"clean": 0.95, "flip": 0.90})
    found["checks"][0]["n"] = 50
    ranking = rank(
        [run_of(found, "sampled"), judged("whole", {"clean": 0.85, "flip": 0.85, "pose-1": 0.9})]
    )
    assert ranking.pairs["sampled"]["whole"] == Pair(ahead=1, behind=0), "flip alone"


def test_candidates_that_beat_equally_many_rank_by_the_checks_they_lead():
    """Each candidate beats one other, as in rock, paper, scissors.

    `a` leads one more check of `b`.
    """
    rock = judged("a", {"clean": 0.88, "flip": 0.84, "pose-1": 0.86, "shift-1": 0.90})
    paper = judged("b", {"clean": 0.86, "flip": 0.88, "pose-1": 0.84, "shift-1": 0.84})
    scissors = judged("c", {"clean": 0.84, "flip": 0.86, "pose-1": 0.88})
    ranking = rank([scissors, paper, rock])
    assert ranking.pairs["a"] == {"b": Pair(3, 1), "c": Pair(1, 2)}
    assert ranking.pairs["b"]["c"].won
    assert list(ranking.runs) == ["a", "c", "b"]


def test_a_failed_test_without_a_check_counts_and_is_named():
    mine = judged("mine", {"clean": 0.95}, failed_tests=("test_own.py::test_mine",))
    ranking = rank([mine, RUNS["steady"], RUNS["broken"]])
    assert list(ranking.runs) == ["steady", "mine", "broken"], "though its checks pass by most"
    assert "mine fails tests without a check: test_own.py::test_mine" in ranking.lines


def test_a_check_is_won_by_who_is_clearly_ahead_of_all_others():
    assert ALL.wins == {
        "steady": {"pose-1": pytest.approx(3.0)},
        "sharp": {},
        "broken": {"pose-2": pytest.approx(6.0), "clean": pytest.approx(2.0)},
    }
    assert ALL.best == {"steady": ["pose"], "sharp": [], "broken": ["clean"]}
    near = rank([judged("a", {"clean": 0.85}), judged("b", {"clean": 0.859})])
    assert (near.wins, near.best) == ({"a": {}, "b": {}}, {"a": [], "b": []})
    assert rank([RUNS["steady"]]).wins == {"steady": {}}, "there is nobody to be ahead of"
    found = record("sampled", {"clean": 0.95})
    found["checks"][0]["n"] = 50
    apart = rank([run_of(found, "sampled"), judged("whole", {"clean": 0.85})])
    assert (apart.wins["sampled"], apart.best["sampled"]) == ({}, []), "on other images"
    assert (
        rank([judged("a", {"clean": 0.85, "flip": 0.85}), judged("b", {"clean": 0.85})]).best["a"]
        == []
    )


def test_of_errors_fewer_win():
    def counting(name, value):
        found = record(name, {"pairs": 0.9})
        more = {
            "direction": "at_most",
            "reference_std": 5.0,
            "reference_mean": 20.0,
            "value": value,
            "threshold": 30.0,
        }
        found["checks"][0] |= more
        return run_of(found, name)

    assert rank([counting("many", 25), counting("few", 10)]).wins["few"] == {"pairs": 3.0}
    assert counting("few", 10).margins == {"pairs": 4.0}


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Paths of the records of three runs, on the disk."""
    monkeypatch.chdir(tmp_path)
    for name, values in VALUES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "stress.json").write_text(json.dumps(record(name, values)))
    return [f"{name}/stress.json" for name in VALUES]


def test_the_command_prints_ranks_and_wins(records, capsys):
    assert cli.main(["rank", *records]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:4]] == [
        ["1", "steady", "pass", "0"],
        ["2", "sharp", "pass", "0"],
        ["3", "broken", "fail", "2"],
    ]
    unit = "standard deviations of the reference models ahead of the next"
    assert f"broken wins pose-2 by 6.0, clean by 2.0 ({unit})" in lines
    assert cli.main(["rank", "--json", *records]) == 0
    first, *_, last = json.loads(capsys.readouterr().out)["ranking"]
    assert (first["candidate"], first["record"], first["won"]) == (
        "steady",
        "steady/stress.json",
        {"pose-1": 3.0},
    )
    assert (last["failing"], last["margins"]["pose"]) == (["pose-1"], pytest.approx(-1.0))


def test_candidates_of_one_name_are_told_apart_by_their_records(tmp_path, records, capsys):
    changed = {**json.loads((tmp_path / records[0]).read_text())}
    changed["candidate"]["sha256"] = "other"
    (tmp_path / "again.json").write_text(json.dumps(changed))
    assert cli.main(["rank", "--json", records[0], "again.json"]) == 0
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert {one["candidate"] for one in ranking} == {records[0], "again.json"}


def changed(*place: str, to: object):
    """Return what changes a record at this place."""

    def change(found: dict[str, object]) -> dict[str, object]:
        *outer, name = place
        reduce(lambda each, key: each[key], outer, found)[name] = to
        return found

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            changed("data", "sha256", to="0" * 64),
            "its run has another set of images than steady/stress.json",
        ),
        (
            changed("checks_sha256", to="0" * 64),
            "its run has another checks file than steady/stress.json",
        ),
        (changed("protocol", to=2), "its run has another protocol than steady/stress.json"),
        (changed("profile", to="quick"), "its run has another profile than steady/stress.json"),
        (
            changed("candidate", "sha256", to="steady"),
            "its candidate is the network of steady/stress.json",
        ),
        (changed("schema", to=1), "schema 1, and this version reads schema 2"),
        (changed("checks", to={}), "checks is {}, expected a list"),
        (lambda found: [found], "schema None, and this version reads schema 2"),
        (lambda found: {**found, "checks": [{"role": "candidate", "id": "clean"}]}, "check clean"),
        (
            lambda found: {**found, "verdict": "error", "candidate": None, "errors": ["no data"]},
            "the run is inconclusive and has no rank (no data); leave it out",
        ),
        (
            changed("stopped", to="stopped at clean"),
            "the run stopped at clean, so it has no rank; leave it out",
        ),
        *(
            (text, "cannot be read as the stress.json of a run")
            for text in ("", "no JSON", "[" * 100_000)
        ),
    ],
    ids=[
        *(
            "data",
            "checks",
            "protocol",
            "profile",
            "twice",
            "schema",
            "no-list",
            "no-table",
            "cut",
            "inconclusive",
            "stopped",
        ),
        *("empty", "text", "deep"),
    ],
)
def test_what_cannot_be_ranked_together_is_refused(tmp_path, records, capsys, change, said):
    path = tmp_path / records[1]
    path.write_text(
        change if isinstance(change, str) else json.dumps(change(json.loads(path.read_text())))
    )
    assert cli.main(["rank", *records]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: [USAGE] {records[1]}: ")
    assert said in err


def test_ranking_imports_no_torch(tmp_path, records):
    code = (
        "import sys\nfrom harness import cli\n"
        "assert cli.main(['rank', *sys.argv[1:]]) == 0\nassert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, *records], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL
    )
