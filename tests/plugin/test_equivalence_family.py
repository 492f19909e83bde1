"""The family `equivalence` in a run: an artifact equal to its original, different from it, or inconclusive."""

import numpy as np
import pytest
import torch
from zoo import ARGUMENTS, CLASSES, EQUIVALENCE, checks_text, images_of, network

from harness.checks import ChecksError, read_checks
from harness.checks.families import starter_checks
from harness.data import load_images
from harness.networks.checkpoints import Record, save_checkpoint

TESTS = ("equivalence", "clean")


def row_of(name: str, metric: str, keys: str, family: str = "equivalence") -> str:
    return f'\n[[check]]\nid = "{name}"\nfamily = "{family}"\nmetric = "{metric}"\n{keys}\n'


LOST = row_of("equivalence-lost", "correct_predictions_lost", "tolerance = 0.05")
POSED = row_of("posed", "pooled_predictions_changed", 'under = ["rest", "mirrored"]\ntolerance = 0.1')
WORST = row_of("worst", "worst_class_predictions_changed", "tolerance = 0.2")
FEW = row_of("few", "worst_class_predictions_changed", "tolerance = 0.01")
CONFIDENCE = row_of("confidence", "confidence_moved", "tolerance = 0.1")
GROUP = row_of("group", "worst_group_predictions_changed", 'by = "camera"\ntolerance = 0.3')
CLEAN = row_of("clean", "accuracy", "hand = { threshold = 0.85 }", "clean")
SERVED = """
import numpy as np

MEANS = np.load("means.npz")["means"]

class Labels:
    outputs = "labels"

    def predict(self, pixels):
        flat = pixels.reshape(len(pixels), -1).astype(np.float32)
        return ((flat[:, None] - MEANS) ** 2).sum(axis=2).argmin(axis=1)
"""
ORIGINAL = "--original=models/augmented.safetensors"
EQUAL, DIFFERENT = "--candidate=equal.safetensors", "--candidate=different.safetensors"


@pytest.fixture(scope="module")
def gate(shared):
    """The repository with artifacts of its model, and images of two cameras."""

    def artifact(name, jitter=0.0, order=(0, 1, 2, 3)):
        model, order = network(jitter=jitter, seed=4), list(order)
        with torch.no_grad():
            model.fc1.weight.copy_(model.fc1.weight[order])
            model.fc1.bias.copy_(model.fc1.bias[order])
        save_checkpoint(shared.root / f"{name}.safetensors", model, Record("fashion-cnn", ARGUMENTS, CLASSES))

    artifact("equal", 1e-6)
    artifact("different", 1.0)
    artifact("other-order", order=(1, 0, 2, 3))
    images = images_of()
    cameras = np.array([(name,) for name in np.where(np.arange(400) % 2 == 0, "front", "back")], [("camera", "U5")])
    arrays = {"images": images.pixels[:, 0].numpy(), "labels": images.labels.numpy(), "classes": np.array(CLASSES)}
    np.savez(shared.root / "zoo.npz", **arrays, groups=cameras)
    shared.images = load_images(shared.data)
    return shared


def consensus():
    """Return the row of a first check of the consensus set, which waits for a panel."""
    rows = {row.id: row for row in starter_checks(images_of(), ["equivalence"])}
    return f"\n{rows['equivalence-consensus'].as_toml()}\n"


def test_an_artifact_that_changes_nothing_is_equal(gate):
    ran = gate.once(EQUAL, ORIGINAL, rows=EQUIVALENCE + LOST + POSED + WORST + FEW + consensus())
    assert ran.ending == (0, "pass")
    found = ran.checks["equivalence-clean"]
    assert (found["value"], found["provenance"]) == (0.0, "hand")
    assert "equal: at most 1.1% (99% confidence), tolerance 5.0%" in found["detail"]
    assert ran.report["original"]["path"] == "models/augmented.safetensors"
    assert {ran.statuses[name] for name in ("equivalence-lost", "posed", "worst")} == {"pass"}
    assert (ran.statuses["few"], ran.statuses["equivalence-consensus"]) == ("informational", "not_applicable")
    assert "459 images of a group prove 1.0%, all have fewer" in ran.checks["few"]["detail"]
    checks = {check["name"]: check for check in ran.report["self_checks"]}
    assert checks["model-equals-itself"]["status"] == checks["changed-original"]["status"] == "pass"
    assert "5.0% of its predictions permuted does not pass" in checks["changed-original"]["detail"]


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.processes)], ids=["serial", "n2"])
def test_an_artifact_that_changes_many_predictions_is_different(gate, workers):
    """A difference outranks what the images cannot tell."""
    rows = EQUIVALENCE + LOST.replace("0.05", "0.3") + FEW + GROUP
    ran = gate.once(DIFFERENT, ORIGINAL, *workers, rows=rows, page=True)
    assert ran.ending == (1, "fail")
    assert ran.statuses["equivalence-clean"] == "fail"
    assert "different: at least" in ran.checks["equivalence-clean"]["detail"]
    assert ran.checks["group"]["detail"].startswith(("front: ", "back: "))
    ran.stdout.re_match_lines(
        [r"The artifact changes \d+ of 400 predictions \([\d.]+%, tolerance 5\.0%\), most often \w+ → \w+; \d+ correct"]
    )
    for title in ("Differences from the original", "Changes from class to class"):
        assert title in ran.page
    if workers:
        assert ran.checks == gate.once(DIFFERENT, ORIGINAL, rows=rows, page=True).checks


def test_what_images_cannot_tell_and_a_tolerance_elsewhere_end_with_4(gate):
    rows = EQUIVALENCE.replace("0.05", "0.001")
    ran = gate.once(EQUAL, ORIGINAL, rows=rows)
    assert ran.ending == (4, "error")
    assert ran.statuses["equivalence-clean"] == "inconclusive"
    assert "of 400 images, about 4,203 more would tell" in ran.checks["equivalence-clean"]["detail"]
    assert ran.report["headline"].startswith("INCONCLUSIVE: equivalence-clean")
    ran.stdout.fnmatch_lines(["*equivalence-clean*about 4,203 more would tell*"])
    assert "4,203 more would tell" in ran.summary
    ran = gate.once(EQUAL, ORIGINAL, rows=row_of("clean", "accuracy", "tolerance = 0.5", "clean"))
    assert ran.ending == (4, "error")
    assert "no distance from an original" in ran.checks["clean"]["detail"]


def test_without_an_original_the_family_does_not_apply(gate):
    ran = gate.once(rows=EQUIVALENCE + POSED + CLEAN)
    assert ran.ending == (0, "pass")
    assert {ran.statuses[name] for name in ("equivalence-clean", "posed")} == {"not_applicable"}
    assert ran.report["original"] is None
    assert set(gate.once(rows=CLEAN).statuses) == {"clean", "class"}, "nor without a row"
    ran = gate.once(ORIGINAL, rows=CLEAN)
    assert ran.statuses["equivalence-predictions-changed"] == "informational"


def test_an_original_or_artifact_that_explains_the_outcome_comes_first(gate):
    ran = gate.once("--candidate=other-order.safetensors", ORIGINAL, rows=EQUIVALENCE + CLEAN.replace("0.85", "0.99"))
    assert ran.ret == 1
    detail = ran.checks["equivalence-clean"]["detail"]
    assert detail.startswith("the artifact has its classes in another order: ant is predicted as bee")
    assert ran.report["headline"].endswith("The original itself fails clean: equal to it is not fit to ship.")


def test_a_test_that_lets_changes_pass_makes_the_run_unsound(gate):
    def lax(text):
        return text.replace(b"original.predict(images, stress_check.pose)", b"predictions", 1)

    ran = gate.once(ORIGINAL, rows=EQUIVALENCE, files={"stress_tests/test_equivalence.py": lax})
    assert ran.ending == (4, "error")
    assert ran.self_checks["changed-original"] == "fail"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (EQUIVALENCE.replace("0.05", "0"), "tolerance is 0"),
        (EQUIVALENCE.replace("0.05", "1.5"), "tolerance is 1.5"),
        (EQUIVALENCE + "hand = { threshold = 0.1 }\n", "has a tolerance and a threshold by hand; remove one"),
    ],
)
def test_a_tolerance_that_proves_nothing_is_refused(tmp_path, row, said):
    (tmp_path / "checks.toml").write_text(checks_text(images_of(), row))
    with pytest.raises(ChecksError, match=said):
        read_checks(tmp_path / "checks.toml")


@pytest.mark.processes
def test_predictors_of_labels_are_held_to_each_other(gate):
    images = images_of()
    pixels = images.pixels.flatten(1).float().numpy()
    means = np.stack([pixels[images.labels.numpy() == label].mean(axis=0) for label in range(4)])
    np.savez(gate.root / "means.npz", means=means)
    (gate.root / "served.py").write_text(SERVED)
    served = ("--candidate=python:served:Labels", "--original=python:served:Labels")
    ran = gate.once(*served, rows=EQUIVALENCE + CONFIDENCE)
    assert ran.ending == (0, "pass")
    assert ran.statuses["confidence"] == "not_applicable"
