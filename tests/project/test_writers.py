"""Files are written by `base.outputs`, and elsewhere for a reason that stands here."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "harness"
WRITERS = frozenset(
    {
        "write_text",
        "write_bytes",
        "savefig",
        "savez",
        "savez_compressed",
        "unlink",
        "replace_file",
        "rename",
        "rmtree",
    }
    | {
        "copyfile",
        "copytree",
        "copy2",
        "move",
        "truncate",
        "symlink_to",
        "hardlink_to",
        "touch",
        "imwrite",
        "remove_file",
    }
    | {
        "write_atomically",
        "write_all_or_none",
        "append_line",
        "NamedTemporaryFile",
        "mkstemp",
        "save_file",
        "tofile",
    }
)
REASONS = {
    "base/cache.py": "a cache in the user's folder",
    "base/files.py": "the functions that write outputs and caches",
    "base/outputs.py": "outputs",
    "features/adoption/gate_files.py": "files of a gate, which are new, or which it has just read",
    "calibration/growth.py": "its own copy of a reference model, named by its content",
    "calibration/retrain.py": "its own unfinished checkpoint",
    "calibration/samples.py": "a temporary folder",
    "calibration/warm.py": "what a run printed, in a temporary folder",
    "cli/options.py": "text of the help, which click collects",
    "data/fashion_mnist.py": "files of the data set that are missing or damaged",
    "features/acceptance/acceptance.py": "the incumbent and the checks file that it has just read",
    "features/golden/changes.py": "the golden set that it has just read",
    "inference/anew.py": "an archive in memory",
    "inference/predictors/user_callable.py": "what the system asks of a process",
    "measures/panel/collection.py": "a temporary folder",
    "measures/panel/predictions.py": "a file in memory",
    "report/figures.py": "a figure in memory",
    "run/inner.py": "what passes between two processes, in a temporary folder",
    "run/handover.py": "the record of a run for the process that waits for it, in that folder",
    "features/exports/image_export.py": "files of an export, in a folder that was empty or its own",
    "run/history.py": "a line of an output",
}


def writes(text: str) -> list[str]:
    """Return the calls of code that may write, make or remove a file."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        given = [*node.args, *(word.value for word in node.keywords if word.arg == "mode")]
        mode = any(
            isinstance(each, ast.Constant)
            and isinstance(each.value, str)
            and 0 < len(each.value) < 4
            and set(each.value) & set("wax+")
            and set(each.value) <= set("rwaxbt+")
            for each in given
        )
        flags = any(
            isinstance(each, ast.Attribute) and each.attr in {"O_CREAT", "O_WRONLY", "O_RDWR"}
            for each in ast.walk(node)
        )
        if name in WRITERS or (name in {"open", "fdopen"} and (mode or flags)):
            found.append(name)
    return found


def test_files_are_written_where_a_reason_is_given():
    found = {
        path.relative_to(HOUSE).as_posix()
        for path in HOUSE.rglob("*.py")
        if writes(path.read_text("utf-8"))
    }
    assert sorted(found - REASONS.keys()) == [], (
        "write by harness.base.outputs.Output, or give the reason here"
    )
    assert sorted(REASONS.keys() - found) == []


@pytest.mark.parametrize(
    "code",
    [
        "open(path, 'w')",
        "path.open(mode='ab')",
        "os.open(path, os.O_WRONLY)",
        "figure.savefig(path)",
        "np.savez(path)",
        "shutil.copyfile(a, b)",
        "path.unlink()",
        "write_atomically(path, content)",
    ],
)
def test_a_writer_is_found(code):
    assert writes(code)


@pytest.mark.parametrize(
    "code",
    ["open(path)", "path.open('rb')", "os.open(path, os.O_RDONLY)", "text.replace('a', 'b')"],
)
def test_a_reader_is_none(code):
    assert not writes(code)
