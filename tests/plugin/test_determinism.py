"""The same bits, however a run is made; on an older processor's instructions, the same verdict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from zoo import kept_predictions

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.determinism

OLDER = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
QUICK = ("--stress-profile", "quick", "--stress-set", "no_overview=true")
SAMPLES = 300
"""Enough images for bfloat16 to screen them, where the processor has it."""
PREDICT = """
import sys
from pathlib import Path

from harness.networks.checkpoints import load_checkpoint
from harness.data import load_images, stratified_sample
from harness.inference import Classifier
from harness.perturb import Pose

images = stratified_sample(load_images("fashion-mnist"), int(sys.argv[2]))
classifier = Classifier(load_checkpoint(Path(sys.argv[1])).model)
for pose in (Pose(), Pose(degrees=10, dx=2)):
    print(*classifier.predict(images, pose).predicted)
"""


def run(command, *, cwd, cache, **environment) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), **environment}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


class Check:
    """Runs the gate on the shipped model, and says what it found and what it left in the cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments, cache, cwd=REPOSITORY, **environment):
        reports = self.folder / f"reports-{len(list(self.folder.glob('reports-*')))}"
        command = (
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(REPOSITORY / "stress_tests"),
        )
        options = (
            *QUICK,
            "--stress-samples",
            str(SAMPLES),
            "--stress-reports",
            str(reports),
            *arguments,
        )
        done = run((*command, *options), cwd=cwd, cache=self.folder / cache, **environment)
        assert done.returncode in {0, 1}, done.stdout + done.stderr
        report = json.loads((reports / "stress.json").read_text())
        assert len(report["checks"]) > 40
        return report["verdict"], report["checks"]

    def expect_same_predictions(self, cache, other) -> None:
        """The first question decides the errors that keep exact logits.

        Everything that both runs keep is equal.
        """
        one, two = (kept_predictions(self.folder / name) for name in (cache, other))
        both = one.keys() & two.keys()
        assert len(both) > 0.95 * max(len(one), len(two)) > 40
        assert {name: one[name] for name in both} == {name: two[name] for name in both}


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    return Check(tmp_path_factory.mktemp("determinism"))


@pytest.fixture(scope="module")
def serial(check):
    """Return what a serial run finds that nothing is kept from."""
    return check(cache="serial")


def test_three_workers_in_another_working_folder_give_the_same_bits(check, serial, tmp_path):
    assert check("-n", "3", cache="elsewhere", cwd=tmp_path) == serial
    check.expect_same_predictions("elsewhere", "serial")


def test_cached_predictions_give_the_same_bits(check, serial):
    assert check(cache="serial") == serial


def test_an_older_processor_gives_the_same_verdict(check, serial):
    verdict, checks = check(cache="older", **OLDER)
    assert verdict == serial[0]
    assert [entry["status"] for entry in checks] == [entry["status"] for entry in serial[1]]


def test_an_older_processor_flips_at_most_2_in_10000_predictions(tmp_path):
    command = (
        sys.executable,
        "-c",
        PREDICT,
        str(REPOSITORY / "models/augmented.safetensors"),
        "2000",
    )
    here, older = (
        run(command, cwd=REPOSITORY, cache=tmp_path, **environment).stdout.split()
        for environment in ({}, OLDER)
    )
    assert len(here) == len(older) == 4_000
    assert sum(mine != theirs for mine, theirs in zip(here, older, strict=True)) <= 1
