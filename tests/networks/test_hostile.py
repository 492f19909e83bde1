"""Hostile files.

Each is refused with its code, quickly, in little memory, and none of them runs anything.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
from weights import native_file, rezipped, small, torch_file

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder of the corpus, and the path of each of its files."""
    folder = tmp_path_factory.mktemp("hostile")
    return folder, hostile.make(folder)


@pytest.fixture(scope="module")
def verdicts(corpus):
    """Results of the guarded process for each file, by name."""
    folder, paths = corpus
    pth = torch_file(small().state_dict())
    good = [folder / f"good-{number}" for number in range(3)]
    for path, content in zip(good, (native_file(small()), pth, rezipped(pth)), strict=True):
        path.write_bytes(content)
    listed = {
        "good": list(map(str, good)),
        "hostile": {name: str(path) for name, path in paths.items()},
    }
    (folder / "list.json").write_text(json.dumps(listed))
    command = [sys.executable, str(HERE / "hostile.py"), str(folder / "list.json")]
    run = subprocess.run(
        command, cwd=HERE, capture_output=True, text=True, timeout=300, check=False
    )
    found = {verdict.pop("name"): verdict for verdict in map(json.loads, run.stdout.splitlines())}
    assert run.returncode == 0, f"the process ended after {list(found)[-1:]}: {run.stderr[-2000:]}"
    return found


def test_each_hostile_file_is_refused_and_nothing_happens(verdicts, corpus):
    assert len(hostile.CODES) >= 160
    found = {}
    for name, code in hostile.CODES.items():
        verdict = verdicts[name]
        form = (
            rf"REFUSED\[{code or '[A-Z_]+'}\] \S+/{re.escape(name)}: .+\. Nothing was executed\. "
            r"[A-Z].+[.)]"
        )
        kept = {
            "said": bool(re.fullmatch(form, verdict["message"]))
            and verdict["message"].isprintable(),
            "short": len(verdict["message"]) < 1_000,
            "harmless": verdict["events"] == [],
            "quick": verdict["seconds"] < hostile.SECONDS,
            "small": verdict["megabytes"] * 1e6 < hostile.BYTES,
        }
        if broken := [what for what, kept_it in kept.items() if not kept_it]:
            found[name] = broken, verdict
    assert found == {}
    folder, _ = corpus
    assert [path.name for path in (folder / "canaries").iterdir() if path.suffix != ".inner"] == []


SPRING = """
import io, sys, warnings, torch
warnings.simplefilter("ignore")
torch.load.__kwdefaults__["weights_only"] = False
for path in sys.argv[1:]:
    try:
        torch.load(path, weights_only=False)
    except BaseException:
        pass
"""


def test_trap_does_spring_without_restrictions(tmp_path):
    names = list(hostile.EXECUTING)
    for name, content in hostile.EXECUTING.items():
        (tmp_path / f"{name}.pth").write_bytes(content(tmp_path / name))
    command = [sys.executable, "-c", SPRING, *(str(tmp_path / f"{name}.pth") for name in names)]
    subprocess.run(command, cwd=HERE, check=True, timeout=600)
    assert [name for name in names if not (tmp_path / name).exists()] == []
