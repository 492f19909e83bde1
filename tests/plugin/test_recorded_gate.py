"""Recorded predictions are judged as the model that gave them, bit for bit, and only by the checks that they answer."""

import csv
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from recorded_answers import answer, manifest, scores_of
from zoo import CLASSES, ROWS, asked_to_record

from harness.data import load_images
from harness.data.exported import Export, names_of
from harness.run.export.request import ExportOrder

TESTS = (
    *("clean", "rotation", "confident_errors", "calibration", "corruption", "drawn_pose", "worst_pose"),
    *("breaking_pose", "skew", "regression"),
)


def row_of(name: str, family: str, metric: str, keys: str) -> str:
    return f'\n[[check]]\nid = "{name}"\nfamily = "{family}"\nmetric = "{metric}"\n{keys}\n'


SINGLE = (
    ROWS
    + row_of("calibration-error", "confidence", "calibration_error", "pose = { degrees = 10 }")
    + row_of("unchanged", "search", "unchanged_share", "within = { degrees = 10, dx = 2, dy = 2 }")
    + row_of("noise", "corruption", "accuracy", 'corruption = "gaussian-noise"\nseverity = 2')
)
GRIDS = "".join(
    row_of(name, "search", metric, keys)
    for name, metric, keys in (
        ("robust", "robust_accuracy", 'grid = "augmentation-range"'),
        ("random", "random_pose_accuracy", 'grid = "augmentation-range"'),
        ("breaking", "breaking_severity", 'path = "rotation"\nshare_broken = 0.5'),
    )
)
SKEWED = "".join(
    row_of(f"skew-{name}", "skew", "served_predictions_changed", f'skew = "{name}"')
    for name in ("jpeg-75", "resize-torch-bilinear-plain", "divide-256", "crop-corner-1", "normalise-half")
)
LOST = row_of("lost", "regression", "accuracy_change", "hand = { threshold = -0.5 }")
CHECKPOINT = "models/augmented.safetensors"
NAMED = ("clean", "clean-bee", "rotate-ccw-010", "confident-errors")


@pytest.fixture(scope="module")
def gate(shared):
    """The repository with what exports its images in this process, and answers by a checkpoint, once for each order."""
    shared.save("other.safetensors", jitter=0.5)
    exported = {}

    def export(rows=ROWS, options=(), *, rounded=False, **order):
        key = repr((rows, options, rounded, order))
        if key not in exported:
            folder = shared.root / f"inputs-{len(exported)}"
            shared.bind(rows)
            if rounded:
                shared.checks.write_bytes(rounding(shared.checks.read_bytes()))
            with asked_to_record(None, export=ExportOrder(str(folder), **order)):
                assert shared.run("--stress-plan", *options).ret == 0
            shared.bind(ROWS)
            exported[key] = folder
        return exported[key]

    def answered(rows=ROWS, by=CHECKPOINT, options=(), **order):
        folder = export(rows, options, **order)
        return answer(folder, shared.root / by, shared.root / f"{folder.name}-{by.replace('/', '-')}.npz")

    shared.export, shared.answered = export, answered
    return shared


def rounding(text):
    """Return a checks file that rounds the pixels of all models."""
    return text.replace(b'"test"\nsha256', b'"test"\npixels = "uint8"\nsha256')


def values(ran):
    return {name: (check["value"], check["status"]) for name, check in ran.checks.items()}


def test_every_check_that_applies_has_the_checkpoints_value(gate):
    """Skews and searches of grids included; poses that Hypothesis draws, and other pixels, do not apply."""
    rows = "\n[data.samples]\nsearch = 100\n" + SINGLE + GRIDS + SKEWED
    recorded = gate.once("--candidate", gate.answered(rows), rows=rows)
    asked = gate.once("--candidate", CHECKPOINT, rows=rows)
    assert recorded.ending == asked.ending == (0, "pass")
    assert "poses that Hypothesis draws" in recorded.checks["unchanged"]["detail"]
    theirs, own = values(recorded), values(asked)
    for name in ("unchanged", "skew-normalise-half"):
        assert theirs.pop(name) == (None, "not_applicable")
        assert own.pop(name)[0] is not None
    assert theirs == own
    assert None not in {theirs[name][0] for name in ("robust", "skew-jpeg-75")}
    assert {recorded.self_checks[name] for name in ("left-half-blanked", "turned-020", "swapped-logits")} == {"pass"}
    assert "fail" not in recorded.self_checks.values()


def test_other_roles_may_be_recorded_too(gate):
    specs = [gate.answered(ROWS + LOST, by) for by in (CHECKPOINT, "other.safetensors")]
    found = [
        gate.once("--candidate", candidate, "--incumbent", incumbent, rows=ROWS + LOST)
        for candidate, incumbent in (specs, (CHECKPOINT, "other.safetensors"))
    ]
    assert {ran.ending for ran in found} == {(0, "pass")}
    assert found[0].checks["lost"]["value"] == found[1].checks["lost"]["value"] is not None


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


def test_rounded_pixels_cost_no_more_than_the_rounding(gate):
    """A checks file may round the pixels of all models: then answers to PNG have the checkpoint's values."""
    few = ROWS + row_of("calibration-error", "confidence", "calibration_error", "pose = { degrees = 10 }")
    asked = gate.once("--candidate", CHECKPOINT, rows=few)
    spec = answer_png(gate.export(few, format="png"), gate.root / CHECKPOINT, gate.root / "png.csv")
    recorded = gate.once("--candidate", spec, rows=few)
    assert recorded.ending == (0, "pass")
    for name in NAMED:
        assert recorded.checks[name]["value"] == pytest.approx(asked.checks[name]["value"], abs=0.02)
        assert recorded.statuses[name] == asked.statuses[name]

    spec = answer_png(gate.export(few, rounded=True, format="png"), gate.root / CHECKPOINT, gate.root / "uint8.csv")
    found = []
    for candidate in (CHECKPOINT, spec):
        ran = gate.once("--candidate", candidate, rows=few, files={"stress_tests/checks.toml": rounding})
        found.append({name: ran.checks[name]["value"] for name in NAMED})
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_a_worse_model_fails_by_its_recorded_answers(gate):
    gate.save("blind.safetensors", blind=True)
    assert gate.once("--candidate", gate.answered(by="blind.safetensors")).ending == (1, "fail")


@pytest.mark.parametrize("overview", [False, True], ids=["without", "with"])
def test_the_comparison_of_the_models_can_be_exported_too(gate, overview):
    ran = gate.once("--candidate", gate.answered(overview=overview), page=True)
    assert ran.ending == (0, "pass")
    if overview:
        assert [model["name"] for model in ran.report["overview"]["models"]] == ["candidate"]
    else:
        assert "the recorded predictions have none for the images of this comparison" in ran.page
        assert ran.report["overview"] is None


SERIAL_AND_WORKERS = pytest.mark.parametrize(
    "workers", [pytest.param((), id="serial"), pytest.param(("-n", "2"), id="n2", marks=pytest.mark.processes)]
)


@SERIAL_AND_WORKERS
def test_families_that_were_not_exported_make_a_run_partial(gate, workers):
    ran = gate.once("--candidate", gate.answered(families=("clean",)), *workers)
    assert ran.ending == (0, "partial")
    missing = dict.fromkeys(("clean-bee", "rotate-ccw-010", "confident-errors"), "not_applicable")
    assert {name: ran.statuses[name] for name in NAMED} == {"clean": "pass", **missing}
    assert "exported for clean alone; not measured: class, confidence, rotation" in ran.why


def test_samples_of_a_budget_make_a_run_partial(gate):
    budget = ("--stress-budget", "4s")
    ran = gate.once("--candidate", gate.answered(options=budget))
    assert (ran.verdict, ran.report["errors"]) == ("partial", [])
    samples = manifest(gate.export(options=budget))["samples"]
    assert ran.checks["rotate-ccw-010"]["n"] == samples["rotation"] < 400


def edited(path, **changed):
    """Return the SPEC of answers with other arrays."""
    with np.load(path) as file:
        arrays = dict(file)
    copy = path.with_name(f"edited-{path.name}")
    np.savez(copy, **{**arrays, **{name: change(arrays[name]) for name, change in changed.items()}})
    return f"predictions:{copy}"


def refused(gate, spec, *options, **how):
    ran = gate.once("--candidate", spec, *options, **how)
    assert ran.ending == (4, "error")
    (error,) = ran.report["errors"]
    return error


@SERIAL_AND_WORKERS
def test_a_file_that_lacks_images_is_inconclusive(gate, workers):
    path = gate.root / gate.answered().partition(":")[2]
    spec = edited(path, image=lambda all_: all_[9:], logits=lambda all_: all_[9:])
    error = refused(gate, spec, *workers)
    assert error.endswith("lacks 9 of the 800 images of its export; predict all of them")


def test_answers_for_other_checks_data_and_samples_are_inconclusive(gate):
    spec = gate.answered()
    ran = gate.once("--candidate", spec, rows=ROWS.replace("0.85", "0.8"))
    assert ran.ending == (0, "pass"), "a threshold is no part of what is asked"
    error = refused(gate, spec, rows=ROWS.replace("degrees = 10", "degrees = 15"))
    assert "is of an export for other checks: 1 of 4 checks of" in error
    assert "are not among them, such as rotate-ccw-010; export again" in error
    assert "with default, the run has thorough" in refused(gate, spec, "--stress-profile", "thorough")
    assert "with all images, the run has 100" in refused(gate, spec, "--stress-samples", "100")
    with np.load(gate.root / "zoo.npz") as file:
        arrays = dict(file)
    arrays["images"][0] = 0
    np.savez(gate.root / "other.npz", **arrays)
    other = load_images(f"npz:{gate.root / 'other.npz'}")

    def of_others(text):
        return text.replace(gate.images.sha256.encode(), other.sha256.encode()).replace(b'"zoo"', b'"other"')

    files = {"stress_tests/checks.toml": of_others}
    assert "is of an export of data with SHA-256" in refused(
        gate, spec, "--stress-set", "data=npz:other.npz", files=files
    )


def test_pixels_made_otherwise_are_inconclusive(gate):
    """As on a machine whose arithmetic differs: names are those of other pixels."""
    folder = gate.export(families=("rotation", "clean"))
    path = folder / "shard-00000.npz"
    with np.load(path) as file:
        arrays = dict(file)
    turned = arrays["perturbation"] == 1
    arrays["pixels"][turned] = np.nextafter(arrays["pixels"][turned], np.float32(1))
    arrays["image"] = names_of(arrays["pixels"])
    np.savez(path, **arrays)
    line = str(Export.read(manifest(folder)["export"]).holding(arrays["image"]))
    ran = gate.once("--candidate", answer(folder, gate.root / CHECKPOINT, gate.root / "turned.npz", export=line))
    assert ran.ending == (4, "error")
    assert "has no prediction for" in ran.report["errors"][0]
    assert ran.statuses["rotate-ccw-010"] == "error"


def test_clean_images_alone_are_judged_without_an_export(gate):
    scores = scores_of(gate.images.pixels.float().numpy() / 255, gate.root / CHECKPOINT)
    with (gate.root / "answers.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["image", "label"])
        table.writerows(enumerate(np.array(CLASSES)[scores.argmax(axis=1)]))
    error = refused(gate, "predictions:answers.csv")
    assert "has predictions for clean images only, but 1 of 4 checks" in error
    assert "such as rotate-ccw-010; export again (`stress-harness export-inputs`)" in error
    clean = ROWS[: ROWS.index('[[check]]\nid = "rotate')]
    assert gate.once("--candidate", "predictions:answers.csv", rows=clean).ending == (0, "pass")


def test_a_plan_of_recorded_answers_says_that_they_cost_nothing(gate):
    ran = gate.once("--candidate", gate.answered(), "--stress-plan")
    assert ran.ret == 4
    assert "recorded predictions cost nothing, so plan and budget mean nothing" in ran.said
