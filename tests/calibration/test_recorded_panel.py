"""Three recorded reference models are a panel.

The same values and thresholds as of the models themselves.
"""

import hashlib
import re

import pytest
from recorded_answers import answer, order
from zoo import ROWS, Zoo, asked_to_record, hypothesis_as_it_starts

from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.cli import main
from harness.run.recorded import scope_of


@pytest.fixture
def zoo(pytester, runs):
    zoo = Zoo(pytester.path)
    zoo.bind(re.sub("hand = .*", "", ROWS))
    return zoo


def calibrated(zoo, models):
    """Return the panel and the checks file that these reference models give."""
    assert (
        main(["calibrate", "--checkpoints", *models, "--", "--stress-set", "data=npz:zoo.npz"]) == 0
    )
    checks = read_checks(zoo.checks)
    return read_panel(zoo.root / "models/panel.json", checks), checks


def test_recorded_reference_models_are_a_panel(zoo, pytester):
    files = [zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=0.1) for seed in range(1, 4)]
    folder = zoo.root / "inputs"
    with hypothesis_as_it_starts(), asked_to_record(None, **order(folder)):
        pytester.runpytest_inprocess(
            "--stress-set", "data=npz:zoo.npz", "stress_tests", "--stress-plan"
        )
    specs = [answer(folder, file, f"answers-{number}.npz") for number, file in enumerate(files)]
    recorded, checks = calibrated(zoo, specs)
    assert [model.path for model in recorded.models] == specs
    (zoo.root / "models/panel.json").unlink()
    zoo.bind(re.sub("hand = .*", "", ROWS))
    asked, same = calibrated(zoo, [file.name for file in files])
    assert [dict(model.values) for model in recorded.models] == [
        dict(model.values) for model in asked.models
    ]
    assert {check.id: check.panel for check in checks.checks} == {
        check.id: check.panel for check in same.checks
    }


def test_answers_to_a_sample_make_no_threshold(zoo, pytester, capsys):
    folder = zoo.root / "inputs"
    with hypothesis_as_it_starts(), asked_to_record(None, **order(folder)):
        pytester.runpytest_inprocess(
            "--stress-set",
            "data=npz:zoo.npz",
            "stress_tests",
            "--stress-plan",
            "--stress-budget",
            "4s",
        )
    spec = answer(folder, zoo.root / "models/augmented.safetensors", "answers.npz")
    assert main(["calibrate", "--checkpoints", spec, "--", "--stress-set", "data=npz:zoo.npz"]) == 2
    assert (
        "the predictions are of an export with --budget, and thresholds need all images"
        in capsys.readouterr().err
    )


def test_a_sample_by_the_panel_is_refused(zoo, pytester, capsys):
    """An export before calibration cannot know its images.

    Calibration needs clean predictions of all.
    """
    rows, folder = re.sub("hand = .*", "", ROWS), zoo.root / "inputs"
    for text, plans in (("{ n = 150, by = 'panel' }", 4), ("150", 0)):
        zoo.bind(f"[data.samples]\nrotation = {text}\n{rows}")
        with hypothesis_as_it_starts(), asked_to_record(None, **order(folder)):
            plan = pytester.runpytest_inprocess(
                "--stress-set", "data=npz:zoo.npz", "stress_tests", "--stress-plan"
            )
        assert (plan.ret, folder.exists()) == (plans, not plans)
    spec = answer(folder, zoo.root / "models/augmented.safetensors", "answers.npz")
    zoo.bind(f"[data.samples]\nrotation = {{ n = 150, by = 'panel' }}\n{rows}")
    assert main(["calibrate", "--checkpoints", spec, "--", "--stress-set", "data=npz:zoo.npz"]) == 2
    assert "samples of rotation are by the panel" in (said := capsys.readouterr().err)
    assert "write a number in [data.samples]" in said


def test_an_export_is_for_one_sample_of_a_quick_profile(zoo):
    def sizes(text):
        zoo.bind(f"sample = {text}\n{ROWS}")
        return scope_of(read_checks(zoo.checks), (), profile="quick", measured=None).sizes

    found = [
        sizes(text)
        for text in ("150", "{ n = 150, by = 'panel' }", "{ n = 150, by = 'panel', seed = 5 }")
    ]
    assert len(set(found)) == 3
    assert found[0] == hashlib.sha256(b"(150, [], None)").hexdigest()[:12]


def test_the_gate_finds_the_predictions_of_a_calibrated_model(zoo, pytester, runs):
    files = [
        zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=0.11).name for seed in range(1, 4)
    ]  # No other's.
    calibrated(zoo, files)
    assert len([run for run in runs if "answers" not in run]) == len(files)
    plan = (
        "--stress-set",
        "data=npz:zoo.npz",
        "stress_tests",
        "--stress-plan",
        "--candidate",
        files[1],
    )
    with hypothesis_as_it_starts():
        result = pytester.runpytest_inprocess(*plan)
    # Images, out of how many, tests, then no passes, no poses, no maps, and all of them cached.
    result.stdout.re_match_lines([r"rotation +400 +400 +1 +0 +0 +0 +400 +0 s"])
