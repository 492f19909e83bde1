"""Recorded predictions are judged as the model that gave them, bit for bit, and only by the checks that they answer."""

import csv
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from recorded_answers import answer, manifest, scores_of
from zoo import CLASSES, ROWS, STRESS_TESTS, asked_to_record

from harness.data import load_images
from harness.data.exported import Export, names_of
from harness.run.export.request import ExportOrder

TESTS = ("clean", "rotation", "confident_errors")
MORE = (*TESTS, "calibration", "corruption", "drawn_pose")
SINGLE = (
    ROWS
    + """
[[check]]
id = "calibration-error"
family = "confidence"
metric = "calibration_error"
pose = { degrees = 10 }

[[check]]
id = "unchanged"
family = "search"
metric = "unchanged_share"
within = { degrees = 10, dx = 2, dy = 2 }

[[check]]
id = "noise"
family = "corruption"
metric = "accuracy"
corruption = "gaussian-noise"
severity = 2
"""
)
GRIDS = """
[[check]]
id = "robust"
family = "search"
metric = "robust_accuracy"
grid = "augmentation-range"

[[check]]
id = "random"
family = "search"
metric = "random_pose_accuracy"
grid = "augmentation-range"

[[check]]
id = "breaking"
family = "search"
metric = "breaking_severity"
path = "rotation"
share_broken = 0.5
"""


@pytest.fixture
def export(zoo):
    """Return what exports the images of the zoo in this process, into a folder."""

    def run(folder="inputs", options=(), **order):
        with asked_to_record(None, export=ExportOrder(str(zoo.root / folder), **order)):
            assert zoo.run("--stress-plan", *options).ret == 0
        return zoo.root / folder

    return run


def answer_png(folder, checkpoint, path):
    """Write a checkpoint's probabilities for an export as PNG into a CSV file."""
    names, pictures = [], []
    for shard in sorted(folder.glob("shard-*.zip")):
        with zipfile.ZipFile(shard) as archive:
            for name in archive.namelist():
                if name.endswith(".png"):
                    names.append(name.removesuffix(".png"))
                    pictures.append(np.array(Image.open(io.BytesIO(archive.read(name)))))
    scores = scores_of(np.stack(pictures)[:, None].astype(np.float32) / 255, checkpoint)
    shares = torch.from_numpy(scores).softmax(dim=1).tolist()
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *CLASSES, "export"])
        line = manifest(folder)["export"]
        table.writerows([name, *row, line] for name, row in zip(names, shares, strict=True))
    return f"predictions:{path}"


def values(zoo):
    return {check["id"]: (check["value"], check["status"]) for check in zoo.report()["checks"]}


@pytest.mark.zoo(SINGLE + GRIDS, tests=(*MORE, "worst_pose", "breaking_pose"))
def test_every_check_that_applies_has_the_checkpoints_value(zoo, export):
    spec = answer(export(), zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    assert zoo.run("--candidate", spec).ret == 0
    recorded = values(zoo)
    (drawn,) = (check for check in zoo.report()["checks"] if check["id"] == "unchanged")
    assert "poses that Hypothesis draws" in drawn["detail"]
    assert zoo.run("--candidate", "models/augmented.safetensors").ret == 0
    asked = values(zoo)
    assert recorded.pop("unchanged") == (None, "not_applicable")
    assert asked.pop("unchanged")[1] == "informational"
    assert recorded == asked
    assert recorded["robust"][0] is not None


SKEWED = "".join(
    f"""
[[check]]
id = "skew-{name}"
family = "skew"
metric = "served_predictions_changed"
skew = "{name}"
"""
    for name in ("jpeg-75", "resize-torch-bilinear-plain", "divide-256", "crop-corner-1", "normalise-half")
)


@pytest.mark.zoo(SINGLE + SKEWED, tests=(*MORE, "skew"))
def test_images_served_by_other_pipelines_are_exported_too(zoo, export):
    spec = answer(export(), zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    assert zoo.run("--candidate", spec).ret == 0
    recorded = {name: value for name, value in values(zoo).items() if name.startswith("skew")}
    assert zoo.run("--candidate", "models/augmented.safetensors").ret == 0
    asked = {name: value for name, value in values(zoo).items() if name.startswith("skew")}
    assert recorded.pop("skew-normalise-half") == (None, "not_applicable")
    assert asked.pop("skew-normalise-half")[0] is not None
    assert recorded == asked
    assert recorded["skew-jpeg-75"][0] is not None


@pytest.mark.zoo(SINGLE, tests=MORE)
def test_rounded_pixels_cost_no_more_than_the_rounding(zoo, export):
    spec = answer_png(export(format="png"), zoo.root / "models/augmented.safetensors", zoo.root / "answers.csv")
    assert zoo.run("--candidate", spec).ret == 0
    recorded = values(zoo)
    assert zoo.run("--candidate", "models/augmented.safetensors").ret == 0
    for name, (value, status) in values(zoo).items():
        if name != "unchanged":
            assert recorded[name][0] == pytest.approx(value, abs=0.02)
            assert recorded[name][1] == status


@pytest.mark.zoo(SINGLE, tests=MORE)
def test_a_checks_file_may_round_the_pixels_of_all_models(zoo, export):
    """Then answers to PNG, to float32 pixels, and of the checkpoint itself have the same values."""
    zoo.bind(SINGLE, sha256=f'{zoo.images.sha256}"\npixels = "uint8')
    checkpoint, found = zoo.root / "models/augmented.safetensors", []
    png = answer_png(export("png", format="png"), checkpoint, zoo.root / "answers.csv")
    for spec in (checkpoint, png, answer(export(), checkpoint, zoo.root / "answers.npz")):
        assert zoo.run("--candidate", str(spec)).ret == 0
        found.append({name: value for name, (value, _) in values(zoo).items() if name != "unchanged"})
    assert found[0] == found[2]
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_a_worse_model_fails_by_its_recorded_answers(zoo, export):
    blind = zoo.save("blind.safetensors", blind=True)
    result = zoo.run("--candidate", answer(export(), blind, zoo.root / "answers.npz"))
    assert result.ret == 1
    assert zoo.report()["verdict"] == "fail"


def test_the_page_says_that_no_comparison_was_recorded(zoo, export):
    spec = answer(export(), zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    assert zoo.run("--candidate", spec, page=True).ret == 0
    page = (zoo.root / "reports/stress.html").read_text()
    assert "the recorded predictions have none for the images of this comparison" in page
    assert zoo.report()["overview"] is None


def test_the_comparison_can_be_exported_too(zoo, export):
    folder = export(overview=True)
    spec = answer(folder, zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    assert zoo.run("--candidate", spec, page=True).ret == 0
    assert [model["name"] for model in zoo.report()["overview"]["models"]] == ["candidate"]


def test_self_checks_run_on_recorded_answers(zoo, export):
    zoo.run("--candidate", answer(export(), zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz"))
    found = {check["name"]: check["status"] for check in zoo.report()["self_checks"]}
    assert found["left-half-blanked"] == found["turned-020"] == found["swapped-logits"] == "pass"
    assert "fail" not in found.values()


def test_other_roles_may_be_recorded_too(zoo, export):
    (zoo.tests / "test_regression.py").write_bytes((STRESS_TESTS / "test_regression.py").read_bytes())
    zoo.bind(
        ROWS
        + '\n[[check]]\nid = "lost"\nfamily = "regression"\nmetric = "accuracy_change"\nhand = { threshold = -0.5 }\n'
    )
    folder = export()
    other = zoo.save("other.safetensors", jitter=0.5)
    candidate = answer(folder, zoo.root / "models/augmented.safetensors", zoo.root / "a.npz")
    incumbent = answer(folder, other, zoo.root / "b.npz")
    assert zoo.run("--candidate", candidate, "--incumbent", incumbent).ret == 0
    recorded = values(zoo)
    assert zoo.run("--candidate", "models/augmented.safetensors", "--incumbent", "other.safetensors").ret == 0
    assert values(zoo) == recorded
    assert recorded["lost"][1] == "pass"


@pytest.mark.parametrize(
    "workers",
    [pytest.param((), id="serial"), pytest.param(("-n", "2"), id="workers", marks=pytest.mark.processes)],
)
def test_families_that_were_not_exported_make_a_run_partial(zoo, export, workers):
    spec = answer(export(families=("clean",)), zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    assert zoo.run("--candidate", spec, *workers).ret == 0
    report = zoo.report()
    assert report["verdict"] == "partial"
    assert zoo.statuses == {
        "clean": "pass",
        "clean-bee": "not_applicable",
        "rotate-ccw-010": "not_applicable",
        "confident-errors": "not_applicable",
    }
    assert "exported for clean alone; not measured: class, confidence, rotation" in " ".join(report["omissions"])


def test_samples_of_a_budget_make_a_run_partial(zoo, export):
    folder = export(options=("--stress-budget", "4s"))
    spec = answer(folder, zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    zoo.run("--candidate", spec)
    report = zoo.report()
    assert (report["verdict"], report["errors"]) == ("partial", [])
    sizes = {check["id"]: check["n"] for check in report["checks"]}
    assert sizes["rotate-ccw-010"] == manifest(folder)["samples"]["rotation"] < 400


def refused(zoo, spec, *options):
    result = zoo.run("--candidate", spec, *options)
    assert result.ret == 4
    (error,) = zoo.report()["errors"]
    assert zoo.report()["verdict"] == "error"
    return error


@pytest.mark.parametrize(
    "workers",
    [pytest.param((), id="serial"), pytest.param(("-n", "2"), id="workers", marks=pytest.mark.processes)],
)
def test_a_file_that_lacks_images_is_inconclusive(zoo, export, workers):
    folder = export()
    spec = answer(folder, zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    with np.load(zoo.root / "answers.npz") as file:
        arrays = dict(file)
    np.savez(zoo.root / "answers.npz", **{**arrays, "image": arrays["image"][9:], "logits": arrays["logits"][9:]})
    error = refused(zoo, spec, *workers)
    assert error.endswith("lacks 9 of the 800 images of its export; predict all of them")


def test_answers_for_other_checks_are_inconclusive(zoo, export):
    spec = answer(export(), zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    zoo.bind(ROWS.replace("0.85", "0.8"))
    assert zoo.run("--candidate", spec).ret == 0  # A threshold is no part of what is asked.
    zoo.bind(ROWS.replace("degrees = 10", "degrees = 15"))
    error = refused(zoo, spec)
    assert "is of an export for other checks: 1 of 4 checks of" in error
    assert "are not among them, such as rotate-ccw-010; export again" in error


def test_answers_for_other_data_are_inconclusive(zoo, export):
    folder = export()
    spec = answer(folder, zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    with np.load(zoo.root / "zoo.npz") as file:
        arrays = dict(file)
    arrays["images"][0] = 0
    np.savez(zoo.root / "zoo.npz", **arrays)
    zoo.bind(ROWS, sha256=load_images(zoo.data).sha256)
    assert "is of an export of data with SHA-256" in refused(zoo, spec)


def test_another_profile_or_sample_is_inconclusive(zoo, export):
    spec = answer(export(), zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    assert "is of an export with default, the run has thorough" in refused(zoo, spec, "--stress-profile", "thorough")
    assert "is of an export with all images, the run has 100" in refused(zoo, spec, "--stress-samples", "100")


def test_pixels_made_otherwise_are_inconclusive(zoo, export):
    """As on a machine whose arithmetic differs: names are those of other pixels."""
    folder = export()
    path = folder / "shard-00000.npz"
    with np.load(path) as file:
        arrays = dict(file)
    turned = arrays["perturbation"] == 1
    arrays["pixels"][turned] = np.nextafter(arrays["pixels"][turned], np.float32(1))
    arrays["image"] = names_of(arrays["pixels"])
    np.savez(path, **arrays)
    line = str(Export.read(manifest(folder)["export"]).holding(arrays["image"]))
    spec = answer(folder, zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz", export=line)
    assert zoo.run("--candidate", spec).ret == 4
    assert "has no prediction for" in zoo.report()["errors"][0]
    assert zoo.statuses["rotate-ccw-010"] == "error"


def test_clean_images_alone_are_judged_without_an_export(zoo):
    scores = scores_of(zoo.images.pixels.float().numpy() / 255, zoo.root / "models/augmented.safetensors")
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


def test_a_plan_of_recorded_answers_says_that_they_cost_nothing(zoo, export):
    spec = answer(export(), zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz")
    result = zoo.run("--candidate", spec, "--stress-plan")
    assert result.ret == 4
    assert "recorded predictions cost nothing, so plan and budget mean nothing" in result.stdout.str()
