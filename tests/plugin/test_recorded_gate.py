"""Recorded predictions are judged like their model, bit for bit.

Only checks that they answer judge them.
"""

import csv

import numpy as np
import pytest
from recorded_answers import answer, manifest, order, scores_of
from zoo import CLASSES, ROWS, STRESS_TESTS, asked_to_record

from harness.data import load_images
from harness.data.exported import Export, names_of

TESTS = ("clean", "rotation", "confident_errors")
MODEL = "models/augmented.safetensors"
SKEWS = ("jpeg-75", "resize-torch-bilinear-plain", "divide-256", "crop-corner-1", "normalise-half")
MORE = {
    "calibration-error": ("confidence", "calibration_error", "pose = { degrees = 10 }"),
    "unchanged": ("search", "unchanged_share", "within = { degrees = 10, dx = 2, dy = 2 }"),
    "noise": ("corruption", "accuracy", 'corruption = "gaussian-noise"\nseverity = 2'),
    "robust": ("search", "robust_accuracy", 'grid = "augmentation-range"'),
    "random": ("search", "random_pose_accuracy", 'grid = "augmentation-range"'),
    "breaking": ("search", "breaking_severity", 'path = "rotation"\nshare_broken = 0.5'),
    **{
        f"skew-{name}": ("skew", "served_predictions_changed", f'skew = "{name}"') for name in SKEWS
    },
}
ALL = ROWS + "".join(
    f'\n[[check]]\nid = "{name}"\nfamily = "{family}"\nmetric = "{metric}"\n{keys}\n'
    for name, (family, metric, keys) in MORE.items()
)
FEW = ("--stress-samples", "20")


@pytest.fixture
def recorded(zoo):
    """Return a SPEC: the images of the zoo are exported, and a model answers them.

    All happens in this process.
    """

    def run(*options, by=MODEL, folder="inputs", to="answers.npz", **ordered):
        with asked_to_record(None, **order(zoo.root / folder, **ordered)):
            assert zoo.run("--stress-plan", *options).ret == 0
        return answer(zoo.root / folder, zoo.root / by, zoo.root / to)

    return run


def values(zoo):
    return {check["id"]: (check["value"], check["status"]) for check in zoo.report()["checks"]}


@pytest.mark.zoo(
    ALL,
    tests=(
        *TESTS,
        "calibration",
        "corruption",
        "drawn_pose",
        "worst_pose",
        "breaking_pose",
        "skew",
    ),
)
def test_every_check_that_applies_has_the_checkpoints_value(zoo, recorded):
    zoo.run("--candidate", recorded(*FEW), *FEW)
    found = values(zoo)
    (drawn,) = (check for check in zoo.report()["checks"] if check["id"] == "unchanged")
    assert "poses that Hypothesis draws" in drawn["detail"]
    assert found.pop("unchanged") == found.pop("skew-normalise-half") == (None, "not_applicable")
    zoo.run("--candidate", MODEL, *FEW, "-k", "not drawn")
    asked = values(zoo)
    assert asked.pop("skew-normalise-half")[0] is not None
    assert {name: found[name] for name in asked} == asked
    assert None not in {found["robust"][0], found["skew-jpeg-75"][0]}


def test_a_checks_file_may_round_the_pixels_of_all_models(zoo, recorded):
    zoo.bind(ROWS, sha256=f'{zoo.images.sha256}"\npixels = "uint8')
    zoo.run("--candidate", recorded())
    found = values(zoo)
    zoo.run("--candidate", MODEL)
    assert values(zoo) == found


def test_a_worse_model_fails_by_its_recorded_answers(zoo, recorded):
    zoo.save("blind.safetensors", blind=True)
    assert zoo.run("--candidate", recorded(by="blind.safetensors")).ret == 1
    assert zoo.report()["verdict"] == "fail"


def test_the_page_says_that_no_comparison_was_recorded(zoo, recorded):
    assert zoo.run("--candidate", recorded(), page=True).ret == 0
    page = (zoo.root / "reports/stress.html").read_text()
    assert "the recorded predictions have none for the images of this comparison" in page
    assert zoo.report()["overview"] is None
    found = {check["name"]: check["status"] for check in zoo.report()["self_checks"]}
    assert found["left-half-blanked"] == found["turned-020"] == found["swapped-logits"] == "pass"
    assert "fail" not in found.values()


def test_the_comparison_can_be_exported_too(zoo, recorded):
    assert zoo.run("--candidate", recorded(overview=True), overview=True).ret == 0
    assert [model["name"] for model in zoo.report()["overview"]["models"]] == ["candidate"]


def test_other_roles_may_be_recorded_too(zoo, recorded):
    (zoo.tests / "test_regression.py").write_bytes(
        (STRESS_TESTS / "test_regression.py").read_bytes()
    )
    zoo.bind(
        ROWS + '\n[[check]]\nid = "lost"\nfamily = "regression"\nmetric = "accuracy_change"\n'
        "hand = { threshold = -0.5 }\n"
    )
    zoo.save("other.safetensors", jitter=0.5)
    candidate, incumbent = (
        recorded(*FEW, to="a.npz"),
        recorded(*FEW, by="other.safetensors", to="b.npz"),
    )
    zoo.run("--candidate", candidate, "--incumbent", incumbent, *FEW)
    found = values(zoo)
    zoo.run("--candidate", MODEL, "--incumbent", "other.safetensors", *FEW)
    assert values(zoo) == found
    assert found["lost"][1] == "pass"


def test_families_that_were_not_exported_make_a_run_partial(zoo, recorded):
    assert zoo.run("--candidate", recorded(families=("clean",))).ret == 0
    report = zoo.report()
    assert report["verdict"] == "partial"
    others = ("clean-bee", "rotate-ccw-010", "confident-errors")
    assert zoo.statuses == {"clean": "pass", **dict.fromkeys(others, "not_applicable")}
    said = (
        "exported for clean images alone; not measured: single classes, confidence and "
        "calibration, rotated images"
    )
    assert said in " ".join(report["omissions"])


def test_samples_of_a_budget_make_a_run_partial(zoo, recorded):
    zoo.bind(ROWS.replace("hand = { threshold = 0.5 }\n", ""))
    zoo.run("--candidate", recorded("--stress-budget", "4s"))
    report = zoo.report()
    assert (report["verdict"], report["errors"]) == ("partial", [])
    sizes = {check["id"]: check["n"] for check in report["checks"]}
    assert sizes["rotate-ccw-010"] == manifest(zoo.root / "inputs")["samples"]["rotation"] < 400


def refused(zoo, spec, *options):
    result = zoo.run("--candidate", spec, *options)
    assert result.ret == 4
    (error,) = zoo.report()["errors"]
    assert zoo.report()["verdict"] == "error"
    return error


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "1"), marks=pytest.mark.processes)], ids=["serial", "n1"]
)
def test_a_file_that_lacks_images_is_inconclusive(zoo, recorded, workers):
    spec = recorded()
    with np.load(zoo.root / "answers.npz") as file:
        arrays = dict(file)
    np.savez(
        zoo.root / "answers.npz",
        **{**arrays, "image": arrays["image"][9:], "logits": arrays["logits"][9:]},
    )
    assert refused(zoo, spec, *workers).endswith(
        "lacks 9 of the 800 images of its export; predict all of them"
    )


def test_answers_for_other_checks_data_and_samples_are_inconclusive(zoo, recorded):
    spec = recorded()
    assert "is of an export with default, the run has thorough" in refused(
        zoo, spec, "--stress-profile", "thorough"
    )
    assert "is of an export with all images, the run has 100" in refused(
        zoo, spec, "--stress-samples", "100"
    )
    zoo.bind(ROWS.replace("0.85", "0.8"))
    assert zoo.run("--candidate", spec).ret == 0  # A threshold is no part of what is asked.
    zoo.bind(ROWS.replace("degrees = 10", "degrees = 15"))
    error = refused(zoo, spec)
    assert "is of an export for other checks: 1 of 4 checks of" in error
    assert "are not among them, such as rotate-ccw-010; export again" in error
    with np.load(zoo.root / "zoo.npz") as file:
        arrays = dict(file)
    arrays["images"][0] = 0
    np.savez(zoo.root / "zoo.npz", **arrays)
    zoo.bind(ROWS, sha256=load_images(zoo.data).sha256)
    assert "is of an export of data with SHA-256" in refused(zoo, spec)


def test_pixels_made_otherwise_are_inconclusive(zoo, recorded):
    """As on a machine whose arithmetic differs: names are those of other pixels."""
    recorded()
    path = zoo.root / "inputs/shard-00000.npz"
    with np.load(path) as file:
        arrays = dict(file)
    turned = arrays["perturbation"] == 1
    arrays["pixels"][turned] = np.nextafter(arrays["pixels"][turned], np.float32(1))
    arrays["image"] = names_of(arrays["pixels"])
    np.savez(path, **arrays)
    line = str(Export.read(manifest(zoo.root / "inputs")["export"]).holding(arrays["image"]))
    spec = answer(zoo.root / "inputs", zoo.root / MODEL, zoo.root / "answers.npz", export=line)
    assert zoo.run("--candidate", spec).ret == 4
    assert "has no prediction for" in zoo.report()["errors"][0]
    assert zoo.statuses["rotate-ccw-010"] == "error"


def test_clean_images_alone_are_judged_without_an_export(zoo):
    scores = scores_of(zoo.images.pixels.float().numpy() / 255, zoo.root / MODEL)
    with (zoo.root / "answers.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["image", "label"])
        table.writerows(enumerate(np.array(CLASSES)[scores.argmax(axis=1)]))
    error = refused(zoo, "predictions:answers.csv")
    assert "has predictions for clean images only, but 1 of 4 checks" in error
    assert "such as rotate-ccw-010; export again (`stress-harness export-inputs`)" in error
    zoo.bind(ROWS[: ROWS.index('[[check]]\nid = "rotate')])
    assert zoo.run("--candidate", "predictions:answers.csv").ret == 0
    assert zoo.report()["verdict"] == "pass"


def test_a_plan_of_recorded_answers_says_that_they_cost_nothing(zoo, recorded):
    result = zoo.run("--candidate", recorded(), "--stress-plan")
    assert result.ret == 4
    assert (
        "recorded predictions cost nothing, so plan and budget mean nothing" in result.stdout.str()
    )
