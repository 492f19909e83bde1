"""Evidence: clauses beside the record of a run, where only judged checks count."""

import json
from dataclasses import replace

import pytest
from outcomes import BROKEN, EMPTY, FAIL, MISSING, PASS, REPORTED, outcome_with, verdict
from zoo import ROWS

from harness.checks.families import FAMILIES
from harness.cli import main
from harness.features.evidence.clauses import CLAUSES
from harness.features.evidence.declared import DeclaredFacts
from harness.report.refusal import refusal
from harness.run.stress_json import record_and_images

TABLE = """
[evidence]
intended_purpose = "Sorting animals"
operating_conditions = "Daylight"
responsible_person = "A. Person"
declared_accuracy = 0.9
ground_truth = "Two people each"
"""
REFUSAL = refusal(["[DATA] no data"], ["pytest"], models={"candidate": "c.pt"})
OTHERS = ("--baseline", "models/other.safetensors", "--incumbent", "models/other.safetensors")
CLEAN_ACCURACY = ("EU AI Act", "Annex IV, 2(g): accuracy")
DECLARED = ("EU AI Act", "Article 15(3)")


@pytest.fixture
def assess(tmp_path, monkeypatch, capsys):
    """Return a function that writes a record, runs the command, and returns its status and JSON."""
    monkeypatch.chdir(tmp_path)

    def run(record: dict | str) -> tuple[int, dict]:
        text = record if isinstance(record, str) else json.dumps(record)
        (tmp_path / "stress.json").write_text(text)
        status = main(["evidence", "stress.json"])
        return status, json.loads((tmp_path / "evidence.json").read_text())

    return run


def record_with(*verdicts, declared: DeclaredFacts | None = None, **facts) -> str:
    """Return the text of a record with these verdicts."""
    parts = {"evidence": declared} if declared else {}
    return record_and_images(outcome_with(EMPTY, verdicts=verdicts, parts=parts, **facts))[0]


def rows_of(document: dict) -> dict[tuple[str, str], dict]:
    """Return the rows by document and clause."""
    return {(row["source"], row["clause"]): row for row in document["rows"]}


def verdict_on(family: str, status: str = "pass"):
    return verdict(status, f"of-{family}", family=family, value=0.9)


@pytest.fixture
def run_record(zoo):
    """Return the record of a run of the gate, with all models and all declared facts."""
    zoo.bind(f"{ROWS}{TABLE}")
    zoo.save("models/other.safetensors", jitter=1.0, seed=1)
    zoo.run(*OTHERS, overview=True)
    return zoo.report()


def test_each_field_of_a_clause_is_in_a_record(run_record):
    gone = []
    for clause in CLAUSES:
        for path in clause.fields:
            place = run_record
            for name in path.split("."):
                if not isinstance(place, dict) or name not in place:
                    gone.append(f"{clause.number}: {path}")
                    break
                place = place[name]
    assert gone == []


def test_families_of_clauses_exist():
    families = {family for clause in CLAUSES for family in clause.families}
    assert families <= {*FAMILIES}


def test_a_run_records_declared_facts_and_its_environment(run_record, assess):
    assert run_record["evidence"] == {
        "intended_purpose": "Sorting animals",
        "operating_conditions": "Daylight",
        "responsible_person": "A. Person",
        "declared_accuracy": 0.9,
        "ground_truth": "Two people each",
    }
    environment = run_record["environment"]
    assert environment["cores"] >= 1
    assert environment["memory_bytes"] > 0
    assert environment["libraries"].keys() >= {"numpy", "scipy", "torch"}
    assert environment["seeds"]["samples"] == 0
    assert environment["precision"].startswith("float32")

    status, document = assess(run_record)
    assert status == 0
    row = rows_of(document)["ISO/IEC TS 4213:2022", "5.3.9"]
    assert row["status"] == "declared"
    assert row["fields"] == {"evidence.ground_truth": "Two people each"}
    assert document["accuracy"]["check"] == "clean"


@pytest.fixture
def sample_record(zoo):
    """Return the record of a run on a quarter of the images."""
    zoo.run("--stress-samples", "100")
    return zoo.report()


def test_a_run_on_a_sample_is_partial(sample_record, assess):
    status, document = assess(sample_record)
    assert status == 0
    assert "partial run: 100 of 400 images were measured" in document["limits"]
    by_checks = [row["status"] for row in document["rows"] if row["judged"]]
    assert by_checks
    assert "covered" not in by_checks


def test_two_runs_have_one_environment(zoo):
    zoo.run()
    first = zoo.report()["environment"]
    zoo.run()
    assert zoo.report()["environment"] == first


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[evidence]\npurpose = 'x'\n", "unknown key 'purpose'"),
        ("[evidence]\ndeclared_accuracy = 1.1\n", "declared_accuracy is 1.1"),
        ("[evidence]\ndeclared_accuracy = -0.1\n", "declared_accuracy is -0.1"),
        ("[evidence]\ndeclared_accuracy = 'high'\n", "declared_accuracy is 'high'"),
        ("[evidence]\nground_truth = ''\n", "ground_truth is ''"),
    ],
)
def test_a_table_with_an_error_is_refused(zoo, table, message):
    zoo.bind(f"{ROWS}\n{table}")
    assert zoo.run().ret == 4
    assert any(message in error for error in zoo.report()["errors"]), zoo.report()["errors"]


@pytest.mark.parametrize("family", ["clean", "class", "confidence"])
def test_a_clause_needs_a_judged_check_of_each_family(assess, family):
    others = [verdict_on(name) for name in ("clean", "class", "confidence") if name != family]
    _, document = assess(record_with(*others, verdict_on(family)))
    assert rows_of(document)[CLEAN_ACCURACY]["status"] == "covered"

    for status in ("informational", "not_applicable"):
        _, document = assess(record_with(*others, verdict_on(family, status)))
        row = rows_of(document)[CLEAN_ACCURACY]
        assert row["status"] == "covered in part"
        assert row["not_counted"] == {status.replace("_", " "): [f"of-{family}"]}
        assert f"no judged check of family {family}" in row["missing"]


def test_checks_without_a_verdict_cover_nothing(assess):
    _, document = assess(record_with(verdict_on("rotation"), REPORTED, MISSING))
    row = rows_of(document)[CLEAN_ACCURACY]
    assert row["status"] == "not covered"
    assert row["judged"] == []


def test_a_check_of_another_model_covers_nothing(assess):
    other = replace(PASS, check=replace(PASS.check, role="baseline"))
    _, document = assess(record_with(verdict_on("rotation"), other))
    row = rows_of(document)[CLEAN_ACCURACY]
    assert row["status"] == "not covered"
    assert row["not_counted"] == {"about the baseline": ["good"]}


def test_a_failing_check_is_named(assess):
    _, document = assess(record_with(FAIL, verdict_on("class"), verdict_on("confidence")))
    row = rows_of(document)[CLEAN_ACCURACY]
    assert row["status"] == "tested and failed"
    assert row["failing"] == ["bad"]


def test_a_partial_run_covers_in_part(assess):
    verdicts = [verdict_on(name) for name in ("clean", "class", "confidence")]
    omission = "500 of 10000 images were measured"
    _, document = assess(record_with(*verdicts, omissions=(omission,)))
    assert document["limits"] == [f"partial run: {omission}"]
    row = rows_of(document)[CLEAN_ACCURACY]
    assert row["status"] == "covered in part"
    assert f"partial run: {omission}" in row["missing"]


@pytest.mark.parametrize(
    "record",
    [
        record_with(PASS, BROKEN, declared=DeclaredFacts(declared_accuracy=0.5)),
        json.dumps(REFUSAL),
    ],
    ids=["error", "refusal"],
)
def test_a_refused_run_covers_nothing(assess, record):
    status, document = assess(record)
    assert status == 1
    assert {row["status"] for row in document["rows"]} == {"not covered"}
    assert document["accuracy"] is None
    assert document["limits"][0].startswith("the run has no verdict")


@pytest.mark.parametrize(
    ("declared", "ruling", "row_status", "status"),
    [
        (0.70, "supported", "covered in part", 0),
        (0.80, "open", "covered in part", 0),
        (0.90, "contradicted", "tested and failed", 1),
    ],
)
def test_declared_accuracy_beside_the_measured(assess, declared, ruling, row_status, status):
    measured = verdict("pass", value=0.8, threshold=0.6)
    facts = DeclaredFacts(declared_accuracy=declared)
    found, document = assess(record_with(measured, declared=facts))
    assert found == status
    assert document["accuracy"]["ruling"] == ruling
    assert rows_of(document)[DECLARED]["status"] == row_status
    # Clopper and Pearson's interval of 80 in 100, as tables have it.
    assert document["accuracy"]["interval"] == pytest.approx([0.7082, 0.8733], abs=1e-4)


def test_a_declared_accuracy_that_nothing_measured(assess):
    facts = DeclaredFacts(declared_accuracy=0.9)
    status, document = assess(record_with(verdict_on("rotation"), declared=facts))
    assert status == 0
    assert document["accuracy"]["ruling"] == "not measured"
    assert rows_of(document)[DECLARED]["status"] == "declared"


def test_the_candidate_is_no_baseline_of_itself(run_record, assess):
    clause = ("ISO/IEC TS 4213:2022", "5.3.13")
    own = {"incumbent": run_record["candidate"]}
    _, document = assess(run_record | own)
    row = rows_of(document)[clause]
    assert "incumbent.sha256" not in row["fields"]
    assert "incumbent.sha256 is that of the candidate" in row["missing"]


def test_the_page_has_values_beside_their_thresholds(assess, tmp_path):
    assess(record_with(PASS, FAIL))
    page = (tmp_path / "evidence.md").read_text()
    assert "clean: bad, accuracy 80.0%, required ≥ 85.0%, 100 images" in page
    assert "thresholds of the judged checks: 2 by panel" in page


def test_changed_files_are_no_documented_commit(run_record, assess):
    clause = ("ISO/IEC TS 4213:2022", "5.3.11")
    environment = run_record["environment"] | {"commit": "a" * 40, "is_changed": False}
    _, document = assess(run_record | {"environment": environment})
    assert rows_of(document)[clause]["status"] == "covered"

    changed = environment | {"is_changed": True}
    _, document = assess(run_record | {"environment": changed})
    assert rows_of(document)[clause]["status"] == "covered in part"

    _, document = assess(run_record | {"environment": None})
    row = rows_of(document)[clause]
    assert row["status"] == "covered in part"
    assert "no value of environment.processor" in row["missing"]


@pytest.mark.parametrize("fact", ["accelerator", "precision"])
def test_an_unknown_device_is_no_evidence(run_record, assess, fact):
    environment = run_record["environment"] | {fact: "unknown: the predictor chooses it"}
    _, document = assess(run_record | {"environment": environment})
    row = rows_of(document)["ISO/IEC TS 4213:2022", "5.3.12"]
    assert f"environment.{fact}" not in row["fields"]
    assert f"no value of environment.{fact}" in row["missing"]


def test_a_predictor_chooses_its_own_device(zoo):
    (zoo.root / "answers.py").write_text(
        "import numpy as np\n\n\ndef predict(pixels):\n    return np.eye(4)[np.zeros(len(pixels), "
        "int)]\n"
    )
    zoo.run("--candidate", "python:answers:predict")
    environment = zoo.report()["environment"]
    assert environment["accelerator"] == "unknown: the predictor chooses it"
    assert environment["precision"] == "unknown: the predictor chooses it"


def test_the_page_claims_no_conformity(assess, tmp_path):
    assess(record_with(*(verdict_on(family) for family in FAMILIES)))
    page = (tmp_path / "evidence.md").read_text()
    assert "conforms" not in page
    for gap in ("adversarial robustness", "cybersecurity", "fairness beyond the groups"):
        assert gap in page
    never = {
        ("EU AI Act", "Article 15(5): adversarial examples"),
        ("EU AI Act", "Annex IV, 2(h)"),
        ("ISO/IEC TR 24029-1:2021", "6"),
    }
    rows = rows_of(json.loads((tmp_path / "evidence.json").read_text()))
    assert {rows[clause]["status"] for clause in never} == {"not covered"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("no JSON", "is not the whole record of a run"),
        ('{"schema": 1}', "schema 1, and this version reads schema 2"),
        ("[]", "schema None"),
        ('{"schema": 2, "finished": false}', "stress.json"),
        (json.dumps(REFUSAL | {"candidate": "c.pt"}), "is not the whole record of a run"),
        (json.dumps(REFUSAL | {"errors": None}), "is not the whole record of a run"),
    ],
    ids=["missing", "no-json", "other-schema", "list", "empty", "candidate", "errors"],
)
def test_what_is_no_record_ends_with_2(tmp_path, monkeypatch, capsys, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "stress.json").write_text(content)
    assert main(["evidence", "stress.json"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "evidence.md").exists()


def test_files_of_others_are_not_replaced(assess, tmp_path, capsys):
    (tmp_path / "stress.json").write_text(record_with(PASS))
    (tmp_path / "notes.md").write_text("# Notes\n")
    assert main(["evidence", "stress.json", "--output", "notes.md"]) == 2
    assert "exists and is not a page of evidence" in capsys.readouterr().err
    assert main(["evidence", "stress.json", "--output", "stress.md"]) == 2
    assert "is an input of this command" in capsys.readouterr().err
    assert main(["evidence", "stress.json", "--output", "page.txt"]) == 2
    assert main(["evidence", "stress.json", "--output", "page.md"]) == 0
    assert main(["evidence", "stress.json", "--output", "page.md"]) == 0


def test_an_earlier_record_has_no_environment(assess):
    record = json.loads(record_with(PASS))
    del record["environment"], record["evidence"]
    status, document = assess(record)
    assert status == 0
    assert rows_of(document)["ISO/IEC TS 4213:2022", "5.3.12"]["status"] == "not covered"
