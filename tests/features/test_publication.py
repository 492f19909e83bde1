"""A verdict for others: an in-toto statement, a section of a model card, and a badge."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import json_format
from huggingface_hub import ModelCard
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult as Predicate
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
from outcomes import BROKEN, EMPTY, FAIL, MISSING, PASS, REPORTED, outcome_with, verdict

from harness.base.errors import InputError
from harness.checks import Check, Threshold, Verdict
from harness.cli import main
from harness.features.equivalence.report import OriginalDifferences
from harness.features.fingerprint.report import OPEN
from harness.features.publication.card import inserted
from harness.run.findings import SelfCheck
from harness.run.stress_json import record_and_images

WEIGHTS = b"the weights of a model"
RARE = Verdict(
    Check(
        "weak",
        "rotation",
        "accuracy",
        panel=Threshold(0.5, mean=0.9, std=0.001, reference_models=20),
        direction="at_least",
        informational="few images",
    ),
    "informational",
    "accuracy",
    value=0.8,
    n=100,
)
ONE = replace(
    PASS, check=replace(PASS.check, panel=Threshold(0.85, mean=0.9, std=0.01, reference_models=1))
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that leaves the record of a run beside the file of its model.

    The record has these verdicts.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.safetensors").write_bytes(WEIGHTS)
    candidate = {
        "path": "new.safetensors",
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "architecture": "user",
    }

    def left(*verdicts, **changes):
        facts = {
            "models": {"candidate": candidate},
            "verdicts": verdicts,
            "recipe": {"panel_sha256": "a" * 64},
        }
        outcome = outcome_with(EMPTY, **{**facts, "folder": str(tmp_path), **changes})
        (tmp_path / "stress.json").write_text(record_and_images(outcome)[0])
        return outcome

    return left


def stated(folder):
    """Return the written statement, after validation by the reader of in-toto."""
    text = (folder / "stress.intoto.json").read_text()
    Statement.copy_from_pb(json_format.Parse(text, Message())).validate()
    plain = json.loads(text)
    json_format.ParseDict(plain["predicate"], Predicate())
    return plain


@pytest.mark.parametrize(
    ("verdicts", "own", "expected"),
    [
        ((PASS, REPORTED, MISSING), (), ("PASSED", ["good"], [], [])),
        ((PASS, RARE), (), ("WARNED", ["good"], ["weak"], [])),
        ((ONE,), (), ("WARNED", ["good"], [], [])),
        (
            (PASS, FAIL),
            ("test_own.py::test_mine",),
            ("FAILED", ["good"], [], ["bad", "test_own.py::test_mine"]),
        ),
    ],
    ids=["pass", "signs", "provisional", "fail"],
)
def test_a_whole_run_is_attested(run, tmp_path, verdicts, own, expected):
    run(*verdicts, failed_tests=own)
    assert main(["attest", "stress.json"]) == 0
    plain = stated(tmp_path)
    assert plain["subject"] == [
        {"name": "new.safetensors", "digest": {"sha256": hashlib.sha256(WEIGHTS).hexdigest()}}
    ]
    found = plain["predicate"]
    assert (
        tuple(found[name] for name in ("result", "passedTests", "warnedTests", "failedTests"))
        == expected
    )
    digests = {each["name"]: each["digest"]["sha256"] for each in found["configuration"]}
    record = hashlib.sha256((tmp_path / "stress.json").read_bytes()).hexdigest()
    assert digests == {
        "checks": "e" * 64,
        "panel": "a" * 64,
        "data": "d" * 64,
        "stress.json": record,
    }


@pytest.mark.parametrize(
    ("verdicts", "changes", "said"),
    [
        ((PASS,), {"omissions": ("500 of 10000 images were measured",)}, "the run is partial"),
        ((PASS, BROKEN), {}, "the run is inconclusive"),
        (
            (PASS,),
            {"self_checks": (SelfCheck("identity", "fail", "differs"),)},
            "the run is inconclusive",
        ),
        (
            (PASS,),
            {"models": {"candidate": {"path": "new.safetensors", "sha256": "c" * 64}}},
            "it has changed since",
        ),
        (
            (PASS,),
            {"models": {"candidate": {"path": "https://host/v2/models/m", "sha256": "c" * 64}}},
            "is no file",
        ),
    ],
)
def test_no_statement_without_a_whole_verdict_on_this_file(run, capsys, verdicts, changes, said):
    run(PASS)
    assert main(["attest", "stress.json"]) == 0
    run(*verdicts, **changes)
    assert main(["attest", "stress.json"]) == 1
    assert said in capsys.readouterr().out
    assert not Path("stress.intoto.json").exists(), (
        "the statement on an earlier run would be signed"
    )


WITHOUT_INCUMBENT = replace(
    verdict("not_applicable", "regression", family="regression"), without="incumbent"
)

OF_ANOTHER_RECIPE = Verdict(
    Check(
        "weights",
        "fingerprint",
        "weight_distance",
        # Wide enough that the value is no sign of a weaker model.
        panel=Threshold(1.0, mean=0.0, std=1.0, reference_models=3),
        direction="at_most",
        informational=OPEN,
    ),
    "informational",
    "weight_distance",
    value=1.1,
    n=100,
)


@pytest.mark.parametrize(
    ("verdicts", "changes"),
    [
        (
            (PASS,),
            {"notices": ("compared with b.safetensors, which is not the declared incumbent",)},
        ),
        ((PASS,), {"scope": "quick profile: 1 check of 12", "profile": "quick"}),
        ((PASS, WITHOUT_INCUMBENT), {}),
        ((PASS, OF_ANOTHER_RECIPE), {}),
        (
            (PASS,),
            {
                "parts": {
                    "differences": OriginalDifferences(
                        "1 of 9 predictions change.", "The original fails itself"
                    )
                }
            },
        ),
    ],
    ids=["notice", "quick profile", "no incumbent", "another recipe", "doubtful original"],
)
def test_a_pass_that_the_gate_qualifies_is_warned(run, tmp_path, verdicts, changes):
    run(*verdicts, **changes)
    assert main(["attest", "stress.json"]) == 0
    assert stated(tmp_path)["predicate"]["result"] == "WARNED"


@pytest.mark.parametrize("path", ["/proc/kmsg", "/dev/zero", "pipe", "large.bin"])
def test_a_model_without_an_end_is_not_read(run, tmp_path, capsys, path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(17 << 30)
    run(PASS, models={"candidate": {"path": path, "sha256": "c" * 64}})
    assert main(["attest", "stress.json"]) == 1
    assert f"{path} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred is no file"),
        ("a\n::error::mine", "a\\n::error::mine is no file"),
        ("##[error]mine", "\\x23#[error]mine is no file"),
    ],
    ids=["terminal code", "line", "old command"],
)
def test_no_name_in_a_record_controls_a_terminal_or_ci(run, capsys, path, shown):
    run(PASS, models={"candidate": {"path": path, "sha256": "c" * 64}})
    assert main(["attest", "stress.json"]) == 1
    printed = capsys.readouterr().out
    assert shown in printed
    assert printed.count("\n") == 1


def test_a_record_named_as_a_command_of_ci_is_not_a_command(run, tmp_path, capsys):
    run(PASS, omissions=("a family",))
    (tmp_path / "stress.json").rename(tmp_path / "::error::mine")
    for command in ("attest", "card"):
        assert main([command, "::error::mine"]) == 1
        assert capsys.readouterr().out.startswith("\\x3a:error::mine: no ")


def test_a_run_that_stopped_is_not_published(run, capsys):
    run(FAIL, stopped="stopped at clean")
    assert [main([name, "stress.json"]) for name in ("attest", "card")] == [1, 1]
    assert "the run stopped at clean; expected a whole run" in capsys.readouterr().out


def test_an_unfinished_run_is_not_published(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stress.json").write_text(
        json.dumps({"schema": 2, "finished": False, "verdict": "error"})
    )
    assert [main([name, "stress.json"]) for name in ("attest", "card", "badge")] == [1, 1, 0]
    assert json.loads((tmp_path / "stress-badge.json").read_text())["message"] == "inconclusive"


def test_a_model_that_has_moved_is_named(run, tmp_path, capsys):
    run(PASS)
    (tmp_path / "new.safetensors").rename(tmp_path / "moved.safetensors")
    assert main(["attest", "stress.json"]) == 1
    assert "--model" in capsys.readouterr().out
    assert (
        main(["attest", "stress.json", "--model", "moved.safetensors", "--output", "v.json"]) == 0
    )
    assert (
        json.loads((tmp_path / "v.json").read_text())["subject"][0]["name"] == "moved.safetensors"
    )


@pytest.mark.parametrize("command", ["attest", "card", "badge"])
def test_what_is_no_record_is_refused_and_nothing_foreign_is_replaced(
    run, tmp_path, capsys, command
):
    (tmp_path / "other.json").write_text("[]")
    assert main([command, "other.json"]) == 2
    assert main([command, "gone.json"]) == 2
    run(PASS)
    option = "--into" if command == "card" else "--output"
    (tmp_path / "mine.bin").write_bytes(b"\xff\xfe mine")
    assert main([command, "stress.json", option, "mine.bin"]) == 2
    assert main([command, "stress.json", option, "stress.json"]) == 2
    assert (tmp_path / "mine.bin").read_bytes() == b"\xff\xfe mine"


OTHERS = {
    "attest": '{"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "https://slsa.dev/provenance/v1"}',
    "badge": '{"schemaVersion": 1, "label": "coverage", "message": "90%", "color": "green"}',
}
TESTED = (
    '{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://in-toto.io/attestation/test-result/v0.1",'
    ' "predicate": {"result": "PASSED", "configuration": [{"name": "pytest.ini"}]}}'
)


@pytest.mark.parametrize(("command", "text"), [*OTHERS.items(), ("attest", TESTED)])
@pytest.mark.parametrize("changes", [{}, {"omissions": ("500 of 10000 images were measured",)}])
def test_a_file_of_another_tool_in_the_same_form_stays(run, tmp_path, command, text, changes):
    run(PASS, **changes)
    (tmp_path / "theirs.json").write_text(text)
    assert main([command, "stress.json", "--output", "theirs.json"]) == 2
    assert (tmp_path / "theirs.json").read_text() == text


@pytest.mark.parametrize("name", ["code.py", "p.html", "checks.toml", "stress.md", "link.md"])
def test_a_file_that_is_no_card_stays(run, tmp_path, name):
    run(PASS)
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "link.md").symlink_to("code.py")
    (tmp_path / name).write_text("x = 1\n")
    assert main(["card", "stress.json", "--into", name]) == 2
    assert (tmp_path / name).read_text() == "x = 1\n"


def broken(change):
    """Return the record as text after a change of its plain content."""
    plain = json.loads(Path("stress.json").read_text())
    change(plain)
    return json.dumps(plain)


@pytest.mark.parametrize(
    "text",
    [
        lambda: Path("stress.json").read_text()[:500],
        lambda: broken(lambda plain: plain.update(schema=1)),
        lambda: broken(lambda plain: plain["candidate"].pop("sha256")),
        lambda: broken(lambda plain: plain["data"].clear()),
        lambda: broken(lambda plain: plain["data"].update(sha256=5)),
    ],
    ids=["truncated", "old", "no hash of the model", "no data", "a number"],
)
def test_a_record_that_cannot_be_read_leaves_no_statement(run, tmp_path, capsys, text):
    run(PASS)
    assert main(["attest", "stress.json"]) == 0
    (tmp_path / "stress.json").write_text(text())
    assert main(["attest", "stress.json"]) == 2
    assert main(["card", "stress.json"]) == 2
    assert "stress.json: " in capsys.readouterr().err
    assert not Path("stress.intoto.json").exists(), (
        "the statement on an earlier run would be signed"
    )


CARD = "---\nlicense: mit  # ours\ntags:\n- fashion\n---\n# A model\n\nText | with `code`.\n"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "card",
    [CARD, "", "# No front matter\n", CARD.rstrip("\n"), f"\n{CARD}", "---\nlicense: mit\n---"],
)
def test_a_card_gets_a_section_that_its_own_client_reads(run, tmp_path, card, newline):
    run(PASS, replace(verdict("pass", "worst-pose", family="worst-pose", value=0.9), n=50))
    path = tmp_path / "README.md"
    path.write_text(card, newline=newline)
    assert main(["card", "stress.json", "--into", "README.md"]) == 0
    first = path.read_text()
    assert main(["card", "stress.json", "--into", "README.md"]) == 0
    assert path.read_text() == first, "a second time changes nothing"
    content = path.read_bytes()
    assert content.count(b"\r\n") == (content.count(b"\n") if newline == "\r\n" and card else 0)
    own = [line for line in first.splitlines() if line in set(card.splitlines())]
    assert set(card.splitlines()) <= set(own), "other text is as it was"
    data = ModelCard.load(path).data
    assert data.model_name == "new"
    assert data.get("license") == ("mit" if "mit" in card else None)
    found = {each.metric_name: each for each in data.eval_results}
    assert set(found) == {"accuracy (good)", "accuracy (worst-pose)"}
    one = found["accuracy (good)"]
    assert (one.task_type, one.dataset_name, one.dataset_split) == (
        "image-classification",
        "fashion-mnist",
        "test",
    )
    assert (one.metric_type, one.metric_value, one.dataset_revision) == ("accuracy", 0.9, "d" * 64)
    run(FAIL)
    assert main(["card", "stress.json", "--into", "README.md"]) == 0
    assert "FAIL: 1 of 1 checks fail" in path.read_text()
    assert "worst-pose" not in path.read_text(), "the section of the earlier run is replaced"


def test_a_byte_order_mark_stays_first(run, tmp_path):
    run(PASS)
    path = tmp_path / "README.md"
    for card in (CARD, "# No front matter\n"):
        path.write_text(card, encoding="utf-8-sig")
        assert main(["card", "stress.json", "--into", "README.md"]) == 0
        text = path.read_text(encoding="utf-8-sig")
        assert "\ufeff" not in text
        assert ModelCard(text).data.to_dict().keys() == {"model-index"} | (
            {"license", "tags"} if card == CARD else set()
        )


def test_a_small_value_is_a_number_for_the_client(run, tmp_path):
    run(PASS, verdict("pass", "small", family="flips", value=1e-05, threshold=0))
    assert main(["card", "stress.json", "--into", "README.md"]) == 0
    assert 1e-05 in [
        each.metric_value for each in ModelCard.load(tmp_path / "README.md").data.eval_results
    ]


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("---\n# ours\n{license: mit}\n---\n", "no mapping with a line for each key"),
        ("---\nlicense: mit\n...\n# Mine\n---\n", "no mapping with a line for each key"),
        ("---\n- license: mit\n---\n", "no mapping with a line for each key"),
        ("---\n  license: mit\n---\n", "no mapping with a line for each key"),
        ("---\nA text between two rules\n---\n", "no mapping with a line for each key"),
        (
            "---\nmodel-index:\n- name: mine\n---\n",
            "has a model-index that this command did not write",
        ),
        ("# Mine\n<!-- stress-harness: begin -->\n", "expected one mark"),
        ("<!-- stress-harness: end -->\n<!-- stress-harness: begin -->\n", "expected one mark"),
    ],
)
def test_a_card_of_another_hand_is_refused(card, said):
    with pytest.raises(InputError, match=said):
        inserted(card, [], "text", where="README.md")


def test_a_partial_run_has_no_card_and_its_badge_says_so(run, tmp_path, capsys):
    run(PASS, omissions=("500 of 10000 images were measured",))
    assert main(["card", "stress.json"]) == 1
    assert main(["badge", "stress.json"]) == 0
    badge = json.loads((tmp_path / "stress-badge.json").read_text())
    assert badge == {
        "schemaVersion": 1,
        "label": "stress tests",
        "message": "partial",
        "color": "yellow",
    }
