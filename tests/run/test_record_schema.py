"""The JSON schema of `stress.json` fits records of every kind, and names each key."""

import json

import pytest
from jsonschema import Draft202012Validator
from outcomes import BROKEN, EMPTY, FAIL, MISSING, PASS, REPORTED, outcome_with
from overviews import CHANGES, model, overview

from harness.cli import main
from harness.features.slices.report import WorstSlice
from harness.report.refusal import refusal
from harness.run.findings import SelfCheck
from harness.run.record_schema import record_schema
from harness.run.results import OtherTest
from harness.run.stress_json import record_and_images

WHOLE = outcome_with(
    EMPTY,
    verdicts=(PASS, FAIL, REPORTED, MISSING, BROKEN),
    self_checks=(SelfCheck("identity", "pass", "the same bits"),),
    overview=overview(model(), model("baseline", right=0.8), n=60, changes=CHANGES),
    tests=(OtherTest("test_own.py::test_own", "failed", "text"),),
    parts={"slices": WorstSlice("Of 9 slices, one is the worst.", "", facts=("bee-3",))},
)
OUTCOME = json.loads(record_and_images(WHOLE)[0])
REFUSAL = refusal(
    ["[DATA] no data"], ["pytest"], run="a" * 32, models={"candidate": "c.pt"}, data="npz:a.npz"
)


def errors_of(record: dict) -> list[str]:
    found = Draft202012Validator(record_schema()).iter_errors(record)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def test_the_command_prints_a_valid_schema(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert schema == record_schema()


@pytest.mark.parametrize("record", [OUTCOME, REFUSAL], ids=["outcome", "refusal"])
def test_records_of_every_kind_are_valid_and_the_schema_names_their_keys(record):
    assert errors_of(record) == []
    schema = record_schema()
    assert set(record) == set(schema["properties"]) == set(schema["required"])
    own = schema["$defs"]["CheckResult"]
    for check in record["checks"]:
        assert set(check) == set(own["properties"]) == set(own["required"])


def test_the_record_of_a_run_is_valid(zoo):
    zoo.save("new.safetensors", blind=True)
    zoo.run("--candidate", "new.safetensors", page=True)
    record = json.loads((zoo.root / "reports/stress.json").read_text())
    assert record["verdict"] == "fail"
    assert record["pictures"]
    assert errors_of(record) == []


def test_keys_of_a_later_version_are_valid():
    check = {**OUTCOME["checks"][0], "later": 1}
    assert errors_of({**OUTCOME, "later": 1, "checks": [check]}) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 3}, "schema: 2 was expected"),
        ({"verdict": "PASS"}, "verdict: 'PASS' is not one of"),
        ({"candidate": {"path": "c.pt"}}, "candidate: "),
        ({"data": {}}, "data: 'name' is a required property"),
        ({"errors": "none"}, "errors: 'none' is not of type 'array'"),
        ({"checks": [{"id": "clean"}]}, "checks/0: 'role' is a required property"),
    ],
)
def test_a_record_that_breaks_the_contract_is_invalid(changes, said):
    assert any(error.startswith(said) for error in errors_of({**OUTCOME, **changes}))


def test_a_missing_key_is_invalid():
    record = {name: value for name, value in OUTCOME.items() if name != "headline"}
    assert errors_of(record) == [": 'headline' is a required property"]
