"""Recorded scores are judged by their mean.

Checks of classes or confidence do not apply to them.
"""

import re

import numpy as np
import pytest
from recorded_answers import answer, order, score
from scipy.special import softmax
from zoo import ROWS, asked_to_record

TESTS = ("clean", "rotation", "confident_errors")
MODEL = "models/augmented.safetensors"
FEW = ("--stress-samples", "20")
CLASSES_ONLY = {
    "calibration-error": ("confidence", "calibration_error", ""),
    "robust": ("search", "robust_accuracy", 'grid = "augmentation-range"'),
    "random": ("search", "random_pose_accuracy", 'grid = "augmentation-range"'),
    "breaking": ("search", "breaking_severity", 'path = "rotation"\nshare_broken = 0.5'),
}
NOISE = """
[[check]]
id = "noise"
family = "corruption"
metric = "accuracy"
corruption = "gaussian-noise"
severity = 2
"""
CHANGE = """
[[check]]
id = "lost"
family = "regression"
metric = "accuracy_change"
significance = 0.001
hand = { threshold = -0.01 }
"""


def rows_of(checks):
    """Return rows by id, family, metric and further keys."""
    return "".join(
        f'\n[[check]]\nid = "{name}"\nfamily = "{family}"\nmetric = "{metric}"\n{keys}\n'
        for name, (family, metric, keys) in checks.items()
    )


def right(logits, labels):
    """Return 1 for each correct prediction and 0 for each wrong one."""
    return (logits.argmax(axis=1) == labels).astype(np.float64)


def of_label(logits, labels):
    """Return the probability of each label, a score between 0 and 1."""
    return softmax(logits, axis=1)[np.arange(len(labels)), labels]


@pytest.fixture
def scored(zoo):
    """Return a SPEC: the images of the zoo are exported, and a model's outputs scored.

    All happens in this process.
    """

    def run(*options, by=MODEL, measure=of_label, to="scores.npz", folder="inputs", **changed):
        if not (zoo.root / folder).exists():
            with asked_to_record(None, **order(zoo.root / folder)):
                assert zoo.run("--stress-plan", *options).ret == 0
        place, labels = zoo.root / folder, zoo.images.labels.numpy()
        return score(place, zoo.root / by, zoo.root / to, labels=labels, measure=measure, **changed)

    return run


def checks_of(zoo):
    return {check["id"]: check for check in zoo.report()["checks"]}


@pytest.mark.zoo(
    ROWS + NOISE + rows_of(CLASSES_ONLY),
    tests=(
        *TESTS,
        "calibration",
        "corruption",
        "worst_pose",
        "breaking_pose",
    ),
)
def test_scores_of_zero_and_one_are_judged_as_labels(zoo, scored):
    by_scores = scored(*FEW, measure=right)
    assert zoo.run("--candidate", by_scores, *FEW).ret == 0
    of_scores, summary = checks_of(zoo), (zoo.root / "reports/stress.md").read_text()
    by_labels = answer(zoo.root / "inputs", zoo.root / MODEL, zoo.root / "answers.npz")
    zoo.run("--candidate", by_labels, *FEW)
    of_labels = checks_of(zoo)

    for name in ("clean", "clean-bee", "rotate-ccw-010", "noise"):
        assert of_scores[name]["status"] == of_labels[name]["status"] != "not_applicable", name
        assert of_scores[name]["value"] == of_labels[name]["value"], name
        assert of_scores[name]["interval"] == pytest.approx(
            of_labels[name]["interval"], rel=1e-4
        ), name
    for name in ("confident-errors", *CLASSES_ONLY):
        assert of_scores[name]["status"] == "not_applicable", name
        assert "a score for each image and no class" in of_scores[name]["detail"], name
    lines = [line for line in summary.splitlines() if "a score for each image" in line]
    assert len(lines) == 1, "The reason stands once."
    assert "checks not applicable (confidence and calibration, " in lines[0]


def test_the_mean_score_is_judged_and_a_worse_model_fails(zoo, scored):
    zoo.bind(re.sub("threshold = 0.[0-9]+", "threshold = 0.5", ROWS))
    assert zoo.run("--candidate", scored(), page=True, overview=True).ret == 0
    clean = checks_of(zoo)["clean"]
    low, high = clean["interval"]
    assert 0.5 < low < clean["value"] < high < 1
    assert "mean score; the lowest is" in clean["detail"]
    assert "a score for each image and no class" in (zoo.root / "reports/stress.html").read_text()
    assert "fail" not in {check["status"] for check in zoo.report()["self_checks"]}

    zoo.save("blind.safetensors", blind=True)
    assert zoo.run("--candidate", scored(by="blind.safetensors"), page=True).ret == 1
    assert zoo.report()["verdict"] == "fail"
    assert zoo.statuses["clean"] == "fail"


@pytest.mark.zoo(ROWS + CHANGE, tests=(*TESTS, "regression"))
def test_an_incumbent_of_scores_is_compared_image_by_image(zoo, scored):
    zoo.save("other.safetensors", jitter=0.5)
    candidate = scored(*FEW, to="a.npz")
    incumbent = scored(*FEW, to="b.npz", measure=lambda *of: np.minimum(1, 0.05 + of_label(*of)))
    zoo.run("--candidate", candidate, "--incumbent", incumbent, *FEW)
    lost = checks_of(zoo)["lost"]
    assert lost["status"] == "fail"
    assert lost["value"] < -0.01
    assert lost["p_value"] < 0.001
    assert "paired t test p" in lost["detail"]

    zoo.run("--candidate", incumbent, "--incumbent", candidate, *FEW)
    assert checks_of(zoo)["lost"]["status"] == "pass"

    labels = answer(zoo.root / "inputs", zoo.root / MODEL, zoo.root / "answers.npz")
    zoo.run("--candidate", candidate, "--incumbent", labels, *FEW)
    lost = checks_of(zoo)["lost"]
    assert lost["status"] == "not_applicable"
    assert "gives classes and no score" in lost["detail"]


def _of_export(names, scores):
    return {"image": names, "scores": scores}


WRONG = {
    "missing images": (
        lambda names, scores: _of_export(names[9:], scores[9:]),
        "lacks 9 of the 800 images of its export; predict all of them",
    ),
    "a row twice": (
        lambda names, scores: _of_export(np.r_[names, names[:1]], np.r_[scores, scores[:1]]),
        "has 801 rows of 800 images",
    ),
    "NaN": (
        lambda names, scores: _of_export(names, np.r_[np.nan, scores[1:]]),
        "1 of 800 scores are NaN",
    ),
    "percentages": (
        lambda names, scores: _of_export(names, 100 * scores),
        "scores are outside of 0 to 1",
    ),
    "a score below 0": (
        lambda names, scores: _of_export(names, np.r_[-0.5, scores[1:]]),
        "1 of 800 scores are outside of 0 to 1: -0.5",
    ),
    "a column too many": (
        lambda names, scores: _of_export(names, np.stack([scores, scores], axis=1)),
        "expected 800 numbers from 0 to 1, one for each image",
    ),
    "images without names": (
        lambda names, scores: {"image": None, "scores": scores},
        "has an export but no names of images",
    ),
    "other images": (
        lambda names, scores: _of_export(np.array([b"0" * 64, *names[1:]]), scores),
        "expected one row for each of the 800 images of its export",
    ),
    "fewer scores than images": (
        lambda names, scores: _of_export(names, scores[1:]),
        "has 800 images and 799 scores",
    ),
    "no scores": (
        lambda names, scores: {"image": names, "scores": None},
        "has the arrays export, image; expected scores",
    ),
}


def test_wrong_files_are_inconclusive(zoo, scored):
    spec = scored()
    with np.load(zoo.root / "scores.npz") as file:
        arrays = dict(file)
    for name, (change, message) in WRONG.items():
        content = {**arrays, **change(arrays["image"], arrays["scores"])}
        content = {key: value for key, value in content.items() if value is not None}
        np.savez(zoo.root / "scores.npz", **content)
        assert zoo.run("--candidate", spec).ret == 4, name
        (error,) = zoo.report()["errors"]
        assert "[ANSWERS]" in error, (name, error)
        assert message in error, (name, error)


def test_scores_of_other_checks_are_inconclusive(zoo, scored):
    spec = scored()
    zoo.bind(ROWS.replace("degrees = 10", "degrees = 15"))
    assert zoo.run("--candidate", spec).ret == 4
    assert "is of an export for other checks" in zoo.report()["errors"][0]


def test_a_table_of_scores_of_clean_images_needs_no_export(zoo):
    zoo.bind(re.sub(r"(?s)\[\[check\]\]\nid = \"rotate.*", "", ROWS))
    lines = ["image,score", *(f"{at},{0.9}" for at in range(len(zoo.images)))]
    (zoo.root / "scores.csv").write_text("\n".join(lines))
    assert zoo.run("--candidate", "scores:scores.csv").ret == 0
    assert checks_of(zoo)["clean"]["value"] == pytest.approx(0.9)

    for last, message in (("", "empty cells"), ("good", "other values than numbers")):
        (zoo.root / "scores.csv").write_text("\n".join([*lines[:-1], f"399,{last}"]))
        assert zoo.run("--candidate", "scores:scores.csv").ret == 4
        assert message in zoo.report()["errors"][0]
    (zoo.root / "scores.csv").write_text("\n".join(["image,dice", *lines[1:]]))
    assert zoo.run("--candidate", "scores:scores.csv").ret == 4
    assert "has the columns image, dice; expected image and score" in zoo.report()["errors"][0]
