"""A gate in somebody's own repository, from the package alone: all of it or nothing, and nothing overwritten."""

import re
import tomllib
from pathlib import Path

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules.
import numpy as np
import pytest
import scipy.stats  # noqa: F401
import torch
import torch._dynamo
from zoo import ARGUMENTS, CLASSES, checks_text, hypothesis_as_it_starts, images_of, network

from harness.base import files
from harness.checks import read_checks
from harness.checks.declaration import read_declaration
from harness.checks.families import offered
from harness.checks.first_checks import shipped_tests
from harness.cli import main
from harness.data import load_images
from harness.networks.checkpoints import Record, save_checkpoint

SHIPPED = {test.name: test.text for test in shipped_tests()}
DATA = ("--data", "npz:shop.npz")
DECLARATION = "models/incumbent.toml"


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """An empty repository, but for the images."""
    monkeypatch.chdir(tmp_path)
    images = images_of(80)
    pixels, labels = images.pixels[:, 0].numpy(), images.labels.numpy()
    np.savez("shop.npz", images=pixels, labels=labels, classes=np.array(CLASSES))
    return tmp_path


def files_in(folder) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".npz"
    }


# Files that it writes.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "reports/\n"),
        ("runs/\n*.pt", "runs/\n*.pt\nreports/\n"),
        ("runs/\r\n", "runs/\r\nreports/\r\n"),
        *((kept, kept) for kept in ("/reports\nruns", "reports/*\n", "!reports/\n")),
    ],
)
def test_git_ignores_reports_and_nothing_else_changes(shop, before, after):
    ignored = Path(".gitignore")
    ignored.write_bytes(before.encode())
    assert main(["init", *DATA, "--families", "clean", "--budget", "none"]) == 0
    assert ignored.read_bytes().decode() == after


def test_an_empty_repository_has_a_gate(shop, capsys):
    assert main(["init", *DATA, "--size", "8", "--min-accuracy", "0.5"]) == 0
    written = files_in(shop)
    tests = {Path(name).name for name in written if name.startswith("stress_tests/test_")}
    assert tests == {
        "test_clean.py", "test_class_difference.py", "test_consensus.py", "test_rotation.py", "test_shift.py",
        "test_confident_errors.py", "test_calibration.py", "test_regression.py", "test_flips.py",
    }  # fmt: skip
    assert all(written[f"stress_tests/{name}"].decode() == SHIPPED[name] for name in tests)
    assert set(written) == {
        *(f"stress_tests/{name}" for name in (*tests, "checks.toml")),
        "pytest.ini",
        ".gitignore",
        DECLARATION,
    }
    assert read_declaration(Path(DECLARATION)).weights is None
    assert written["pytest.ini"] == b"[pytest]\ntestpaths = stress_tests\naddopts = -p harness.plugin\n"
    assert '\n[gate]\ndata = "npz:shop.npz"\nsize = 8\n\n[data]\n' in written["stress_tests/checks.toml"].decode()
    checks = read_checks(shop / "stress_tests/checks.toml")
    assert (checks.data.n, checks.data.classes) == (80, CLASSES)
    assert {check.id for check in checks.checks if check.binding} == {"clean", "regression-clean"}
    said = capsys.readouterr().out
    assert [name for name in written if f"written: {name}\n" not in said] == []
    assert "  pytest stress_tests --candidate FILE    # a checkpoint of yours\n" in said
    assert "  stress-harness calibrate --checkpoints FILE" in said
    assert "  stress-harness export-inputs inputs" in said


def with_groups(path, groups) -> None:
    images = images_of(80)
    arrays = {"images": images.pixels[:, 0].numpy(), "labels": images.labels.numpy(), "classes": np.array(CLASSES)}
    np.savez(path, **arrays, groups=groups)


def test_groups_can_be_added_to_a_gate_that_is_there(shop, capsys):
    with_groups("shop.npz", np.array([("front", 1), ("rear", 2)] * 40, dtype=[("camera", "U5"), ("site", "i4")]))
    assert main(["init", *DATA, "--families", "clean", "--budget", "none"]) == 0
    before = read_checks(Path("stress_tests/checks.toml"))
    assert main(["init", *DATA, "--families", "slice", "--budget", "none"]) == 0
    checks = read_checks(Path("stress_tests/checks.toml"))
    assert before.data.groups_sha256 is None
    assert checks.data.groups_sha256 is not None
    assert [check.id for check in checks.checks if check.family == "slice"] == [
        *("worst-camera", "gap-camera", "slice-camera-front", "slice-camera-rear"),
        *("difference-camera-front", "difference-camera-rear"),
        *("worst-site", "gap-site", "slice-site-1", "slice-site-2", "difference-site-1", "difference-site-2"),
    ]
    assert Path("stress_tests/test_slices.py").exists()


def test_every_family_can_be_had_and_its_rows_are_understood(shop, pytester):
    with_groups(shop / "shop.npz", np.arange(80) % 2)
    assert main(["init", str(pytester.path), "--data", f"npz:{shop}/shop.npz", "--families", ",".join(offered())]) == 0
    with hypothesis_as_it_starts():
        result = pytester.runpytest_inprocess("--collect-only", "-q", "stress_tests")
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(["*?corrupt-fog-3?", "*?drawn-pose-unchanged?", "*?shift-up-1?"])


def test_the_first_run_comes_to_a_verdict(shop, pytester, capsys):
    """Of a network that is good and of one that says the same of everything; all images fit into the time."""
    root = pytester.path
    for name, blind in (("good", False), ("blind", True)):
        model = network()
        if blind:
            with torch.no_grad():
                model.fc1.weight.zero_()
        save_checkpoint(root / f"runs/{name}.safetensors", model, Record("fashion-cnn", ARGUMENTS, CLASSES))
    data = f"npz:{shop}/shop.npz"
    options = ("--checkpoint", "runs/good.safetensors", "--families", "clean,pairs", "--min-accuracy", "0.7")
    assert main(["init", str(root), "--data", data, *options]) == 0
    said = capsys.readouterr().out
    fits = r"all images fit into 30 min on .*: they take about .*s\ndetectable drop: points of accuracy"
    assert re.search(fits, said), said
    assert "samples" not in (root / "stress_tests/checks.toml").read_text()
    assert read_checks(root / "stress_tests/checks.toml").family("pairs"), "what the checkpoint confuses"
    for name, status in (("good", 0), ("blind", 1)):
        with hypothesis_as_it_starts():
            result = pytester.runpytest_inprocess("-p", "no:html", "--candidate", f"runs/{name}.safetensors")
        assert result.ret == status, result.stdout.str()


# Existing files.


def test_a_second_time_writes_nothing(shop, capsys):
    assert main(["init", *DATA]) == 0
    before = files_in(shop)
    capsys.readouterr()
    assert main(["init", *DATA]) == 0
    said = capsys.readouterr().out
    assert "unchanged: stress_tests/test_clean.py" in said
    assert "written:" not in said
    assert files_in(shop) == before


def test_a_family_that_lacks_is_added_and_all_else_stays(shop, capsys):
    assert main(["init", *DATA, "--families", "clean,rotation"]) == 0
    checks, clean = shop / "stress_tests/checks.toml", shop / "stress_tests/test_clean.py"
    checks.write_text("# ours\n" + checks.read_text() + "\n[budget]\naccuracy = 0.02\n")
    clean.write_text(clean.read_text() + "# edited\n")
    before = checks.read_text(), clean.read_text()
    assert main(["init", *DATA, "--families", "clean,flip"]) == 0
    said = capsys.readouterr().out
    assert "checks: 2 new, of flip" in said
    assert "written: stress_tests/test_flip.py" in said
    assert checks.read_text().startswith(before[0])
    assert clean.read_text() == before[1]
    rows = read_checks(checks).checks
    assert list(dict.fromkeys(check.family for check in rows)) == ["clean", "rotation", "flip"]
    assert main(["init", *DATA, "--min-accuracy", "0.5"]) == 2
    assert "has rows of the family clean already" in capsys.readouterr().err


def test_the_help_names_every_family(capsys):
    assert main(["init", "--help"]) == 0
    said = re.sub(r"-\s+", "-", capsys.readouterr().out)  # Lines end at hyphens, too.
    assert set(offered()) <= set(re.findall(r"[a-z-]+", said))


def test_families_are_added_where_images_are_golden(shop):
    """Whose rows are not written in the checks file; nor are they rows of it where there are no others."""
    assert main(["init", *DATA, "--families", "clean", "--budget", "none"]) == 0
    checks = shop / "stress_tests/checks.toml"
    assert main(["golden", "add", "0", "--reason", "seen", "--", "--stress-set", "data=npz:shop.npz"]) == 0
    assert main(["init", *DATA, "--families", "flip", "--budget", "none"]) == 0
    rows = read_checks(checks).checks
    assert list(dict.fromkeys(check.family for check in rows)) == ["clean", "flip", "golden"]
    checks.write_text(checks.read_text()[: checks.read_text().index("[[check]]")])
    assert main(["init", *DATA, "--budget", "none"]) == 0
    assert read_checks(checks).family("rotation"), "as where there is no row"


def test_samples_that_fit_are_in_the_new_checks_file(shop, capsys):
    arrays = dict(np.load("shop.npz"))
    np.savez("shop.npz", **arrays | {name: np.concatenate([arrays[name]] * 4) for name in ("images", "labels")})
    save_checkpoint(shop / "good.safetensors", network(), Record("fashion-cnn", ARGUMENTS, CLASSES))
    options = ("--checkpoint", "good.safetensors", "--budget", "0.001s")
    assert main(["init", *DATA, *options, "--families", "clean,rotation"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"rotation +100 +320 .* 23.8\n", said), said
    assert "the samples stand in stress_tests/checks.toml, [data.samples]" in said
    checks = read_checks(shop / "stress_tests/checks.toml")
    assert checks.data.samples == {"clean": 100, "rotation": 100}
    (first,) = re.findall(r"for a first threshold, write (hand = .*) into the check clean\n", said)
    content = checks.path.read_text()
    checks.path.write_text(content.replace('metric = "accuracy"\n', f'metric = "accuracy"\n{first}\n', 1))
    assert read_checks(checks.path).family("clean")[0].hand.reason == "until calibrated"
    assert main(["init", *DATA, "--families", "shift"]) == 0
    assert read_checks(checks.path).data.samples == checks.data.samples


def test_what_is_there_and_different_ends_it_with_nothing_written(shop, capsys):
    (shop / "stress_tests").mkdir()
    (shop / "stress_tests/checks.toml").write_text(checks_text(images_of(40), rows=""))
    (shop / "stress_tests/test_clean.py").write_text("# mine\n")
    before = files_in(shop)
    assert main(["init", *DATA]) == 2
    assert "stress_tests/test_clean.py, stress_tests/checks.toml: exists with other content" in capsys.readouterr().err
    assert files_in(shop) == before


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ('[[check]]\nid = "Clean"\nfamily = "clean"\nmetric = "accuracy"\n', "id 'Clean' must be of lower-case ASCII"),
        ('[[check]]\nid = "flip"\nfamily = "own"\nmetric = "accuracy"\n', "since one of own has this id; rename that"),
    ],
    ids=["unreadable", "an-id-taken"],
)
def test_a_checks_file_to_which_no_row_can_be_added_is_told_of_and_stays(shop, capsys, rows, told):
    (shop / "stress_tests").mkdir()
    (shop / "stress_tests/checks.toml").write_text(checks_text(load_images(DATA[1]), rows=rows))
    before = files_in(shop)
    assert main(["init", *DATA, "--families", "flip"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: [CHECKS] stress_tests/checks.toml: ")
    assert told in error
    assert files_in(shop) == before


def test_a_write_that_fails_leaves_nothing(shop, monkeypatch, capsys):
    (shop / "pytest.ini").write_text("[pytest]\n")
    write, calls = files._written_beside, []

    def failing(path, content):
        calls.append(path)
        if len(calls) == 4:
            raise OSError(28, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(files, "_written_beside", failing)
    assert main(["init", *DATA]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert files_in(shop) == {"pytest.ini": b"[pytest]\n"}


def table(shop) -> dict:
    return tomllib.loads((shop / "stress_tests/checks.toml").read_text())["gate"]


def test_settings_that_are_new_are_added_to_the_table(shop):
    assert main(["init", *DATA, "--families", "clean", "--budget", "none"]) == 0
    before = read_checks(shop / "stress_tests/checks.toml")
    more = ("--set", "model_args.width=2", "--set", "model_args.deep=true", "--set", "normalization=imagenet")
    assert main(["init", *DATA, "--families", "clean", "--budget", "none", *more]) == 0
    model_args = {"width": 2, "deep": True}
    assert table(shop) == {"data": "npz:shop.npz", "model_args": model_args, "normalization": "imagenet"}
    assert read_checks(shop / "stress_tests/checks.toml").sha256 == before.sha256


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\n# mine\naddopts = -q\n    -ra\nminversion = 8\n"),
        ("setup.cfg", "[metadata]\nname = shop\n\n[tool:pytest]\naddopts = -q -ra\n"),
        ("tox.ini", "[pytest]\naddopts = -q -ra\n\n[tox]\nenvlist = py\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = "-q -ra" # mine\n'),
        ("pytest.toml", '[pytest]\naddopts = ["-q", "-ra"]\n'),
    ],
)
def test_a_configuration_of_pytest_stays_as_it_is(shop, name, text):
    (shop / name).write_text(text)
    assert main(["init", *DATA]) == 0
    assert (shop / name).read_text() == text
    assert name == "pytest.ini" or not (shop / "pytest.ini").exists()
    assert table(shop) == {"data": "npz:shop.npz"}


def test_other_settings_there_are_kept_and_told(shop, capsys):
    assert main(["init", *DATA, "--families", "clean", "--budget", "none"]) == 0
    before = files_in(shop)
    assert main(["init", "--data", "npz:other.npz"]) == 2
    said = capsys.readouterr().err
    assert 'its [gate] has data = "npz:shop.npz", but init was given data = "npz:other.npz"' in said
    assert files_in(shop) == before


@pytest.mark.parametrize("place", ["pytest.ini", "pyproject.toml"])
def test_a_repository_of_before_is_told_what_to_write(shop, pytester, place):
    """Its configuration of pytest names what stands in the table now."""
    assert (
        main(["init", str(pytester.path), "--data", f"npz:{shop}/shop.npz", "--families", "clean", "--budget", "none"])
        == 0
    )
    root, line = pytester.path, f"-p harness.plugin --stress-data npz:{shop}/shop.npz --stress-size 8"
    (root / "pytest.ini").unlink()
    ini = {
        "pytest.ini": f"[pytest]\naddopts = {line}\n",
        "pyproject.toml": f'[tool.pytest.ini_options]\naddopts = "{line}"\n',
    }
    (root / place).write_text(ini[place])
    with hypothesis_as_it_starts():
        result = pytester.runpytest_inprocess("stress_tests")
    assert result.ret == 4
    said = result.stderr.str()
    assert f'write data = "npz:{shop}/shop.npz"; size = 8 below [gate] in stress_tests/checks.toml' in said
    assert f"remove the options from addopts in {place}" in said
    assert f"--stress-set data=npz:{shop}/shop.npz --stress-set size=8" in said


def test_own_tests_stay_what_pytest_runs_by_itself(shop):
    (shop / "tests").mkdir()
    assert main(["init", *DATA]) == 0
    assert "testpaths" not in (shop / "pytest.ini").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--families", "clean,fog"], "--families fog: no stress test of it ships; expected some of clean,class,"),
        (["--min-accuracy", "90"], "--min-accuracy 90: expected a share above 0 and at most 1"),
        (["--checkpoint", "none.pth"], "none.pth"),
        (["--budget", "30"], "--budget 30: expected a time such as 90s, 20m or 1.5h"),
        (["elsewhere"], "elsewhere: there is no such folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(shop, capsys, arguments, told):
    assert main(["init", *DATA, *arguments]) == 2
    assert told in capsys.readouterr().err
    assert files_in(shop) == {}


def test_a_network_that_cannot_be_measured_is_told_and_all_else_is_written(shop, capsys):
    (shop / "slow.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Linear):\n    def forward(self, x):\n        1 / 0\n"
    )
    assert (
        main(
            [
                "init",
                *DATA,
                "--model",
                "slow:Net",
                *("--set", "model_args.in_features=1", "--set", "model_args.out_features=1"),
            ]
        )
        == 0
    )
    assert re.search(r"how long a run takes is not known \(.*; `stress-harness calibrate", capsys.readouterr().out)
    assert read_checks(shop / "stress_tests/checks.toml").data.samples == {}
