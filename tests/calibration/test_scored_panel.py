"""Reference models that are files of scores set thresholds on mean scores.

These judge scores alone.
"""

import re

import numpy as np
import pytest
from recorded_answers import answer, order
from zoo import ROWS, GatedZoo, asked_to_record, hypothesis_as_it_starts

from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.cli import main

MODEL = "models/augmented.safetensors"
DATA = ("--stress-set", "data=npz:zoo.npz")
KINDS = "candidate's kind"


class Scores:
    """Scores of an export that depend on image, perturbation and model, like retrained ones."""

    def __init__(self, folder):
        shards = [np.load(shard) for shard in sorted(folder.glob("shard-*.npz"))]
        self.names = np.concatenate([shard["image"] for shard in shards])
        self.posed = np.concatenate([shard["perturbation"] for shard in shards]) > 0
        self.line = (folder / "manifest.json").read_text().split('"export": "')[1].split('"')[0]
        self.difficulty = np.random.default_rng(0).normal(2.0, 1.0, len(self.names))

    def write(self, path, seed, *, loss=0.0):
        """Write the scores of a model.

        They are lower by `loss` on the scale of logits under a perturbation.
        """
        generator = np.random.default_rng(seed)
        noise = generator.normal(0, 0.5, len(self.names)) + generator.normal(0, 0.02)
        level = self.difficulty + noise - loss * self.posed
        np.savez(path, export=self.line, image=self.names, scores=1 / (1 + np.exp(-level)))
        return f"scores:{path.name}"


@pytest.fixture
def zoo(pytester, runs):
    zoo = GatedZoo(pytester)
    zoo.bind(re.sub("hand = .*", "", ROWS))
    return zoo


@pytest.fixture
def scores(zoo, pytester):
    folder = zoo.root / "inputs"
    with hypothesis_as_it_starts(), asked_to_record(None, **order(folder)):
        pytester.runpytest_inprocess(*DATA, "stress_tests", "--stress-plan")
    return Scores(folder)


def test_a_panel_of_scores_judges_scores(zoo, scores, capsys):
    models = [scores.write(zoo.root / f"seed-{seed}.npz", seed) for seed in range(1, 9)]
    assert main(["calibrate", "--checkpoints", *models, "--", *DATA]) == 0
    checks = read_checks(zoo.checks)
    panel = read_panel(zoo.root / "models/panel.json", checks)
    assert panel.scored
    assert checks.recipe["scores"] is True
    by_id = {check.id: check for check in checks.checks}
    assert {name for name, check in by_id.items() if check.panel and not check.informational} == {
        "clean",
        "clean-bee",
        "rotate-ccw-010",
    }
    assert not panel.chance["clean"].answers
    assert by_id["confident-errors"].panel is None

    sound = scores.write(zoo.root / "sound.npz", 9)
    assert zoo.run("--candidate", sound).ret == 0
    assert zoo.statuses["rotate-ccw-010"] == "pass"
    worse = scores.write(zoo.root / "worse.npz", 9, loss=0.5)
    assert zoo.run("--candidate", worse).ret == 1
    assert (zoo.statuses["clean"], zoo.statuses["rotate-ccw-010"]) == ("pass", "fail")

    labels = answer(zoo.root / "inputs", zoo.root / MODEL, zoo.root / "answers.npz")
    assert zoo.run("--candidate", labels).ret == 4
    assert KINDS in zoo.report()["errors"][0]
    capsys.readouterr()
    assert main(["calibrate", "--checkpoints", *models[:2], labels, "--", *DATA]) == 2
    assert "must all do the same" in capsys.readouterr().err


def test_three_reference_models_of_scores_set_no_threshold(zoo, scores):
    """The prior by chance, image by image, does not hold for scores; see `benchmarks/scores`."""
    models = [scores.write(zoo.root / f"seed-{seed}.npz", seed) for seed in range(1, 4)]
    assert main(["calibrate", "--checkpoints", *models, "--", *DATA]) == 0
    informational = {check.id: check.informational for check in read_checks(zoo.checks).checks}
    for name in ("clean", "clean-bee", "rotate-ccw-010"):
        assert "three reference models cannot show" in informational[name]
    assert zoo.run("--candidate", scores.write(zoo.root / "sound.npz", 9)).ret == 4
    assert "no threshold" in str(zoo.report())


def test_thresholds_of_classifiers_do_not_judge_scores(zoo, scores):
    files = [zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=0.1) for seed in range(1, 4)]
    assert main(["calibrate", "--checkpoints", *map(str, files), "--", *DATA]) == 0
    assert zoo.run("--candidate", scores.write(zoo.root / "sound.npz", 9)).ret == 4
    assert KINDS in zoo.report()["errors"][0]
