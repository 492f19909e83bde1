"""Samples by the panel, from a checks file to thresholds, and a verdict that is whole."""

import json
from dataclasses import replace

import numpy as np
import pytest
from zoo import CLEAN, ROWS, Zoo, checks_text, network, zoo_for_all

from harness.calibration.panel import read_panel
from harness.calibration.thresholds import variances_of
from harness.checks import read_checks
from harness.checks.rows import ChecksError
from harness.cli import main
from harness.inference import Classifier
from harness.measures.panel.confidence import ConfidenceStrata
from harness.measures.panel.predictions import read_panel_predictions
from harness.perturb import Pose

SAMPLED = """
[data.samples]
rotation = { n = 150, by = "panel" }
confidence = { n = 120, by = "panel" }

[[check]]
id = "rotate-ccw-010"
family = "rotation"
metric = "accuracy"
pose = { degrees = 10 }

[[check]]
id = "confident-errors"
family = "confidence"
metric = "confident_errors"
confidence = 0.5
hand = { threshold = 50, reason = "the panel's could not fail its mutant" }

[[check]]
id = "calibration"
family = "confidence"
metric = "calibration_error"
"""
SAMPLE_OF_CLEAN = '[data.samples]\nclean = { n = 40, by = "panel" }\n'
BY_HAND = """
[[check]]
id = "rotate-ccw-010"
family = "rotation"
metric = "accuracy"
pose = { degrees = 10 }
hand = { threshold = 0.5 }
"""
"""A threshold that all images keep."""
OWN = """
import numpy as np
from harness.measures import ACCURACY
from harness.measures.metric import share_of
from harness.plugin import check

@check("rotation")
def test_own(candidate, images, evidence, stress_check):
    predictions = candidate.predict(images, stress_check.pose)
    verdict = stress_check.judge(share_of(ACCURACY, predictions.correct))
    evidence.show(verdict, predictions)
"""
"""A stress test that takes the plain mean."""
JITTER = 0.06
"""Shake of the weights, with which the networks err on other images, as trainings with other seeds
do.
"""
COUNT = 8
RUN = (
    "-p",
    "no:html",
    "--stress-set=no_overview=true",
    "--stress-set=data=npz:zoo.npz",
    "stress_tests",
    "--candidate",
)


@pytest.fixture
def zoo(pytester, runs):
    zoo = Zoo(pytester.path, tests=("rotation", "confident_errors", "calibration"))
    zoo.bind(SAMPLED)
    zoo.seeds = [
        zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=JITTER).name for seed in range(COUNT)
    ]
    return zoo


@pytest.fixture(scope="module")
def shared(request, tmp_path_factory):
    with zoo_for_all(request, tmp_path_factory, tests=("clean", "rotation")) as zoo:
        zoo.save("jittered.safetensors", seed=3, jitter=JITTER)
        yield zoo


def test_thresholds_and_verdicts_are_of_the_weighted_sample(zoo, pytester):
    assert main(["calibrate", "--checkpoints", *zoo.seeds, "--set", "data=npz:zoo.npz"]) == 0
    panel, rows = (
        read_panel(zoo.root / "models/panel.json"),
        {row.id: row for row in read_checks(zoo.checks).checks},
    )
    known = read_panel_predictions(read_checks(zoo.checks).panel_predictions)
    assert known.view().each.shape == (COUNT, 400), (
        "clean predictions of all images, though no check asks for them"
    )

    # Each model has the weighted mean of its predictions of the sample.
    sample = known.weighted_sample(zoo.images, 150, clean=lambda: None)
    models = [Classifier(network(seed=seed, jitter=JITTER), workers=1) for seed in range(COUNT)]
    correct = np.stack([model.predict(sample, Pose(10.0)).correct for model in models])
    expected = [sample.strata.mean(each) for each in correct]
    assert [model.values["rotate-ccw-010"] for model in panel.models] == pytest.approx(expected)
    assert np.std(expected) > 0, "or nothing is tested here"
    threshold = rows["rotate-ccw-010"].panel
    assert threshold.sample == "by panel, n = 150, seed = 0"
    assert (threshold.n, threshold.of_loss) == (
        150,
        pytest.approx(sample.strata.heaviest / 400, rel=1e-3),
    )

    # They define the strata by their own clean errors, and so vary less than another model.
    hidden = panel.chance["confident-errors"].hidden
    shown = replace(
        panel, chance={name: replace(each, hidden=0.0) for name, each in panel.chance.items()}
    )
    checks = panel.family("confidence")[:1]
    (variance,), (less,) = (
        variances_of(each, checks, panel.values(checks)).variance for each in (panel, shown)
    )
    assert hidden > 0
    assert variance == pytest.approx(less + hidden)
    assert [rows[name].panel.n for name in ("confident-errors", "calibration")] == [400, 400], (
        "a count, and all images"
    )

    zoo.save("other.safetensors", seed=77, jitter=JITTER)
    assert pytester.runpytest_inprocess(*RUN, "other.safetensors", "--incumbent=none").ret == 0
    checks = {check["id"]: check for check in zoo_report(zoo)["checks"]}
    assert [
        checks[name]["n"] for name in ("rotate-ccw-010", "confident-errors", "calibration")
    ] == [150, 400, 400]
    assert checks["confident-errors"]["counted"] == 120
    assert "weighted for 400 images" in checks["rotate-ccw-010"]["detail"]
    assert zoo_report(zoo)["omissions"] == [], "the verdict is whole"
    written = zoo.checks.read_text()
    zoo.checks.write_text(
        written.replace('n = 150, by = "panel"', 'n = 150, by = "panel", seed = 5')
    )
    pytester.runpytest_inprocess(*RUN, "other.safetensors", "--incumbent=none")
    assert any(
        "other images than their thresholds" in said for said in zoo_report(zoo)["omissions"]
    )
    zoo.checks.write_text(written)
    (zoo.tests / "test_rotation.py").write_text(OWN)
    assert pytester.runpytest_inprocess(*RUN, "other.safetensors", "--incumbent=none").ret == 4
    assert "'accuracy' without the weights of its sample" in zoo_report(zoo)["errors"][0]
    assert pytester.runpytest_inprocess(*RUN, "other.safetensors", "--stress-samples=100").ret == 0
    assert zoo_report(zoo)["omissions"] != []


@pytest.mark.parametrize(
    ("threshold", "status", "ending"),
    [
        (0.60, "pass", (0, "pass")),
        (0.88, "inconclusive", (0, "partial")),
        (0.99, "fail", (1, "fail")),
    ],
)
def test_only_the_interval_of_a_sample_decides_a_threshold_by_hand(
    shared, monkeypatch, threshold, status, ending
):
    rows = (
        f"{SAMPLE_OF_CLEAN}\n"
        f"{CLEAN.replace('threshold = 0.6', f'threshold = {threshold}')}{BY_HAND}"
    )
    asked = ("--incumbent", "models/augmented.safetensors", "--candidate", "jittered.safetensors")

    ran = shared.once(*asked, rows=rows)

    assert (ran.checks["clean"]["status"], ran.ending) == (status, ending)
    assert (ran.checks["clean"]["n"], ran.checks["rotate-ccw-010"]["n"]) == (40, 400)
    named = "thresholds by hand that this sample is too small to decide: clean. " in ran.why
    assert named is (status == "inconclusive")
    if named:
        assert "undecided: clean" in ran.report["headline"]
        assert "| clean | 1 of 1 cannot tell | clean |" in ran.summary

    monkeypatch.chdir(shared.root)
    shared.bind(rows)
    assert main(["gate", "stress_tests", *asked, "--stress-set", "data=npz:zoo.npz"]) == (
        ending[0] or 4 * named
    )


def test_the_only_threshold_that_a_sample_leaves_open_is_no_pass(shared):
    rows = f"{SAMPLE_OF_CLEAN}\n{CLEAN.replace('threshold = 0.6', 'threshold = 0.88')}"
    ran = shared.once(
        "--incumbent",
        "models/augmented.safetensors",
        "--candidate",
        "jittered.safetensors",
        rows=rows,
    )
    assert ran.ending == (4, "partial")
    assert ran.parseoutcomes().keys() == {"skipped"}


@pytest.mark.parametrize("named", [False, True], ids=["of the file", "of the family"])
def test_a_threshold_by_hand_needs_all_images_unless_a_sample_is_named(shared, named):
    sample = '{ n = 40, by = "panel" }'
    of_family = f"[data.samples]\nclean = {sample}\n" if named else ""
    content = checks_text(shared.images, f"sample = {sample}\n{of_family}{CLEAN}")
    files = {"stress_tests/checks-quick.toml": content}
    ran = shared.once(
        *("--stress-profile", "quick", "--checks", "stress_tests/checks-quick.toml"),
        *("--incumbent", "models/augmented.safetensors", "--candidate", "jittered.safetensors"),
        files=files,
    )
    assert ran.checks["clean"]["n"] == (40 if named else 400)


def test_before_calibration_a_sample_is_stratified_by_class(zoo, pytester):
    """As after `init --budget`: without predictions of a panel, and without its thresholds."""
    pytester.runpytest_inprocess(*RUN, zoo.seeds[0], "--incumbent=none")
    checks = {check["id"]: check for check in zoo_report(zoo)["checks"]}
    assert [
        checks[name]["n"] for name in ("rotate-ccw-010", "confident-errors", "calibration")
    ] == [150, 120, 120]
    assert "weighted" not in checks["rotate-ccw-010"]["detail"]


def test_before_calibration_the_incumbent_makes_the_strata(zoo, pytester):
    pytester.runpytest_inprocess(*RUN, zoo.seeds[0], "--incumbent", zoo.seeds[1])
    checks = {check["id"]: check for check in zoo_report(zoo)["checks"]}
    assert [
        checks[name]["n"] for name in ("rotate-ccw-010", "confident-errors", "calibration")
    ] == [150, 400, 400]
    assert "weighted for 400 images" in checks["rotate-ccw-010"]["detail"]

    candidate, incumbent = (
        Classifier(network(seed=seed, jitter=JITTER), workers=1) for seed in (0, 1)
    )
    sample = ConfidenceStrata(incumbent.predict).weighted_sample(
        zoo.images, 150, clean=lambda: None
    )
    correct = candidate.predict(sample, Pose(10.0)).correct
    assert checks["rotate-ccw-010"]["value"] == pytest.approx(sample.strata.mean(correct))
    confidence, strata = incumbent.predict(zoo.images).confidence, sample.strata
    assert strata.sizes.tolist() == [40] * 5 + [200]
    means = [confidence[sample.positions.numpy()[strata.of == each]].mean() for each in range(6)]
    assert means == sorted(means), "the least confident first"
    assert (np.diff(strata.counts / strata.sizes) < 0).any(), "the sample is not in proportion"


def zoo_report(zoo):
    return json.loads((zoo.root / "reports/stress.json").read_text())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{ n = 11, by = "panel" }', "rotation: n is 11, expected a number of at least 12"),
        (
            '{ n = 401, by = "panel" }',
            r"rotation is 401, expected a number of images from 1 to 400",
        ),
        ('{ n = 150, by = "class" }', "rotation: by is 'class', expected 'panel'"),
        ('{ by = "panel" }', "rotation: key 'n' is missing"),
        ('{ n = 150, by = "panel", size = 3 }', "unknown key 'size'; known are by, n, seed"),
    ],
)
def test_samples_that_cannot_be_are_refused(tmp_path, text, message):
    zoo = Zoo(tmp_path)
    zoo.bind(f"[data.samples]\nrotation = {text}\n{ROWS}")
    with pytest.raises(ChecksError, match=message):
        read_checks(zoo.checks)
