"""The gate as its users run it: exit statuses, files and messages, serially and with workers."""

import json
import re
import shutil
import signal
import time
from pathlib import Path

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import hostile
import hypothesis  # noqa: F401
import numpy as np
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import torch

from harness.data import load_fashion_mnist, load_images
from harness.networks.architectures import FashionCNN
from harness.networks.checkpoints import Record, save_checkpoint
from harness.networks.training import TrainingConfig, shipped

STRESS_TESTS = Path(__file__).parents[2] / "stress_tests"
SERIAL, WORKERS = (), ("-n", "2")
CLASSES = ("top", "shoe")
ROWS = """
[[gate]]
id = "clean"
family = "clean"
metric = "accuracy"
hand = { bound = 0.9 }

[[gate]]
id = "clean-top"
family = "class"
metric = "accuracy"
class = "top"
hand = { bound = 0.9 }

[[gate]]
id = "rotate-ccw-010"
family = "rotation"
metric = "accuracy"
pose = { degrees = 10 }
hand = { bound = 0.8, mean = 0.9, std = 0.01, retrains = 3 }

[[gate]]
id = "confident-errors"
family = "confidence"
metric = "confident_errors"
direction = "at_most"
confidence = 0.9
hand = { bound = 2 }
"""


@pytest.fixture(params=[SERIAL, WORKERS], ids=["serial", "n2"])
def workers(request):
    return request.param


class Shop:
    """A little repository with a two-class data set, models that tell bright halves apart, and three gates."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.root = pytester.path
        pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
        folder = self.root / "stress_tests"
        folder.mkdir()
        for name in ("test_clean.py", "test_rotation.py", "test_confident_errors.py"):
            shutil.copy(STRESS_TESTS / name, folder)
        rng = np.random.default_rng(0)
        labels = np.arange(60) % 2
        pixels = rng.integers(0, 60, (60, 8, 8), dtype=np.uint8)
        pixels[labels == 0, :4] += 180
        pixels[labels == 1, 4:] += 180
        np.savez(self.root / "shop.npz", images=pixels, labels=labels, classes=np.array(CLASSES))
        self.images = load_images(f"npz:{self.root / 'shop.npz'}")
        self.gates(ROWS)
        self.save("models/augmented.safetensors")

    def gates(self, rows, *, sha256=None):
        data = f'name = "shop"\nsplit = "test"\nsha256 = "{sha256 or self.images.sha256}"\nn = 60\n'
        path = self.root / "stress_tests" / "gates.toml"
        path.write_text(f"schema = 1\nprotocol = 1\n\n[data]\n{data}{rows}")

    def save(self, name, *, factor=1.0, upside_down=False):
        """Save a network whose convolution passes pixels on and whose one layer compares upper and lower half."""
        arguments = {"conv_channels": [1], "fc_sizes": [], "image_size": [8, 8], "classes": 2, "mean": 0.0, "std": 1.0}
        model = FashionCNN(**arguments)
        half = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat_interleave(4) * factor
        with torch.no_grad():
            model.conv1.weight.zero_()[0, 0, 1, 1] = 1.0
            model.conv1.bias.zero_()
            model.fc1.weight.copy_(torch.stack([half, -half]) * (-1 if upside_down else 1))
            model.fc1.bias.zero_()
        path = self.root / name
        save_checkpoint(path, model, Record("fashion-cnn", arguments, CLASSES))
        return path

    def run(self, *arguments, inprocess=None):
        arguments = ("--stress-data", f"npz:{self.root / 'shop.npz'}", "stress_tests", *arguments)
        if inprocess is None:
            inprocess = "-n" not in arguments
        run = self.pytester.runpytest_inprocess if inprocess else self.pytester.runpytest_subprocess
        return run(*arguments)

    def result(self, folder="reports"):
        return json.loads((self.root / folder / "stress.json").read_text())


@pytest.fixture
def shop(pytester):
    return Shop(pytester)


def test_healthy_model_passes_and_leaves_three_reports(shop, workers):
    result = shop.run(*workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*model quality gate*", "*PASS: 4 of 4 gates hold"])
    record = shop.result()
    assert (record["verdict"], record["profile"], record["schema"], record["protocol"]) == ("pass", "default", 1, 1)
    assert [gate["id"] for gate in record["gates"]] == ["clean", "clean-top", "rotate-ccw-010", "confident-errors"]
    assert {gate["status"] for gate in record["gates"]} == {"pass"}
    assert record["data"]["n"] == 60
    assert record["baseline"] is None
    html = (shop.root / "reports/stress.html").read_text()
    assert "PASS: 4 of 4 gates hold" in html
    assert 'id="rotate-ccw-010"' in html
    assert "http://" not in html.split("<body>")[0]
    assert "PASS" in (shop.root / "reports/stress.md").read_text()


def test_worse_model_fails_by_name(shop, workers):
    shop.save("worse.safetensors", upside_down=True, factor=100)
    result = shop.run("--candidate", "worse.safetensors", *workers)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*FAIL: 0 of 4 gates hold; worse: *clean*", "*clean: accuracy 0.0000 < floor 0.9000 (n=60, 95% CI*"]
    )
    assert "RoleModel(" not in result.stdout.str()
    record = shop.result()
    assert record["verdict"] == "fail"
    assert [gate["status"] for gate in record["gates"]] == ["fail"] * 4
    html = (shop.root / "reports/stress.html").read_text()
    assert "data:image/webp;base64," in html
    assert "What got worse" in html


def test_runs_are_the_same_serially_and_with_workers(shop):
    shop.run(*SERIAL)
    serial = shop.result()["gates"]
    shop.run(*WORKERS, "--stress-reports", "others")
    assert shop.result("others")["gates"] == serial


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--candidate", "none.safetensors"], "*REFUSED?NOT_REGULAR?*none.safetensors*", id="no-candidate"),
        pytest.param(["--candidate", "shop.npz"], "*REFUSED?*shop.npz*", id="not-a-checkpoint"),
        pytest.param(["--baseline", "none.pth"], "*REFUSED?NOT_REGULAR?*none.pth*", id="no-baseline"),
        pytest.param(["--incumbent", "none.pth"], "*REFUSED?NOT_REGULAR?*none.pth*", id="no-incumbent"),
        pytest.param(["--gates", "none.toml"], "*none.toml: cannot be read*", id="no-gates"),
        pytest.param(["--stress-data", "npz:none.npz"], "*none.npz: cannot be read*", id="no-data"),
        pytest.param(["--stress-data", "cifar"], "*unknown data; expected fashion-mnist*", id="unknown-data"),
        pytest.param(["--stress-samples", "0"], "*sample of 0 images*", id="no-samples"),
        pytest.param(["--stress-samples", "61"], "*sample of 61 images was asked of 60*", id="too-many-samples"),
        pytest.param(["--stress-device", "abacus"], "*'abacus' cannot be used*", id="unknown-device"),
        pytest.param(["--stress-profile", "slow"], "*invalid choice: 'slow'*", id="unknown-profile"),
        pytest.param(["--stress-model", "nowhere:model", "--candidate", "m.pth"], "*nowhere:model*", id="no-builder"),
    ],
)
def test_bad_input_ends_with_4(shop, workers, arguments, message):
    result = shop.run(*arguments, *workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
    assert not (shop.root / "reports/stress.json").exists()


def test_truncated_checkpoint_is_refused_with_4(shop, workers):
    whole = shop.save("cut.safetensors").read_bytes()
    (shop.root / "cut.safetensors").write_bytes(whole[:-10])
    result = shop.run("--candidate", "cut.safetensors", *workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*REFUSED?FORMAT? cut.safetensors: *Nothing was executed.*"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(ROWS + "flor = 1\n", "*gate 4 ('confident-errors'): unknown key 'flor'*", id="unknown-key"),
        pytest.param(ROWS.replace("0.9 }", "1.2 }"), "*gate 1 ('clean'): bound 1.2 is outside*", id="impossible-floor"),
        pytest.param(ROWS.replace("rotate-ccw-010", "clean"), "*gate 3 ('clean'): gate 1 has this id*", id="duplicate"),
        pytest.param(ROWS.replace("degrees = 10", 'degrees = "10"'), "*degrees is '10', expected float*", id="type"),
        pytest.param(ROWS + "[budget]\nclean = 0\n", "*gates.toml: [[]budget[]] clean is 0, expected*", id="budget"),
    ],
)
def test_bad_gates_file_ends_with_4(shop, workers, rows, message):
    shop.gates(rows)
    result = shop.run(*workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("name", "code", "workers"),
    [
        pytest.param("runs-os-system", "PICKLE_GLOBAL", SERIAL, id="pickle-serial"),
        pytest.param("runs-os-system", "PICKLE_GLOBAL", WORKERS, id="pickle-n2"),
        pytest.param("place-fifo", "NOT_REGULAR", SERIAL, id="fifo-serial"),
        pytest.param("place-fifo", "NOT_REGULAR", WORKERS, id="fifo-n2"),
        pytest.param("zip-bomb", "ZIP_LAYOUT", SERIAL, id="zip-bomb"),
        pytest.param("native-bit-0-of-byte-1-from-the-end", "HASH_MISMATCH", SERIAL, id="bit-flip"),
    ],
)
def test_hostile_checkpoint_is_refused_with_4(shop, name, code, workers):
    path = hostile.make_one(name, shop.root)
    result = shop.run("--candidate", path.name, *workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*REFUSED?{code}? {path.name}: *Nothing was executed.*"])
    assert sorted(file.name for file in (shop.root / "canaries").iterdir()) == []


def test_gates_of_other_data_end_with_4(shop, workers):
    shop.gates(ROWS, sha256="0" * 64)
    result = shop.run(*workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*made for other data*"])


def test_data_that_the_gates_are_for_must_be_named_before_anything_is_trained(shop, workers):
    (shop.root / "models/augmented.safetensors").unlink()
    result = shop.pytester.runpytest_subprocess("stress_tests", *workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*gates.toml: made for the data 'shop'; name them with --stress-data*"])


def test_a_checkpoint_must_be_named_where_no_shipped_model_is_for_the_data(shop, workers):
    (shop.root / "models/augmented.safetensors").unlink()
    result = shop.run(*workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*models/augmented.safetensors: there is no such file*name the checkpoint*"])


def test_model_of_other_classes_ends_with_4(shop, workers):
    arguments = {"conv_channels": [1], "fc_sizes": [], "image_size": [8, 8], "classes": 3}
    save_checkpoint(shop.root / "three.safetensors", FashionCNN(**arguments), Record("fashion-cnn", arguments, CLASSES))
    result = shop.run("--candidate", "three.safetensors", *workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*candidate three.safetensors*tells 3 classes apart*2 classes*"])


MOODY = """
import time

import torch

class Moody(torch.nn.Module):
    def __init__(self, mood):
        super().__init__()
        self.mood = mood
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, pixels):
        upright = pixels[:, 0, :4].sum((1, 2)) - pixels[:, 0, 4:].sum((1, 2))
        logits = torch.stack([upright, -upright], 1)
        interpolated = (pixels * 255 - (pixels * 255).round()).abs().max() > 0.01
        if interpolated or self.mood == "hangs from the start":
            if self.mood == "raises":
                raise RuntimeError("I will not look at turned images")
            if self.mood == "shape":
                return logits[:, :1]
            if self.mood.startswith("hangs"):
                time.sleep(60)
            logits = logits * float("nan")
        return logits

class Counting(Moody):
    def __init__(self):
        super().__init__("changes its mind")
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, pixels):
        self.calls += 1
        upright = pixels[:, 0, :4].sum((1, 2)) - pixels[:, 0, 4:].sum((1, 2))
        return torch.stack([upright, -upright], 1) * torch.cos(self.calls)
"""


@pytest.fixture
def moody(shop):
    """The options that gate a model of this mood."""
    shop.pytester.makepyfile(moody=MOODY)
    torch.save({"weight": torch.zeros(1)}, shop.root / "moody.pth")
    shop.pytester.syspathinsert()
    return lambda mood: (
        *("--stress-model", "moody:Moody", "--stress-model-arg", f"mood={mood}", "--candidate", "moody.pth"),
        "--no-stress-cache",
    )


def statuses(shop):
    return {gate["id"]: gate["status"] for gate in shop.result()["gates"]}


@pytest.mark.parametrize("mood", ["raises", "nan", "shape"])
def test_model_that_fails_under_a_pose_is_not_called_worse(shop, moody, workers, mood):
    result = shop.run(*moody(mood), *workers)
    assert result.ret == 4
    assert shop.result()["verdict"] == "error"
    others = {"clean": "pass", "clean-top": "pass", "confident-errors": "pass"}
    assert statuses(shop) == {**others, "rotate-ccw-010": "error"}


HANGING = [
    pytest.param(SERIAL, 3, id="serial"),
    # A worker loads much before it runs a model, and the time limit counts that.
    pytest.param(WORKERS, 15, id="n2", marks=pytest.mark.faults),
]


@pytest.mark.parametrize(("workers", "seconds"), HANGING)
def test_model_that_hangs_under_a_pose_is_not_called_worse_and_ends_the_run(shop, moody, workers, seconds):
    start = time.monotonic()
    result = shop.run(*moody("hangs"), "--stress-timeout", str(seconds), *workers)
    assert time.monotonic() - start < 55
    assert result.ret == 4
    assert shop.result()["verdict"] == "error"
    assert statuses(shop)["rotate-ccw-010"] == "error"
    result.stdout.fnmatch_lines([f"*rotate-ccw-010*: no answer within {seconds} s; a model that hangs*"])


@pytest.mark.parametrize(("workers", "seconds"), HANGING)
def test_model_that_hangs_from_the_start_is_refused_with_4(shop, moody, workers, seconds):
    start = time.monotonic()
    result = shop.run(*moody("hangs from the start"), "--stress-timeout", str(seconds), *workers)
    assert time.monotonic() - start < 55
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*loading the models: no answer within {seconds} s; a model that hangs*"])


@pytest.mark.faults
def test_process_of_a_model_that_hangs_ends(shop, moody):
    start = time.monotonic()
    assert shop.run(*moody("hangs"), "--stress-timeout", "15", inprocess=False).ret == 4
    assert time.monotonic() - start < 55


def test_model_that_changes_its_mind_is_not_called_worse(shop, moody, workers):
    arguments = ("--stress-model", "moody:Counting", "--candidate", "moody.pth", *workers)
    result = shop.run(*arguments)
    assert result.ret == 4
    assert shop.result()["verdict"] == "error"
    result.stdout.fnmatch_lines(["*self-check model-keeps-no-state: *it keeps state between calls*"])


@pytest.mark.parametrize("seconds", ["-1", "nan", "1e300"])
def test_impossible_time_limit_ends_with_4(shop, seconds):
    result = shop.run("--stress-timeout", seconds)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--stress-timeout *: expected seconds, 0 for no limit*"])


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-k", "clean"], id="k"),
        pytest.param(["--stress-samples", "40"], id="samples"),
        pytest.param(["--deselect", "stress_tests/test_rotation.py"], id="deselect"),
    ],
)
def test_run_that_covers_less_is_partial(shop, workers, arguments):
    result = shop.run(*arguments, *workers)
    assert result.ret == 0
    assert shop.result()["verdict"] == "partial"
    result.stdout.fnmatch_lines(["*PARTIAL: *"])


@pytest.mark.parametrize(
    ("written", "mistyped", "omission"),
    [
        pytest.param('family = "clean"', 'family = "cleen"', "clean; no test ran of family cleen", id="family"),
        pytest.param('"confident_errors"', '"confident_erors"', "confidence-confident-errors", id="metric"),
    ],
)
def test_row_that_no_test_takes_is_missed_though_a_test_has_its_name(shop, workers, written, mistyped, omission):
    rows = ROWS.replace('id = "confident-errors"', 'id = "confidence-confident-errors"')
    shop.gates(rows.replace(written, mistyped))
    assert shop.run(*workers).ret == 0
    assert shop.result()["omissions"] == [f"1 of 4 gates did not run: {omission}"]


TWICE = {
    "two-tests": """
from harness.measures import accuracy
from harness.plugin import gate

@gate("clean")
def test_another_accuracy(candidate, images, evidence, gate):
    verdict = gate.judge(accuracy(candidate.predict(images)))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
""",
    "parametrized": """
import pytest
from harness.measures import accuracy
from harness.perturb import Pose
from harness.plugin import gate

@pytest.mark.parametrize("degrees", [180, 0])
@gate("turned")
def test_turned(candidate, images, evidence, gate, degrees):
    verdict = gate.judge(accuracy(candidate.predict(images, Pose(degrees))))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
""",
}


@pytest.mark.parametrize("body", TWICE.values(), ids=TWICE)
def test_row_that_two_tests_judge_is_an_error(shop, workers, body):
    (shop.root / "stress_tests/test_own.py").write_text(body)
    result = shop.run(*workers)
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*: two tests have a verdict of this name, *test_* and *test_*; name a metric*"])


def test_row_and_test_without_a_row_of_one_name_are_an_error(shop, workers):
    new = (STRESS_TESTS / "test_rotation.py").read_text().replace('gate("rotation")', 'gate("brightness")')
    (shop.root / "stress_tests/test_brightness.py").write_text(new)
    shop.gates(ROWS.replace('id = "clean"', 'id = "brightness"'))
    result = shop.run(*workers)
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*brightness: two tests have a verdict of this name*"])


@pytest.mark.parametrize("mark", ["skip", "xfail"])
def test_gate_that_is_skipped_or_may_fail_leaves_a_partial_verdict(shop, workers, mark):
    path = shop.root / "stress_tests/test_rotation.py"
    marked = path.read_text().replace("@gate(", f'@pytest.mark.{mark}(reason="known")\n@gate(')
    path.write_text("import pytest\n" + marked.replace("assert verdict.passed", "assert not verdict.passed"))
    assert shop.run(*workers).ret == 0
    said = "1 of 4 gates did not run: rotate-ccw-010; no test ran of family rotation"
    assert (shop.result()["verdict"], shop.result()["omissions"]) == ("partial", [said])


@pytest.mark.parametrize("mark", ["skip", "xfail"])
def test_verdict_of_the_run_before_does_not_stay_where_every_gate_is_skipped(shop, workers, mark):
    assert shop.run().ret == 0
    assert shop.result()["verdict"] == "pass"
    (shop.root / "stress_tests/conftest.py").write_text(
        "import pytest\n\ndef pytest_collection_modifyitems(items):\n"
        f"    for item in items:\n        item.add_marker(pytest.mark.{mark}(reason='later'))\n"
    )
    shop.save("worse.safetensors", upside_down=True)
    assert shop.run("--candidate", "worse.safetensors", *workers).ret == 0
    assert shop.result()["verdict"] == "partial"
    assert shop.result()["omissions"][0].startswith("4 of 4 gates did not run: clean, clean-top, ")


def test_run_that_did_not_check_itself_is_partial(shop):
    assert shop.run("--tx", "popen//id=mine", "--dist", "load", inprocess=False).ret == 0
    assert (shop.result()["verdict"], shop.result()["omissions"]) == ("partial", ["the run did not check itself"])


def test_gate_that_was_expected_to_fail_and_holds_is_an_error(shop, workers):
    path = shop.root / "stress_tests/test_rotation.py"
    path.write_text("import pytest\n" + path.read_text().replace("@gate(", "@pytest.mark.xfail(strict=True)\n@gate("))
    result = shop.run(*workers)
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*rotate-ccw-010: error: *XPASS(strict)*"])


def test_run_that_holds_no_bound_against_the_candidate_is_partial(shop, workers):
    shutil.copy(STRESS_TESTS / "test_baseline.py", shop.root / "stress_tests")
    row = '\n[[gate]]\nid = "baseline"\nfamily = "baseline"\nmetric = "accuracy"\n'
    row += 'role = "baseline"\nhand = { bound = 0.9 }\n'
    shop.gates(re.sub("hand = .*", "", ROWS) + row)
    shop.save("worse.safetensors", upside_down=True)
    options = ("--candidate", "worse.safetensors", "--baseline", "models/augmented.safetensors")
    assert shop.run(*options, *workers).ret == 0
    assert shop.result()["verdict"] == "partial"
    (omission,) = shop.result()["omissions"]
    assert omission.endswith("gates.toml was held against the candidate")


def test_test_of_fewer_images_than_its_bound_is_made_for_is_partial(shop, workers):
    path = shop.root / "stress_tests/test_rotation.py"
    first = "evidence, gate):\n"
    few = path.read_text().replace(first, f"{first}    images = images.take(torch.arange(20))\n")
    path.write_text(f"import torch\n{few}")
    shop.gates(ROWS.replace("retrains = 3 }", "retrains = 3, n = 60 }"))
    assert shop.run(*workers).ret == 0
    said = "fewer images than their bounds are made for: rotate-ccw-010; calibrate them anew"
    assert (shop.result()["verdict"], shop.result()["omissions"]) == ("partial", [said])


def test_measurement_of_nan_is_an_error(shop, workers):
    path = shop.root / "stress_tests/test_rotation.py"
    judged = "gate.judge(replace(accuracy(candidate.predict(images)), value=float('nan')))"
    path.write_text(
        "from dataclasses import replace\nfrom harness.measures import accuracy\nfrom harness.plugin import gate\n\n"
        f'@gate("rotation")\ndef test_nothing(candidate, images, evidence, gate):\n    evidence.show({judged})\n'
    )
    result = shop.run(*workers)
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*gate rotate-ccw-010: the test measured 'accuracy' as NaN*"])


def test_stopping_at_the_first_failure_is_partial_and_still_1(shop, workers):
    shop.save("worse.safetensors", upside_down=True, factor=100)
    result = shop.run("--candidate", "worse.safetensors", "-x", *workers)
    assert result.ret == 1
    assert shop.result()["verdict"] in {"partial", "fail"}


def test_sampled_run_still_catches_a_bad_model(shop, workers):
    shop.save("worse.safetensors", upside_down=True)
    result = shop.run("--candidate", "worse.safetensors", "--stress-samples", "20", *workers)
    assert result.ret == 1
    assert shop.result()["verdict"] == "partial"


def test_failing_baseline_is_not_the_candidates_fault(shop, workers):
    shutil.copy(STRESS_TESTS / "test_baseline.py", shop.root / "stress_tests")
    row = '\n[[gate]]\nid = "baseline"\nfamily = "baseline"\nmetric = "accuracy"\n'
    row += 'role = "baseline"\nhand = { bound = 0.9 }\n'
    shop.gates(ROWS + row)
    shop.save("plain.safetensors", upside_down=True)
    result = shop.run("--baseline", "plain.safetensors", *workers)
    assert result.ret == 4
    assert shop.result()["verdict"] == "error"
    result.stdout.fnmatch_lines(["*the baseline itself is not what it should be*"])


def test_gates_that_need_a_missing_baseline_are_not_applicable(shop, workers):
    shutil.copy(STRESS_TESTS / "test_gain_over_baseline.py", shop.root / "stress_tests")
    row = '\n[[gate]]\nid = "gain"\nfamily = "gain"\nmetric = "accuracy_gain"\nhand = { bound = 0.1 }\n'
    shop.gates(ROWS + row)
    result = shop.run("--baseline", "none", *workers)
    assert result.ret == 0
    (gain,) = (gate for gate in shop.result()["gates"] if gate["id"] == "gain")
    assert gain["status"] == "not_applicable"
    assert "there is no baseline" in gain["detail"]


def test_new_stress_test_without_a_row_is_reported_not_gated(shop, workers):
    new = (STRESS_TESTS / "test_rotation.py").read_text().replace('gate("rotation")', 'gate("brightness")')
    (shop.root / "stress_tests/test_brightness.py").write_text(new)
    result = shop.run(*workers)
    assert result.ret == 0
    (gate,) = (gate for gate in shop.result()["gates"] if gate["id"] == "brightness")
    assert (gate["status"], gate["value"]) == ("not_gated", 1.0)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        pytest.param("import nowhere\n", 4, "*test_own.py: cannot be collected*", id="import-error"),
        pytest.param(
            "def test_own():\n    raise OSError('lost')\n", 4, "*test_own.py::test_own: OSError: lost*", id="raises"
        ),
        pytest.param("def test_own():\n    assert 1 == 2\n", 1, "*test_own.py::test_own: failed*", id="asserts"),
    ],
)
def test_users_own_tests_count(shop, workers, body, status, message):
    (shop.root / "stress_tests/test_own.py").write_text(body)
    result = shop.run(*workers)
    assert result.ret == status
    result.stdout.fnmatch_lines([message])


def test_killed_worker_is_an_error_not_a_failure(shop):
    (shop.root / "stress_tests/test_own.py").write_text(
        f"import os, signal\n\ndef test_own():\n    os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    result = shop.run(*WORKERS)
    assert result.ret == 4
    assert shop.result()["verdict"] == "error"


def test_worker_killed_after_its_last_test_is_an_error(shop):
    """As the kernel kills the process that takes the most memory, when the worker checks itself."""
    (shop.root / "stress_tests/conftest.py").write_text(
        "import os, signal, pytest\n\n@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish(session):\n"
        "    if getattr(session.config, 'workerinput', {}).get('workerid') == 'gw0':\n"
        f"        os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    result = shop.run(*WORKERS)
    assert result.ret == 4
    assert shop.result()["verdict"] == "error"
    result.stdout.fnmatch_lines(["*worker gw0 died: *"])


def test_default_gate_is_found_through_a_link(shop):
    (shop.root / "stress_tests").rename(shop.root / "elsewhere")
    (shop.root / "stress_tests").symlink_to("elsewhere")
    assert shop.run().ret == 0
    assert shop.result()["verdict"] == "pass"


def test_interrupt_keeps_pytests_status_even_after_an_error(shop):
    body = "def test_broken():\n    raise OSError\n\ndef test_own():\n    raise KeyboardInterrupt\n"
    (shop.root / "stress_tests/test_own.py").write_text(body)
    assert shop.run(inprocess=False).ret == pytest.ExitCode.INTERRUPTED


def test_junit_carries_each_measurement(shop, workers):
    assert shop.run("--junit-xml", "junit.xml", *workers).ret == 0
    xml = (shop.root / "junit.xml").read_text()
    assert '<property name="value" value="1.0" />' in xml
    assert '<property name="limit" value="0.9" />' in xml


def test_runs_without_pytest_html(shop):
    result = shop.run("-p", "no:html", inprocess=False)
    assert result.ret == 0
    assert shop.result()["verdict"] == "pass"
    assert not (shop.root / "reports/stress.html").exists()


def test_collecting_only_loads_neither_models_nor_torch(shop):
    (shop.root / "models/augmented.safetensors").unlink()
    code = (
        "import sys, pytest; status = pytest.main(['--collect-only', '-q', 'stress_tests']); "
        "print(sorted({'torch', 'cv2', 'matplotlib'} & set(sys.modules)), int(status))"
    )
    result = shop.pytester.runpython_c(code)
    result.stdout.fnmatch_lines(["*test_accuracy_survives_rotation?rotate-ccw-010?", "[[]] 0"])


@pytest.fixture
def quick_training(monkeypatch, tmp_path):
    """Shipped models of one epoch on a few images, trained into a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = {"conv_channels": [4], "fc_sizes": []}
    config = TrainingConfig(epochs=1, validation_size=100, arguments=arguments, precision="float32")
    monkeypatch.setattr(shipped, "SHIPPED", {"baseline": config, "augmented": config})
    few = load_fashion_mnist("test").take(torch.arange(400))
    monkeypatch.setattr("harness.data.load_fashion_mnist", lambda _: few)
    return tmp_path / "cache/stress-harness/trained"


def test_missing_shipped_models_are_trained_visibly_and_once(pytester, quick_training, capfd):
    shutil.copytree(STRESS_TESTS, pytester.path / "stress_tests")
    arguments = ("stress_tests", "-k", "test_clean_accuracy", "--stress-samples", "50")
    status = pytester.runpytest_inprocess(*arguments).ret
    assert status in (0, 1)
    assert "The shipped augmented model is missing: training it into" in capfd.readouterr().err
    files = sorted(path.name.split("-")[0] for path in quick_training.glob("*.safetensors"))
    assert files == ["augmented", "baseline"]
    record = json.loads((pytester.path / "reports/stress.json").read_text())
    assert record["candidate"]["path"].startswith(str(quick_training))
    pytester.runpytest_inprocess(*arguments)
    assert "training" not in capfd.readouterr().err


def test_missing_checkpoint_named_by_the_user_is_not_trained(pytester, quick_training):
    shutil.copytree(STRESS_TESTS, pytester.path / "stress_tests")
    result = pytester.runpytest_inprocess("stress_tests", "--candidate", "models/augmented.safetensors")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*REFUSED?NOT_REGULAR?*"])
    assert not quick_training.exists() or not list(quick_training.glob("augmented*.safetensors"))


def test_plugin_is_silent_elsewhere(pytester):
    pytester.makepyfile("def test_nothing():\n    pass\n")
    result = pytester.runpytest_inprocess()
    assert result.ret == 0
    assert "model quality gate" not in result.stdout.str()
    assert not (pytester.path / "reports").exists()


def test_tests_of_others_may_use_the_word_gate(pytester):
    pytester.makepyfile(
        """
        import pytest
        from harness.gates import Gate

        @pytest.mark.parametrize("gate", [Gate("a", "a", "accuracy")])
        def test_own_gate(gate):
            assert gate.id == "a"
        """
    )
    result = pytester.runpytest_inprocess()
    assert result.ret == 0
    assert "model quality gate" not in result.stdout.str()


@pytest.mark.parametrize(
    "project",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"stress_tests/test_load.py": "def test_load():\n    pass\n"}, id="other-stress-tests"),
    ],
)
def test_options_of_common_names_are_left_to_projects_without_a_gate(pytester, project):
    """As an entry point the plugin is loaded in every project of the environment it is installed in."""
    pytester.makeconftest(
        """
        import pytest

        def pytest_addoption(parser):
            for name in ("--candidate", "--baseline", "--incumbent", "--gates"):
                parser.addoption(name, default="theirs")

        @pytest.fixture
        def candidate(request):
            return request.config.getoption("--candidate")
        """
    )
    pytester.makepyfile(
        """
        import sys

        import pytest

        @pytest.mark.gate
        def test_theirs(candidate, pytestconfig):
            assert candidate == pytestconfig.getoption("--gates") == "theirs"
            assert "torch" not in sys.modules
        """
    )
    for name, text in project.items():
        (pytester.path / name).parent.mkdir(exist_ok=True)
        (pytester.path / name).write_text(text)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1 + len(project))
    assert "model quality gate" not in result.stdout.str()
    assert not (pytester.path / "reports").exists()


def test_every_option_has_help(pytester):
    (pytester.mkdir("stress_tests") / "gates.toml").touch()
    text = pytester.runpytest_inprocess("--help").stdout.str()
    options = ("candidate", "baseline", "incumbent", "gates", "stress-model", "stress-model-arg", "stress-data")
    options += ("stress-profile", "stress-samples", "stress-device", "stress-reports", "stress-size")
    options += ("stress-channels", "stress-model-outputs", "stress-normalisation", "stress-layer", "no-stress-cache")
    assert [option for option in options if f"  --{option}" not in text] == []


def test_conftest_and_entry_point_together_register_once(shop):
    (shop.root / "conftest.py").write_text('pytest_plugins = ["harness.plugin"]\n')
    assert shop.run(inprocess=False).ret == 0
