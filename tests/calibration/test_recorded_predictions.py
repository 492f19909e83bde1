"""Panel predictions.

Recorded, put together, and calibrated into thresholds on consensus-set errors.
"""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from panels import view_of
from zoo import ROWS, STRESS_TESTS, Zoo, asked_to_record, network

from harness.base.errors import InputError
from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.cli import main
from harness.inference import Classifier
from harness.measures.panel.collection import ReferencePredictions, combine, merge
from harness.measures.panel.predictions import NOT_ASKED, PanelPredictions, read_panel_predictions
from harness.perturb import IDENTITY, HorizontalFlip

CONSENSUS = """
[[check]]
id = "consensus-clean"
family = "consensus"
metric = "consensus_set_errors"

[[check]]
id = "consensus-pooled"
family = "consensus"
metric = "consensus_set_errors"
under = ["rest", "mirrored"]

[[check]]
id = "consensus-mirrored"
family = "consensus"
metric = "consensus_set_errors"
under = ["mirrored"]
"""

FLIPS = """
[[check]]
id = "flips"
family = "flips"
metric = "negative_flips"

[[check]]
id = "flips-consensus"
family = "flips"
metric = "negative_flips"
among = "consensus"

[[check]]
id = "elsewhere"
family = "elsewhere"
metric = "negative_flips"
panel = { threshold = 20.0, reference_models = 20, date = "2020-01-01" }
"""


DATA = ("--", "--stress-set", "data=npz:zoo.npz")
RUN = ("-p", "no:html", "--stress-set=no_overview=true", *DATA[1:], "stress_tests", "--candidate")


def answer(wrong, *, name="at rest", positions=(0, 2)):
    """A member's answer, who finds the first image bee by 80%, and the last by 40%.

    All are ants.
    """
    ant = np.linspace(0.2, 0.6, len(wrong))
    likeliest = np.where(ant[:, None] < 0.5, [1, 0], [0, 1])
    shares = np.take_along_axis(np.stack([ant, 1 - ant], axis=1), likeliest, axis=1)
    return ReferencePredictions(
        name, np.array(positions), np.array(wrong), ant, likeliest, shares, ("ant", "bee")
    )


def test_wrong_answers_are_counted_and_probabilities_averaged():
    known = combine("abc", 4, ["x", "y"], [[answer([True, False])], [answer([True, True])]])
    assert known.models == ("x", "y")
    assert known.views["at rest"].wrong.tolist() == [2, NOT_ASKED, 1, NOT_ASKED]
    np.testing.assert_allclose(known.views["at rest"].of_label, [0.2, np.nan, 0.6, np.nan])
    assert known.views["at rest"].likeliest.tolist() == [[1, 0], [-1, -1], [0, 1], [-1, -1]]
    np.testing.assert_allclose(known.views["at rest"].shares[[0, 2]], [[0.8, 0.2], [0.6, 0.4]])
    assert np.isnan(known.views["at rest"].shares[[1, 3]]).all()
    parts = [answer([True, False]), answer([True], positions=(1,))]
    known = combine("abc", 4, ["x"], [parts])
    assert known.views["at rest"].wrong.tolist() == [1, 1, 0, NOT_ASKED]
    said = [([7, 5], [0.91, 0.09]), ([5, 9], [0.5, 0.4]), ([9, 5], [0.5, 0.4])]
    at, wrong, classes = np.array([0]), np.array([True]), tuple("abcdefghij")
    probable = [
        (np.array([0.0]), np.array([likeliest]), np.array([shares])) for likeliest, shares in said
    ]
    parts = [[ReferencePredictions("at rest", at, wrong, *each, classes)] for each in probable]
    view = combine("abc", 1, ["x", "y", "z"], parts).views["at rest"]
    assert view.likeliest.tolist() == [[5, 7, 9]]
    np.testing.assert_allclose(view.shares, [[0.33, 0.91 / 3, 0.3]])
    for other in (
        [answer([True], positions=(3,))],
        [answer([True], name="mirrored")],
        [],
        [answer([True])] * 2,
    ):
        with pytest.raises(
            InputError, match=r"reference model y… .* other images or perturbations than x"
        ):
            combine("abc", 4, ["x", "y"], [[answer([True], positions=(0,))], other])
    assert combine("abc", 4, ["x"], [[]]) is None


@pytest.mark.parametrize("first", ["whole", "sample"])
def test_the_errors_of_each_model_are_kept_whatever_is_asked(first):
    """As where one family is measured on a sample, and another on all images."""
    whole, sample = ((True, False, True), (0, 1, 2)), ((True, True), (0, 2))
    both = [whole, sample] if first == "whole" else [sample, whole]
    asked = [answer(wrong, name=repr(IDENTITY), positions=positions) for wrong, positions in both]
    known = combine("abc", 3, ["x"], [asked])
    assert known.view().each.tolist() == [[True, False, True]]
    assert known.view().wrong.tolist() == [1, 0, 1]


def test_predictions_of_other_views_and_images_stay_for_the_same_panel():
    def known(name, models=("x",)):
        view = view_of([0, 0], np.ones((2, 1)), [0, 0])
        return PanelPredictions("abc", ("ant",), models, {name: view})

    assert set(merge(known("new"), known("old")).views) == {"new", "old"}
    assert set(merge(known("new"), known("old", models=("y",))).views) == {"new"}
    assert set(merge(known("new"), None).views) == {"new"}

    def known(positions):
        asked = answer([True] * len(positions), name=repr(IDENTITY), positions=positions)
        return combine("abc", 3, ["x"], [[asked]])

    whole, sample = known((0, 1, 2)), known((0, 2))
    assert merge(sample, whole).as_bytes() == whole.as_bytes()
    assert merge(whole, sample).as_bytes() == whole.as_bytes()
    both = merge(sample, known((1,))).view()
    assert (both.wrong.tolist(), both.each.tolist()) == ([1, 1, 1], [[True] * 3])
    (old,) = whole.views.values()
    without = replace(whole, views={repr(IDENTITY): replace(old, each=None)})
    assert merge(sample, without).view().each is None, "as of an older file, which did not keep it"


def test_the_order_of_models_and_names_of_classes_change_no_data():
    wrong = {"x": [True, False], "y": [False, False]}

    def known(members, *, classes=("ant", "bee"), more=()):
        asked = [
            [
                replace(answer(wrong[each], name=name, positions=(0, 1)), classes=classes)
                for name in (repr(IDENTITY), *more)
            ]
            for each in members
        ]
        return combine("abc", 2, members, asked)

    old = known("xy", more=("another",))
    for new in (known("yx"), known("xy", classes=("Ant", "Bee"))):
        both = merge(new, old)
        assert set(both.views) == {repr(IDENTITY), "another"}
        assert both.view().each.tolist() == [wrong[each] for each in new.models]


OWN = """
import pytest
from harness.features.consensus.measures import consensus_set_errors, find_consensus_set_errors
from harness.plugin import check

@pytest.fixture
def known(panel_predictions):
    return panel_predictions

def judge(candidate, images, evidence, stress_check, panel_predictions):
    lost = find_consensus_set_errors([candidate.predict(images)], panel_predictions)
    verdict = stress_check.judge(consensus_set_errors(lost))
    evidence.show(verdict, lost)
    assert verdict.passed, verdict.explain()

@check("own")
def test_own(candidate, images, known, evidence, stress_check):
    judge(candidate, images, evidence, stress_check, known)

@check("keyword")
def test_keyword(candidate, images, evidence, stress_check, *, panel_predictions):
    judge(candidate, images, evidence, stress_check, panel_predictions)
"""
"""Stress tests that ask for panel predictions in ways of their own."""


@pytest.fixture
def zoo(pytester, runs):
    zoo = Zoo(pytester.path, tests=("clean", "consensus"))
    checks = "".join(f"[[check]]{check}" for check in ROWS.split("[[check]]")[1:2])
    zoo.bind(CONSENSUS + checks)
    zoo.runs, zoo.panel = runs, zoo.root / "models/panel.json"
    zoo.seeds = [
        zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=0.06).name for seed in (1, 2, 3)
    ]
    return zoo


def expect_mean_of(classifiers, images, known):
    mean = np.mean([each.predict(images).probabilities for each in classifiers], axis=0)
    np.testing.assert_allclose(
        known.view().of_label, mean[np.arange(len(mean)), images.labels], atol=1e-4
    )
    np.testing.assert_allclose(known.view().shares, -np.sort(-mean, axis=1)[:, :3], atol=1e-4)


def test_calibration_records_panel_predictions_and_consensus_thresholds(zoo, pytester, capsys):
    assert main(["calibrate", "--checkpoints", *zoo.seeds, *DATA]) == 0
    checks, panel = read_checks(zoo.checks), read_panel(zoo.panel)
    assert checks.panel_predictions == zoo.checks.parent / "../models/panel.predictions.npz"
    known = read_panel_predictions(checks.panel_predictions)
    assert checks.recipe["panel_predictions_sha256"] == known.sha256

    # Each member against the other two, as said by the networks themselves.
    classifiers = [Classifier(network(seed=seed, jitter=0.06), workers=1) for seed in (1, 2, 3)]
    alone = []
    for perturbation in (IDENTITY, HorizontalFlip()):
        wrong = np.stack([~each.predict(zoo.images, perturbation).correct for each in classifiers])
        assert known.view(perturbation).wrong.tolist() == wrong.sum(axis=0).tolist()
        alone.append((wrong & (wrong.sum(axis=0) == 1)).sum(axis=1))
    assert sum(alone).sum() > 0, "or nothing is tested here"
    values = [
        [member.values[name] for member in panel.models]
        for name in ("consensus-clean", "consensus-pooled")
    ]
    expected = [alone[0] * 2 / 3, (alone[0] + alone[1]) * 2 / 3]
    assert values == [pytest.approx(each) for each in expected], "on a set of all three"
    assert {
        check.scale for check in panel.family("consensus") if check.metric.endswith("errors")
    } == {"root"}
    expect_mean_of(classifiers, zoo.images, known)

    # A member passes, a network that reads nothing loses most of it, and another file is refused.
    assert pytester.runpytest_inprocess(*RUN, "seed-3.safetensors").ret == 0
    zoo.save("blind.safetensors", blind=True)
    assert pytester.runpytest_inprocess(*RUN, "blind.safetensors").ret == 1
    (check,) = [each for each in report(zoo) if each["id"] == "consensus-clean"]
    assert check["status"] == "fail"
    assert check["value"] == int(
        ((known.view().wrong == 0) & (zoo.images.labels.numpy() != 0)).sum()
    )
    assert "that each of 3 reference models predicts correctly" in check["detail"]
    shutil.copy(checks.panel_predictions, zoo.root / "kept.npz")
    checks.panel_predictions.write_bytes(replace(known, classes=known.classes[::-1]).as_bytes())
    result = pytester.runpytest_inprocess(*RUN, "seed-3.safetensors")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*panel.predictions.npz: its SHA-256 is *the thresholds of *bring back that file*"]
    )

    with asked_to_record(None, panel_predictions=checks.panel_predictions):
        result = pytester.runpytest_inprocess(*RUN, "seed-3.safetensors")
    assert result.ret == 4, "a file that is named is no other way round"

    # Of a family that asks nothing one model is asked, once, and what was known stays.
    shutil.copy(zoo.root / "kept.npz", checks.panel_predictions)
    zoo.runs.clear()
    assert main(["calibrate", "--family", "clean", *DATA]) == 0
    assert main(["calibrate", "--family", "clean", *DATA]) == 0
    assert sum("answers" in run for run in zoo.runs) == 1
    assert read_checks(zoo.checks).recipe["panel_predictions_sha256"] == known.sha256

    # Where some ask anew it must be what the others were measured with.
    checks.panel_predictions.write_bytes(replace(known, classes=known.classes[::-1]).as_bytes())
    before = zoo.checks.read_bytes()
    capsys.readouterr()
    assert main(["calibrate", "--check", "consensus-clean", *DATA]) == 2
    assert "bring back that file" in capsys.readouterr().err
    checks.panel_predictions.write_text("garbage")
    for which in (("--check", "consensus-clean"), ("--checkpoints", *zoo.seeds)):
        assert main(["calibrate", *which, *DATA]) == 2
    assert "not the predictions of a reference panel" in capsys.readouterr().err
    assert zoo.checks.read_bytes() == before

    # Where all do, nobody needs it.
    checks.panel_predictions.unlink()
    assert main(["calibrate", "--checkpoints", *zoo.seeds, *DATA]) == 0
    assert checks.panel_predictions.read_bytes() == (zoo.root / "kept.npz").read_bytes()


def test_a_calibration_of_some_needs_the_panel_of_the_others(zoo, capsys):
    assert main(["calibrate", "--checkpoints", *zoo.seeds, *DATA]) == 0
    before, file = zoo.checks.read_bytes(), zoo.root / "models/panel.predictions.npz"
    file.unlink()
    assert main(["calibrate", "--check", "consensus-clean", *DATA]) == 2
    assert "panel.predictions.npz: is missing, but thresholds of" in capsys.readouterr().err
    assert (zoo.checks.read_bytes(), file.exists()) == (before, False)


@pytest.mark.parametrize("lacks", ["a perturbation", "images"])
def test_a_threshold_on_what_nobody_recorded_makes_the_verdict_partial(zoo, pytester, lacks):
    """As of a file for fewer checks, or for a sample, from any source."""
    assert main(["calibrate", "--checkpoints", *zoo.seeds, *DATA]) == 0
    file = zoo.root / "models/panel.predictions.npz"
    known = read_panel_predictions(file)
    if lacks == "images":
        wrong = {
            name: np.where(np.arange(400) < 100, view.wrong, NOT_ASKED)
            for name, view in known.views.items()
        }
        views = {
            name: replace(view, wrong=wrong[name].astype(np.int16), each=None)
            for name, view in known.views.items()
        }
    else:
        views = {repr(IDENTITY): known.view()}
    file.write_bytes(replace(known, views=views).as_bytes())
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    zoo.checks.write_text(zoo.checks.read_text().replace(known.sha256, sha256))
    pytester.runpytest_inprocess(*RUN, "seed-3.safetensors")
    stress = json.loads((zoo.root / "reports/stress.json").read_text())
    assert stress["verdict"] == "partial"
    omitted = " ".join(stress["omissions"])
    assert "need panel predictions, which do not exist for these images: consensus-" in omitted
    assert [name in omitted for name in ("consensus-clean", "consensus-mirrored")] == [
        lacks == "images",
        True,
    ]


def test_tests_that_ask_in_a_way_of_their_own_are_calibrated(zoo):
    (zoo.tests / "test_consensus.py").unlink()
    (zoo.tests / "test_own.py").write_text(OWN)
    assert main(["calibrate", "--checkpoints", *zoo.seeds[:3], *DATA]) == 0
    assert all(
        read_checks(zoo.checks).family(name)[0].panel is not None for name in ("own", "keyword")
    )
    assert sum("answers" in run for run in zoo.runs) == 3
    zoo.runs.clear()
    assert main(["calibrate", "--family", "own", *DATA]) == 0
    assert all("record=own" in " ".join(run) for run in zoo.runs)


def test_consensus_and_flips_have_thresholds_on_samples_of_their_own(zoo, pytester, capsys):
    samples, n = "consensus = 100\nflips = 150", (100, 150)
    text = zoo.checks.read_text()
    assert "[data.samples]" not in text
    zoo.checks.write_text(
        text.replace("[[check]]", f"[data.samples]\n{samples}\n\n[[check]]", 1) + FLIPS
    )
    shutil.copy(STRESS_TESTS / "test_flips.py", zoo.checks.parent)
    assert main(["calibrate", "--checkpoints", *zoo.seeds, *DATA]) == 0
    checks = {check.id: check for check in read_panel(zoo.panel).checks}
    assert tuple(checks[name].n for name in ("consensus-clean", "flips", "flips-consensus")) == (
        *n,
        n[1],
    )
    assert "no threshold any more: elsewhere" in capsys.readouterr().out
    (nobody,) = [check for check in read_checks(zoo.checks).checks if check.id == "elsewhere"]
    assert nobody.panel is None, "one of other networks is not left there"
    pytester.runpytest_inprocess(*RUN, "seed-3.safetensors", "--incumbent", "seed-2.safetensors")
    judged = {each["id"]: each["value"] for each in report(zoo)}
    assert None not in {judged[name] for name in ("consensus-clean", "flips", "flips-consensus")}


def test_a_sample_has_a_panel_of_its_own(zoo, capsys):
    quick = zoo.checks.with_name("checks-quick.toml")
    quick.write_text(zoo.checks.read_text().replace("[data]", "[data]\nsample = 100", 1))
    assert main(["calibrate", "--checkpoints", *zoo.seeds, *DATA]) == 0
    before = zoo.panel.read_bytes()
    assert main(["calibrate", "--checks", str(quick), "--checkpoints", *zoo.seeds, *DATA]) == 2
    assert "name its own --panel" in capsys.readouterr().err
    assert zoo.panel.read_bytes() == before

    # Thresholds of a file beside it, which other models gave, are named and stay.
    quick.write_text(text := zoo.checks.read_text())
    assert main(["calibrate", "--checkpoints", *zoo.seeds[1:], *DATA]) == 0
    stale = "checks-quick.toml: its thresholds were made with other panel predictions; calibrate it"
    assert stale in capsys.readouterr().out
    assert quick.read_text() == text


def report(zoo) -> list[dict]:
    return json.loads((zoo.root / "reports/stress.json").read_text())["checks"]
