"""Reports follow from the record of a run alone.

Drawn again, they are the same, and a damaged record is refused.
"""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outcomes import EMPTY, FAIL, PASS, REPORTED, outcome_with
from overviews import CHANGES, model, overview
from zoo import drawn_again

from harness.base.files import held
from harness.cli import main
from harness.features.equivalence.report import OriginalDifferences
from harness.measures.metric import Curve
from harness.report.pictures import source_of
from harness.report.redraw import reports_of
from harness.report.refusal import Claim
from harness.run.findings import InputFaults, SelfCheck
from harness.run.headline import headline
from harness.run.history import History
from harness.run.history_line import line_of
from harness.run.results import OtherTest
from harness.run.shown import CaptionLine, Case, Column, ExamplePictures, Face
from harness.run.status import INCONCLUSIVE
from harness.run.stress_json import record_and_images

IMAGES = [source_of(np.full((28, 28, 1), level, np.uint8)) for level in (10, 200)]
CASE = Case(
    (Column("image 7", IMAGES[0], (CaptionLine("✗ Coat", "wrong", 0.9),), "looks"),), "Image 7."
)
WHOLE = outcome_with(
    EMPTY,
    verdicts=(PASS, FAIL, replace(REPORTED, value=float("inf"))),
    id="0" * 32,
    self_checks=(SelfCheck("identity", "pass", "the same bits"),),
    overview=overview(model(), model("baseline", right=0.8), n=60, changes=CHANGES),
    parts={
        "differences": OriginalDifferences(
            "3 of 9 predictions change.", "", "3 of 3", (Face(IMAGES[1], "a", "b", "", "words"),)
        )
    },
    input_faults=InputFaults(9, "BGR", 100, 40, 41, 0.5),
    tests=(OtherTest("test_own.py::test_own", "failed", "E   assert 1 == 2\n<script>"),),
    pictures={
        "bad": ExamplePictures((CASE,), "gallery", (Face(IMAGES[0], "a", "b", "", "words"),), None)
    },
    thumbnails={"17": IMAGES[1]},
    reference_curves={"reliability": (Curve("reliability", (0.5, None), (0.5, None), (9, 0)),)},
    remarks=("a name that is no text: \udcff",),
    folder="/somewhere",
    command="pytest --candidate /somewhere/c.safetensors",
)
WHOLE = outcome_with(
    WHOLE, history=History((replace(line_of(WHOLE), candidate="a" * 64), line_of(WHOLE)))
)


UNFINISHED = {"finished": False, "verdict": "error", "headline": INCONCLUSIVE, "checks": []}


def written(outcome, folder: Path) -> Path:
    """Write the reports of an outcome as the run does; return the record's path."""
    record, images = record_and_images(outcome)
    _, reports = reports_of(record, images.__getitem__, where="stress.json")
    claim = Claim(folder, ["pytest"], outcome.run.id)
    claim.take(wait=False)
    claim.publish({**images, **reports})
    claim.release()
    return folder / "stress.json"


def test_the_record_has_all_of_an_outcome():
    record, images = record_and_images(WHOLE)
    outcome, _ = reports_of(record, images.__getitem__, where="x")
    assert record_and_images(outcome) == (record, images)
    assert outcome == outcome_with(WHOLE, remarks=("a name that is no text: \\udcff",)), (
        "it is written as it can be"
    )
    assert len(images) == 2
    assert "base64" not in record


def test_reports_are_drawn_again_from_another_folder(tmp_path, monkeypatch, capsys):
    record = written(WHOLE, tmp_path / "one")
    assert drawn_again(record.parent) == []
    before = {
        path.name: path.read_bytes() for path in record.parent.glob("stress.*") if path.is_file()
    }
    moved = (tmp_path / "one").rename(tmp_path / "two")
    monkeypatch.chdir(tmp_path)
    assert main(["report", "two/stress.json", "--output", "again"]) == 0
    said = capsys.readouterr().out
    assert headline(WHOLE) in said
    assert "report: again/stress.html" in said
    for name in ("stress.html", "stress.md"):
        assert (tmp_path / "again" / name).read_bytes() == before[name]
    (line,) = [
        line for line in before["stress.md"].decode().splitlines() if line.startswith("<img")
    ]
    picture = re.search('src="([^"]*)"', line)[1]
    assert (tmp_path / "again" / picture).read_bytes() == (moved / picture).read_bytes()
    page = before["stress.html"].decode()
    assert page.count(IMAGES[0]) >= 3, "the page stands alone"
    assert "assert 1 == 2\n&lt;script&gt;" in page
    assert "--candidate c.safetensors" in before["stress.md"].decode()
    assert main(["report", str(moved / "stress.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == WHOLE.verdict


@pytest.mark.parametrize(("form", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_figures_of_the_page_are_files_on_request(tmp_path, capsys, form, start):
    lines = (
        replace(line_of(WHOLE), candidate="a" * 64, verdict="fail"),
        replace(line_of(WHOLE), verdict="fail"),
    )
    compared = overview(model(), model("baseline", right=0.8), n=300)
    record = written(
        outcome_with(WHOLE, overview=compared, history=History(lines)), tmp_path / "run"
    )
    asked = ["report", str(record), "--figures", str(tmp_path / "figures"), "--figure-format", form]
    assert main(asked) == 0
    contents = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert {
        f"clean-accuracy-by-class.{form}",
        f"accuracy-and-failing-checks.{form}",
    } <= contents.keys()
    assert all(content.startswith(start) for content in contents.values())
    assert f"figures: {len(contents)} in " in capsys.readouterr().out

    page = record.with_name("stress.html").read_text()
    drawn = re.findall(r"data:image/svg\+xml;base64,([^\"]*)", page)
    assert len(drawn) == len(contents), "a file for each figure of the page"
    if form == "svg":
        assert {base64.b64decode(each) for each in drawn} == set(contents.values())

    assert main([*asked, "--json"]) == 0, "figures of an earlier call are replaced"
    assert len(json.loads(capsys.readouterr().out)["figures"]) == len(contents)
    foreign = tmp_path / "figures" / f"clean-accuracy-by-class.{form}"
    foreign.write_bytes(b"mine")
    assert main(asked) == 2
    assert foreign.read_bytes() == b"mine"


def test_a_run_without_figures_says_so(tmp_path, capsys):
    record = written(outcome_with(WHOLE, brief=True), tmp_path / "run")
    assert main(["report", str(record), "--figures", str(tmp_path / "figures")]) == 0
    assert "figures: none, because this run has no figures" in capsys.readouterr().out
    assert not (tmp_path / "figures").exists()


WITHOUT_TORCH = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"torch", "torchvision", "hypothesis", "pytest"}:
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
from harness.cli import main
sys.exit(main(["report", "stress.json", "--output", "again"]))
"""


def test_neither_torch_nor_the_data_is_needed(tmp_path):
    record = written(outcome_with(WHOLE, brief=True), tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again/stress.html").read_bytes() == record.with_name(
        "stress.html"
    ).read_bytes()


def test_a_refusal_is_drawn_again_and_leaves_no_pictures(tmp_path, capsys):
    record = written(WHOLE, tmp_path)
    assert len(list((tmp_path / "stress").iterdir())) == 2
    claim = Claim(
        tmp_path,
        ["pytest", f"--candidate={Path.cwd()}/b.pt"],
        "f" * 32,
        {"models": {"candidate": "b.pt"}},
    )
    claim.take(wait=False, reason="[CRASH] it ended")
    claim.release()
    assert not (tmp_path / "stress").exists()
    assert drawn_again(tmp_path) == []
    assert main(["report", str(record)]) == 0
    assert "inconclusive" in capsys.readouterr().out
    assert drawn_again(tmp_path) == []
    assert json.loads(record.read_bytes()).keys() == json.loads(record_and_images(WHOLE)[0]).keys()


def test_pictures_of_an_earlier_run_go_and_those_of_others_stay(tmp_path):
    written(WHOLE, tmp_path)
    foreign = tmp_path / "stress/holiday.webp"
    foreign.write_bytes(b"mine")
    before = set((tmp_path / "stress").iterdir())
    written(outcome_with(WHOLE, pictures={}, parts={}), tmp_path)
    assert foreign.read_bytes() == b"mine"
    assert len(before - set((tmp_path / "stress").iterdir())) == 1


def test_a_folder_with_the_record_of_another_run_is_refused(tmp_path, capsys):
    passing = written(outcome_with(WHOLE, verdicts=(PASS,), id="1" * 32), tmp_path / "passing")
    failing = written(WHOLE, tmp_path / "failing")
    before = {path: path.read_bytes() for path in failing.parent.glob("stress.*") if path.is_file()}
    moved = failing.with_name("passing.json")
    moved.write_bytes(passing.read_bytes())
    for arguments in ((passing, "--output", failing.parent), (moved,)):
        assert main(["report", *map(str, arguments)]) == 2
        assert f"{failing}: is the record of another run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "stress.json").write_bytes(passing.read_bytes())
    assert main(["report", str(passing), "--output", str(copy)]) == 0


def test_a_folder_in_which_a_run_writes_is_refused(tmp_path, capsys):
    record = written(WHOLE, tmp_path / "one")
    (busy := tmp_path / "busy").mkdir()
    with held(busy):
        assert main(["report", str(record), "--output", str(busy)]) == 2
    assert f"{busy}: a run of the gate writes there" in capsys.readouterr().err
    assert list(busy.iterdir()) == []
    assert main(["report", str(record), "--output", str(busy)]) == 0


def _other(folder: Path) -> None:
    one, other = (folder / "stress").iterdir()
    one.write_bytes(other.read_bytes())


def _changed(**changes):
    def change(folder: Path) -> None:
        record = json.loads((folder / "stress.json").read_bytes()) | changes
        (folder / "stress.json").write_text(
            json.dumps({name: each for name, each in record.items() if each != "gone"})
        )

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "stress.json").unlink(), "cannot be read as the record of a run"),
        (
            lambda folder: (folder / "stress.json").write_text("{"),
            "is not the whole record of a run (JSONDecodeError(",
        ),
        (
            lambda folder: (folder / "stress.json").write_text("[]"),
            "schema None, and this version reads schema 2",
        ),
        (_changed(schema=1), "schema 1, and this version reads schema 2"),
        (_changed(checks="gone"), "is not the whole record of a run (KeyError('checks'))"),
        (_changed(command=5), "command is 5, expected text"),
        (_changed(candidate=None), "models: candidate: expected a table, found None"),
        (
            _changed(**UNFINISHED, errors="gone"),
            "is not the whole record of a run (KeyError('errors'))",
        ),
        (
            _changed(thumbnails={"1": "../../etc/passwd"}),
            "'../../etc/passwd' is no name of a picture",
        ),
        (
            lambda folder: next((folder / "stress").iterdir()).unlink(),
            "copy the folder stress with it",
        ),
        (_other, "the picture is not that of the record"),
    ],
)
def test_a_damaged_record_is_one_sentence_with_status_2(tmp_path, capsys, damage, said):
    damage(written(WHOLE, tmp_path).parent)
    assert main(["report", str(tmp_path / "stress.json"), "--output", str(tmp_path / "again")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "again").exists()
