"""Codes of errors: each has an entry in the documentation, and each error has one."""

import ast
import pickle
import re
import traceback
from pathlib import Path
from typing import get_args

import pytest

from harness.base.codes import Code, code_in, coded
from harness.base.errors import DataError, InputError, Interruption, code_of, reason
from harness.cli import main
from harness.networks.checkpoints import files

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
REFUSALS, ERRORS = PAGE.partition("\n## Refused files")[2].split("\n## ", 1)


def subclasses(kind):
    return {kind, *(each for child in kind.__subclasses__() for each in subclasses(child))}


def texts_in_code():
    """Return all texts of the harness in one; an ellipsis stands for each value filled in."""
    found = []
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(
                        getattr(part, "value", "…") if isinstance(part, ast.Constant) else "…"
                        for part in node.values
                    )
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_each_code_has_one_entry_and_each_entry_a_code():
    assert sorted(re.findall(r"^### (\w+)$", ERRORS, re.MULTILINE)) == sorted(Code)
    rows = [line.split("|")[1] for line in REFUSALS.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == sorted(get_args(files.Code))
    kinds = subclasses(InputError) | subclasses(Interruption)
    known = {*Code, *get_args(files.Code)}
    assert {
        kind.__name__
        for kind in kinds
        if kind.__module__.startswith("harness") and kind.code not in known
    } == set()
    said = texts_in_code()
    by_pytest = "unrecognized arguments"
    messages = [line.split("`")[1] for line in ERRORS.splitlines() if line.startswith("| `")]
    assert len(messages) >= 25
    for message in messages:
        pieces = [piece.strip() for piece in re.split(r"…|\d+(?:x\d+)?", message)]
        assert message == by_pytest or [piece for piece in pieces if piece not in said] == [], (
            message
        )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            InputError("expected one of a, b", setting="profile slow"),
            "[USAGE] profile slow: expected one of a, b",
        ),
        (DataError("shop: no such folder"), "[DATA] shop: no such folder"),
        (DataError("[DATA] relayed"), "[DATA] relayed"),
        (DataError("relayed", code="PANEL"), "[PANEL] relayed"),
        (DataError("[MINE].csv: no rows"), "[DATA] [MINE].csv: no rows"),
        (
            files.CheckpointRefused("FORMAT", Path("a"), "b", "c"),
            "REFUSED[FORMAT] a: b. Nothing was executed. c",
        ),
        (ModuleNotFoundError("no cv2"), "[PACKAGE] no cv2"),
        (PermissionError("no"), "[FILE] no"),
        (MemoryError("full"), "[MEMORY] full"),
        (RuntimeError("odd"), "[INTERNAL] odd"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_reason_has_one_code_in_front(error, said):
    assert reason(error) == said
    assert code_in(said) == code_of(error)
    assert coded("TEST", said) == said


def test_a_traceback_names_the_code_and_the_page():
    error = pickle.loads(
        pickle.dumps(DataError("shop: no such folder", setting="data folder:shop"))
    )
    *_, said, note = traceback.format_exception(error)
    assert said.strip() == "harness.base.errors.DataError: data folder:shop: shop: no such folder"
    assert note.strip() == "[DATA] see `stress-harness docs troubleshooting#data`"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["no-such-command"], "USAGE"),
        (["compare", "--no-such-option"], "USAGE"),
        (["list", "--last", "no"], "USAGE"),
        (["history", "none.jsonl"], "HISTORY"),
        (["evaluate", "none.safetensors"], "CONFIGURATION"),
        (["convert", "none.pth", "new.safetensors"], "NOT_REGULAR"),
        (["evaluate", "none.safetensors", "--data", "folder:none"], "DATA"),
    ],
    ids=str,
)
def test_each_error_of_a_command_has_its_code(arguments, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    *_, said = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert code_in(said.removeprefix("error: ")) == code
