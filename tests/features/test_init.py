"""A gate in somebody's own repository, from the package alone.

All of it or nothing, and nothing overwritten.
"""

import difflib
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch._dynamo
from zoo import (
    ARGUMENTS,
    CLASSES,
    STRESS_TESTS,
    checks_text,
    hypothesis_as_it_starts,
    images_of,
    network,
    run_here,
)

from harness.base import files
from harness.checks import read_checks
from harness.checks.declaration import read_declaration
from harness.checks.families import GEOMETRIC, offered
from harness.cli import main
from harness.data import load_images
from harness.data.domain import AugmentationRange, Domain
from harness.features.adoption.trial import is_above_chance
from harness.networks.checkpoints import Record, save_checkpoint

DECLARATION, CHECKS = "models/incumbent.toml", Path("stress_tests/checks.toml")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """An empty repository, but for the images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name("cache")))
    monkeypatch.chdir(tmp_path)
    write_images()
    return tmp_path


def write_images(count=80, *, path="shop.npz", **more) -> None:
    images = images_of(count)
    arrays = {
        "images": images.pixels[:, 0].numpy(),
        "labels": images.labels.numpy(),
        "classes": np.array(CLASSES),
    }
    np.savez(path, **arrays, **more)


def init(*arguments, data="npz:shop.npz", budget="none", ends=0) -> None:
    assert main(["init", "--data", data, "--budget", budget, *arguments]) == ends


def files_in(folder) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".npz")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def families_of() -> list[str]:
    return list(dict.fromkeys(check.family for check in read_checks(CHECKS).checks))


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
    init("--families", "clean")
    assert ignored.read_bytes().decode() == after


def test_an_empty_repository_has_a_gate_and_a_second_time_writes_nothing(shop, capsys):
    init("--size", "8", "--min-accuracy", "0.5", budget="30m")
    written, said = files_in(shop), capsys.readouterr().out
    assert set(written) == {str(CHECKS), "pytest.ini", ".gitignore", DECLARATION}
    assert read_declaration(Path(DECLARATION)).weights is None
    assert (
        written["pytest.ini"]
        == b"[pytest]\ntestpaths = stress_tests\naddopts = -p harness.plugin\n"
    )
    assert '\n[gate]\ndata = "npz:shop.npz"\nsize = 8\n\n[data]\n' in CHECKS.read_text()
    checks = read_checks(CHECKS)
    assert (checks.data.n, checks.data.classes) == (80, CLASSES)
    assert {check.id for check in checks.checks if check.binding} == {"clean", "regression-clean"}
    assert [name for name in written if f"written: {name}\n" not in said] == []
    assert "  pytest stress_tests --candidate FILE    # a checkpoint of yours\n" in said
    assert "  stress-harness calibrate --checkpoints FILE" in said
    assert "  stress-harness export-inputs inputs" in said
    init()
    said = capsys.readouterr().out
    assert f"unchanged: {CHECKS}" in said
    assert "written:" not in said
    assert files_in(shop) == written


@pytest.mark.parametrize(
    ("options", "can_pass"),
    [((), False), (("--min-accuracy", "0.5"), True)],
    ids=["no-threshold", "a-threshold"],
)
def test_a_new_gate_names_both_ways_on_if_a_model_can_pass(shop, capsys, options, can_pass):
    init("--families", "clean", *options)
    steps = [line.strip() for line in capsys.readouterr().out.partition("next:\n")[2].splitlines()]
    assert (
        "stress-harness calibrate --checkpoints FILE FILE ...    # 3 or more set the thresholds"
        in steps
    )
    accept = "stress-harness accept FILE    # a model that passes becomes the incumbent"
    assert (accept in steps) == can_pass


def test_tests_of_a_family_are_copied_when_asked_for(shop, capsys):
    copies = {
        f"stress_tests/test_{name}.py" for name in ("clean", "confident_errors", "calibration")
    }
    init("--copy", "clean", "--copy", "confidence", "--families", "clean")
    assert copies < set(files_in(shop))
    assert all(
        (shop / name).read_bytes() == (STRESS_TESTS.parent / name).read_bytes() for name in copies
    )
    init("--copy", "clean", "--copy", "rotation")
    assert "written: stress_tests/test_rotation.py" in capsys.readouterr().out
    (shop / "stress_tests/test_clean.py").write_text("# changed\n")
    before = files_in(shop)
    init("--copy", "clean", "--copy", "flip", ends=2)
    assert "stress_tests/test_clean.py: exists with other content" in capsys.readouterr().err
    assert files_in(shop) == before


def test_groups_can_be_added_to_a_gate_that_is_there(shop, capsys):
    dtype = [("camera", "U5"), ("site", "i4"), ("pair", "i4")]
    write_images(
        groups=np.array(
            [(("front", "rear")[at % 2], 1 + at % 2, at // 2) for at in range(80)], dtype=dtype
        )
    )
    init("--families", "clean")
    groups = "groups: camera (front 40, rear 40); site (1 40, 2 40); "
    assert (
        f"{groups}each group gets a check by\n  stress-harness init --families slice"
        in capsys.readouterr().out
    )
    before = read_checks(CHECKS)
    init("--families", "slice")
    assert f"{groups}differences are compared by the column pair\n" in capsys.readouterr().out
    checks = read_checks(CHECKS)
    assert before.data.groups_sha256 is None
    assert checks.data.groups_sha256 is not None
    assert [check.id for check in checks.checks if check.family == "slice"] == [
        *("worst-camera", "gap-camera", "slice-camera-front", "slice-camera-rear"),
        *("difference-camera-front", "difference-camera-rear"),
        *(
            "worst-site",
            "gap-site",
            "slice-site-1",
            "slice-site-2",
            "difference-site-1",
            "difference-site-2",
        ),
    ]
    init("--families", "slice")
    assert "each group gets" not in capsys.readouterr().out
    assert 'paired_by = "pair"' in CHECKS.read_text()


def test_every_family_can_be_had_and_its_rows_are_understood(shop, pytester):
    write_images(path=shop / "shop.npz", groups=np.arange(80) % 2)
    init(str(pytester.path), "--families", ",".join(offered()), data=f"npz:{shop}/shop.npz")
    with hypothesis_as_it_starts():
        result = pytester.runpytest_inprocess("--collect-only", "-q", "stress_tests")
    assert result.ret == 0, result.stdout.str()
    found = {line.partition("[")[2] for line in result.outlines if "::" in line}
    assert found == {f"{check.id}]" for check in read_checks(pytester.path / CHECKS).checks}


def test_the_first_run_comes_to_a_verdict(shop, pytester, capsys, monkeypatch):
    """Of a network that is good and of one that says the same of everything.

    All images fit into the time.
    """
    root = pytester.path
    run_here(monkeypatch, pytester, [])
    for name, blind in (("good", False), ("blind", True)):
        model = network()
        if blind:
            with torch.no_grad():
                model.fc1.weight.zero_()
        save_checkpoint(
            root / f"runs/{name}.safetensors", model, Record("fashion-cnn", ARGUMENTS, CLASSES)
        )
    options = (
        "--checkpoint",
        "runs/good.safetensors",
        "--families",
        "clean,pairs",
        "--min-accuracy",
        "0.7",
    )
    init(str(root), *options, data=f"npz:{shop}/shop.npz", budget="30m")
    said = capsys.readouterr().out
    fits = r"all images fit into 30 min on .*: they take about .*s\nmeasured on one core"
    assert re.search(fits, said), said
    cost = said.partition("cost of a run:")[2].partition("measured on one core")[0]
    assert "detectable drop" not in cost, "the calibration states that of its reference model"
    assert "samples" not in (root / CHECKS).read_text()
    assert read_checks(root / CHECKS).family("pairs"), "what the checkpoint confuses"
    for name, status in (("good", 0), ("blind", 1)):
        with hypothesis_as_it_starts():
            result = pytester.runpytest_inprocess(
                "-p", "no:html", "--candidate", f"runs/{name}.safetensors"
            )
        assert result.ret == status, result.stdout.str()


def test_samples_that_fit_are_in_the_new_checks_file(pytester, shop, capsys, monkeypatch):
    run_here(monkeypatch, pytester, [])
    write_images(320)
    save_checkpoint(shop / "good.safetensors", network(), Record("fashion-cnn", ARGUMENTS, CLASSES))
    init("--checkpoint", "good.safetensors", "--families", "clean,rotation", budget="0.001s")
    said = capsys.readouterr().out
    assert re.search(r"rotation +100 +320 .* s *\n", said), said
    assert f"the samples stand in {CHECKS}, [data.samples]" in said
    checks = read_checks(CHECKS)
    assert checks.data.samples == dict.fromkeys(("clean", "rotation"), 100), (
        "one model has no threshold by the panel"
    )
    (first,) = re.findall(r"for a first threshold, write (hand = .*) into the check clean\n", said)
    CHECKS.write_text(
        CHECKS.read_text().replace('metric = "accuracy"\n', f'metric = "accuracy"\n{first}\n', 1)
    )
    assert read_checks(CHECKS).family("clean")[0].hand.reason == "until calibrated"
    init("--families", "shift")
    assert read_checks(CHECKS).data.samples == checks.data.samples


def test_families_with_a_threshold_by_hand_keep_all_images(pytester, shop, capsys, monkeypatch):
    run_here(monkeypatch, pytester, [])
    write_images(320)
    save_checkpoint(shop / "good.safetensors", network(), Record("fashion-cnn", ARGUMENTS, CLASSES))
    options = ("--families", "clean,rotation", "--min-accuracy", "0.7", "--no-calibrate")
    init(
        "--checkpoint", "good.safetensors", *options, budget="0.002s"
    )  # Runs of another command are remembered.
    said = capsys.readouterr().out
    assert "not sampled, because their checks have thresholds set by hand: clean\n" in said
    assert re.search(r"clean +320 +320 .* \d+\.\d *\n", said), (
        "without a calibration, the plan has drops"
    )
    assert read_checks(CHECKS).data.samples == {"rotation": 100}
    assert (
        "  stress-harness accept FILE    # a model that passes becomes the incumbent\n"
        in said.partition("next:")[2]
    )


def test_a_network_that_cannot_be_measured_is_told_and_all_else_is_written(shop, capsys):
    (shop / "slow.py").write_text("def net(size):\n    raise ValueError\n")
    init("--model", "slow:net", "--set", "model_args.size=1", budget="30m")
    assert re.search(
        r"how long a run takes is not known \(.*; `stress-harness calibrate",
        capsys.readouterr().out,
    )
    assert read_checks(CHECKS).data.samples == {}


# Existing files.


def test_a_family_that_lacks_is_added_and_all_else_stays(shop, capsys):
    init("--families", "clean,rotation")
    (shop / "stress_tests/test_clean.py").write_text("# a copy, edited\n")
    CHECKS.write_text("# ours\n" + CHECKS.read_text() + "\n[data.samples]\nclean = 20\n")
    before = CHECKS.read_text()
    init("--families", "clean,flip")
    assert "checks: 2 new, of flip" in capsys.readouterr().out
    after = CHECKS.read_text().splitlines()
    changes = [line for line in difflib.ndiff(before.splitlines(), after) if line[0] in "+-"]
    assert all(line.startswith("+ ") for line in changes)
    assert (shop / "stress_tests/test_clean.py").read_text() == "# a copy, edited\n"
    assert families_of() == ["clean", "rotation", "flip"]
    init("--min-accuracy", "0.5", ends=2)
    assert "has rows of the family clean already" in capsys.readouterr().err


def test_families_are_added_where_images_are_golden(shop):
    """Whose rows are not written in the checks file.

    Nor are they rows of it where there are no others.
    """
    init("--families", "clean")
    assert (
        main(["golden", "add", "0", "--reason", "seen", "--", "--stress-set", "data=npz:shop.npz"])
        == 0
    )
    init("--families", "flip")
    assert families_of() == ["clean", "flip", "golden"]
    CHECKS.write_text(CHECKS.read_text()[: CHECKS.read_text().index("[[check]]")])
    init()
    assert "confidence" in families_of(), "as where there is no row"


LIMITS = "rotate=10,shift_x=3,flip=false"


def test_checks_of_geometry_come_with_an_option_that_is_named(shop, capsys):
    init()
    assert not set(families_of()) & set(GEOMETRIC)
    said = capsys.readouterr().out
    assert "no checks of rotated, shifted or flipped images; they come with\n" in said
    (command,) = re.findall(r"  stress-harness init (.*--augmentation.*)", said)
    assert main(["init", "--budget", "none", *shlex.split(command)]) == 0
    assert set(families_of()) & set(GEOMETRIC) == {"rotation", "shift"}


def test_families_that_a_range_has_no_check_for_are_named(shop, capsys):
    init("--augmentation", "shift_x=3")
    assert (
        "left out: rotation; the augmentation range is ±3 px to the sides"
        in capsys.readouterr().out
    )
    init("--families", "gain,flip", ends=0)
    assert "left out: gain, flip; the augmentation" in capsys.readouterr().out


def test_a_range_is_written_with_the_checks_that_follow_it(shop):
    init("--augmentation", LIMITS, "--set", "border=edge")
    table = tomllib.loads(CHECKS.read_text())["gate"]
    assert table["augmentation"] == {"rotate": 10, "shift_x": 3, "flip": False}
    assert table["border"] == "edge"
    checks = read_checks(CHECKS)
    assert checks.data.domain == Domain(AugmentationRange(10, 3, 0), "edge")
    assert set(families_of()) & set(GEOMETRIC) == {"rotation", "shift", "augmentation_gap"}
    before = CHECKS.read_text()
    init("--families", "search,pose")  # The range stands in the table by now.
    assert CHECKS.read_text().startswith(before)
    assert read_checks(CHECKS).family("search")[0].keys == {"within": {"degrees": 10, "dx": 3}}
    assert {check.pose.dy for check in read_checks(CHECKS).checks} == {0}


def test_a_range_may_be_declared_before_the_calibration(shop, capsys):
    init("--families", "clean")
    init("--families", "clean,rotation", "--augmentation", LIMITS)
    assert read_checks(CHECKS).data.domain.augmentation == AugmentationRange(10, 3, 0)
    init("--families", "shift", "--augmentation", "rotate=5", ends=2)
    assert "its [gate] has augmentation" in capsys.readouterr().err


@pytest.mark.parametrize("limits", ["rotate", "turn=1", "rotate=-1"])
def test_an_invalid_range_is_refused(shop, limits):
    init("--augmentation", limits, ends=2)
    assert not CHECKS.exists()


NET = """\
import torch
from zoo import network
torch.manual_seed(0)

class Net(torch.nn.Module):
    "Knows its classes only if pixels are normalized by this mean and standard deviation."
    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, x):
        pixels = x * {std} + {mean}
        darkest, brightest = pixels.amin((1, 2, 3)), pixels.amax((1, 2, 3))
        normalized = (darkest > -0.02) & (darkest < 0.04) & (brightest < 1.02)
        return self.network(pixels) * normalized[:, None]
"""


@pytest.fixture
def normalized(shop, monkeypatch):
    """The shop with a network that needs the mean and the standard deviation of its images.

    Returns these.
    """
    write_images(400)
    pixels = images_of(400).pixels.numpy() / 255
    mean, std = round(float(pixels.mean()), 4), round(float(pixels.std()), 4)
    (shop / "net.py").write_text(NET.format(mean=mean, std=std))
    monkeypatch.syspath_prepend(shop)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    state = {f"network.{name}": tensor for name, tensor in network().state_dict().items()}
    torch.save(state, shop / "net.pth")
    return mean, std


def at_chance(*arguments) -> list[str]:
    return ["--checkpoint", "net.pth", "--model", "net:Net", "--families", "clean", *arguments]


def test_a_model_at_chance_is_refused_with_the_normalization_that_helps(normalized, capsys):
    mean, std = normalized
    init(*at_chance(), ends=2)
    error = capsys.readouterr().err
    assert (
        "net.pth: accuracy 25.0% on 400 images of 4 classes is no better than chance, so nothing "
        "was written" in error
    )
    assert f"With normalization mean {mean:.2f}, std {std:.2f}: 92." in error
    assert not CHECKS.exists()
    (advice,) = re.findall(r"Add (--set normalization=\S+)", error)
    init(*at_chance(*advice.split()))
    assert read_checks(CHECKS).family("clean")


def test_a_model_at_chance_that_no_input_helps_is_refused(normalized, capsys):
    weights = torch.load("net.pth")
    torch.save({name: torch.zeros_like(tensor) for name, tensor in weights.items()}, "net.pth")
    init(*at_chance(), ends=2)
    error = capsys.readouterr().err
    assert re.search(r"None of \d+ other inputs helps", error)
    assert "Check that the file has trained weights" in error
    assert not CHECKS.exists()


def test_a_model_with_its_classes_in_another_order_is_refused(normalized, capsys):
    mean, std = normalized
    weights = torch.load("net.pth")
    for name in ("network.fc1.weight", "network.fc1.bias"):
        weights[name] = weights[name].roll(1, 0)
    torch.save(weights, "net.pth")
    init(*at_chance("--set", f"normalization={mean},{std}"), ends=2)
    assert "Its classes are in another order than those of the data" in capsys.readouterr().err
    assert not CHECKS.exists()


@pytest.mark.parametrize(
    ("counts", "correct", "above"),
    [
        ((100, 100), (50, 50), False),
        ((100, 100), (62, 58), True),
        ((900, 100), (900, 0), False),
        ((900, 100), (500, 90), True),
        ((2, 2), (2, 2), True),
        ((50,), (0,), True),
    ],
    ids=["guess", "better", "constant", "of-the-rare", "few", "one-class"],
)
def test_chance_is_that_of_a_guess_whatever_the_sizes_of_classes(counts, correct, above):
    labels = np.repeat(np.arange(len(counts)), counts)
    right = np.concatenate(
        [np.arange(count) < hits for count, hits in zip(counts, correct, strict=True)]
    )
    assert is_above_chance(SimpleNamespace(labels=labels, correct=right)) == above


def test_the_help_names_every_family(capsys):
    assert main(["init", "--help"]) == 0
    said = re.sub(r"-\s+", "-", capsys.readouterr().out)  # Lines end at hyphens, too.
    assert set(offered()) <= set(re.findall(r"[a-z_-]+", said))


@pytest.mark.parametrize(
    ("data", "rows", "told"),
    [
        (
            "npz:shop.npz",
            'id = "Clean"\nfamily = "clean"\nmetric = "accuracy"\n',
            "id 'Clean' must be of lower-case",
        ),
        (
            "npz:shop.npz",
            'id = "flip"\nfamily = "own"\nmetric = "accuracy"\n',
            "since one of own has this id",
        ),
        ("", 'id = "clean"\nfamily = "clean"\nmetric = "accuracy"\n', "exists with other content"),
    ],
    ids=["unreadable", "an-id-taken", "other-data"],
)
def test_a_checks_file_to_which_no_row_can_be_added_stays(shop, capsys, data, rows, told):
    CHECKS.parent.mkdir()
    CHECKS.write_text(
        checks_text(load_images(data) if data else images_of(40), rows=f"[[check]]\n{rows}")
    )
    before = files_in(shop)
    init("--families", "flip", ends=2)
    error = capsys.readouterr().err
    assert f"] {CHECKS}: " in error
    assert told in error
    assert files_in(shop) == before


def test_a_write_that_fails_leaves_nothing(shop, monkeypatch, capsys):
    (shop / "pytest.ini").write_text("[pytest]\n")
    write, calls = files._written_beside, []

    def failing(path, content):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(files, "_written_beside", failing)
    init(ends=2)
    assert "No space left on device" in capsys.readouterr().err
    assert files_in(shop) == {"pytest.ini": b"[pytest]\n"}


def test_new_settings_are_added_and_others_there_are_kept_and_told(shop, capsys):
    init("--families", "clean")
    sha256 = read_checks(CHECKS).sha256
    more = (
        "--set",
        "model_args.width=2",
        "--set",
        "model_args.deep=true",
        "--set",
        "normalization=imagenet",
    )
    init("--families", "clean", *more)
    table = {
        "data": "npz:shop.npz",
        "model_args": {"width": 2, "deep": True},
        "normalization": "imagenet",
    }
    assert tomllib.loads(CHECKS.read_text())["gate"] == table
    assert read_checks(CHECKS).sha256 == sha256
    before = files_in(shop)
    init(data="npz:other.npz", ends=2)
    said = capsys.readouterr().err
    assert 'its [gate] has data = "npz:shop.npz", but init was given data = "npz:other.npz"' in said
    assert files_in(shop) == before


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
    init("--families", "clean")
    assert (shop / name).read_text() == text
    assert name == "pytest.ini" or not (shop / "pytest.ini").exists()


def test_own_tests_stay_what_pytest_runs_by_itself(shop):
    (shop / "tests").mkdir()
    init("--families", "clean")
    assert "testpaths" not in (shop / "pytest.ini").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--families", "clean,fog"],
            "--families fog: no stress test of it ships; expected some of clean,class,",
        ),
        (["--copy", "fog"], "--copy fog: no stress test of it ships; expected one of clean,class,"),
        (["--min-accuracy", "90"], "--min-accuracy 90: expected a share above 0 and at most 1"),
        (["--checkpoint", "none.pth"], "none.pth"),
        (["--budget", "30"], "--budget 30: expected a time such as 90s, 20m or 1.5h"),
        (["elsewhere"], "elsewhere: there is no such folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(shop, capsys, arguments, told):
    init(*arguments, ends=2)
    assert told in capsys.readouterr().err
    assert files_in(shop) == {}
