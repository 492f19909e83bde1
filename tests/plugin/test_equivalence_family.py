"""The family `equivalence` in a run: an artifact equal to its original, different from it, or inconclusive."""

import shutil

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import numpy as np
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import torch
from zoo import ARGUMENTS, CLASSES, EQUIVALENCE, checks_text, images_of, network

from harness.checks.families import starter_checks
from harness.data import load_images
from harness.networks.checkpoints import Record, save_checkpoint

LOST = """
[[check]]
id = "equivalence-lost"
family = "equivalence"
metric = "correct_predictions_lost"
tolerance = 0.05
"""
POSED = """
[[check]]
id = "equivalence-posed"
family = "equivalence"
metric = "pooled_predictions_changed"
under = ["rest", "mirrored"]
tolerance = 0.1
"""
WORST = """
[[check]]
id = "equivalence-class"
family = "equivalence"
metric = "worst_class_predictions_changed"
tolerance = 0.2
"""
CONFIDENCE = """
[[check]]
id = "equivalence-confidence"
family = "equivalence"
metric = "confidence_moved"
tolerance = 0.1
"""
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

pytestmark = pytest.mark.zoo(EQUIVALENCE, tests=("equivalence",))


def artifact(zoo, name="artifact.safetensors", *, jitter=0.0, order=None):
    """Save a copy of the candidate with shaken weights, or with its classes in another order."""
    model = network(jitter=jitter, seed=4)
    if order is not None:
        with torch.no_grad():
            model.fc1.weight.copy_(model.fc1.weight[order])
            model.fc1.bias.copy_(model.fc1.bias[order])
    save_checkpoint(zoo.root / name, model, Record("fashion-cnn", ARGUMENTS, CLASSES))
    return f"--candidate={name}"


def row(zoo, name="equivalence-clean"):
    return next(check for check in zoo.report()["checks"] if check["id"] == name)


@pytest.mark.zoo(EQUIVALENCE + LOST + POSED + WORST, tests=("equivalence",))
def test_an_artifact_that_changes_nothing_is_equal(zoo):
    result = zoo.run(artifact(zoo, jitter=1e-6), ORIGINAL)
    assert (result.ret, zoo.report()["verdict"]) == (0, "pass")
    assert row(zoo)["value"] == 0.0
    assert "equal: at most 1.1% (99% confidence), tolerance 5.0%" in row(zoo)["detail"]
    assert row(zoo)["provenance"] == "hand"
    assert zoo.report()["original"]["path"] == "models/augmented.safetensors"


def test_an_artifact_that_changes_many_predictions_is_different(zoo):
    result = zoo.run(artifact(zoo, jitter=1.0), ORIGINAL)
    assert (result.ret, zoo.report()["verdict"]) == (1, "fail")
    assert row(zoo)["status"] == "fail"
    assert "different: at least" in row(zoo)["detail"]


def test_what_the_images_cannot_tell_is_inconclusive_and_exits_4(zoo):
    zoo.bind(EQUIVALENCE.replace("0.05", "0.001"))
    result = zoo.run(artifact(zoo, jitter=1e-6), ORIGINAL)
    report = zoo.report()
    assert (result.ret, report["verdict"], row(zoo)["status"]) == (4, "error", "inconclusive")
    assert "of 400 images, about 4,203 more would tell" in row(zoo)["detail"]
    assert report["headline"].startswith("INCONCLUSIVE: equivalence-clean")
    result.stdout.fnmatch_lines(["*equivalence-clean*about 4,203 more would tell*"])
    assert "4,203 more would tell" in (zoo.root / "reports/stress.md").read_text()


def test_a_difference_outranks_what_cannot_be_told(zoo):
    zoo.bind(EQUIVALENCE + LOST.replace("0.05", "0.3"))
    assert zoo.run(artifact(zoo, jitter=1.0), ORIGINAL).ret == 1
    zoo.bind(EQUIVALENCE + WORST.replace("0.2", "0.01"))
    assert zoo.run(artifact(zoo, jitter=1.0), ORIGINAL).ret == 1


@pytest.mark.zoo(EQUIVALENCE + POSED, tests=("equivalence", "clean"))
def test_without_an_original_the_family_does_not_apply(zoo):
    zoo.bind(
        EQUIVALENCE
        + POSED
        + '\n[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\nhand = {threshold = 0.85}'
    )
    assert zoo.run().ret == 0
    assert {zoo.statuses[name] for name in ("equivalence-clean", "equivalence-posed")} == {"not_applicable"}
    assert zoo.report()["original"] is None


def test_the_original_itself_is_equal(zoo):
    assert zoo.run(ORIGINAL).ret == 0
    assert row(zoo)["value"] == 0.0


def test_classes_in_another_order_are_said_first(zoo):
    result = zoo.run(artifact(zoo, order=[1, 0, 2, 3]), ORIGINAL)
    assert result.ret == 1
    assert row(zoo)["detail"].startswith("the artifact has its classes in another order: ant is predicted as bee")


def test_the_run_checks_the_family_itself(zoo):
    zoo.run(ORIGINAL)
    found = {check["name"]: check for check in zoo.report()["self_checks"]}
    assert found["model-equals-itself"]["status"] == "pass"
    assert found["changed-original"]["status"] == "pass"
    assert "5.0% of its predictions permuted does not pass" in found["changed-original"]["detail"]


def test_a_test_that_lets_changes_pass_makes_the_run_unsound(zoo):
    path = zoo.tests / "test_equivalence.py"
    path.write_text(path.read_text().replace("original.predict(images, stress_check.pose)", "predictions", 1))
    assert zoo.run(ORIGINAL).ret == 4
    found = {check["name"]: check["status"] for check in zoo.report()["self_checks"]}
    assert found["changed-original"] == "fail"


def test_an_original_that_changes_its_mind_makes_the_run_unsound(zoo):
    (zoo.root / "dice.py").write_text(
        "import torch\n\nclass Dice(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = torch.nn.Linear(1, 1)\n\n    def forward(self, pixels):\n"
        "        return torch.rand(len(pixels), 4) + 0 * self.fc.weight.sum()\n"
    )
    from safetensors.torch import save_file

    save_file({"fc.weight": torch.zeros(1, 1), "fc.bias": torch.zeros(1)}, zoo.root / "dice.safetensors")
    zoo.pytester.syspathinsert()
    assert zoo.run("--original=dice.safetensors", "--stress-set=model=dice:Dice").ret == 4


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (EQUIVALENCE.replace("0.05", "0"), "tolerance is 0"),
        (EQUIVALENCE.replace("0.05", "1.5"), "tolerance is 1.5"),
        (EQUIVALENCE + "hand = { threshold = 0.1 }\n", "has a tolerance and a threshold by hand; remove one"),
    ],
)
def test_a_tolerance_that_proves_nothing_is_refused(zoo, row, said):
    zoo.bind(row)
    result = zoo.run(ORIGINAL)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{said}*"])


@pytest.mark.zoo(tests=("clean",))
def test_a_tolerance_on_another_metric_is_an_error(zoo):
    zoo.bind('\n[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\ntolerance = 0.5\n')
    assert zoo.run().ret == 4
    assert "no distance from an original" in row(zoo, "clean")["detail"]


@pytest.mark.zoo(
    EQUIVALENCE.replace("tolerance = 0.05", 'by = "camera"\ntolerance = 0.3').replace(
        "predictions_changed", "worst_group_predictions_changed"
    ),
    tests=("equivalence",),
)
def test_the_worst_group_is_named(zoo):
    images = images_of()
    cameras = np.where(np.arange(400) % 2 == 0, "front", "back")
    np.savez(zoo.root / "zoo.npz", images=images.pixels[:, 0].numpy(), labels=images.labels.numpy(),
             classes=np.array(CLASSES), groups=np.array(list(zip(cameras)), dtype=[("camera", "U5")]))  # fmt: skip
    text = zoo.checks.read_text()
    zoo.checks.write_text(checks_text(load_images(zoo.data), text[text.index("\n[[check]]") :]))
    zoo.run(artifact(zoo, jitter=0.3), ORIGINAL)
    assert row(zoo)["detail"].startswith(("front: ", "back: "))


@pytest.mark.processes
def test_two_workers_say_the_same(zoo):
    shutil.copy(zoo.root / "models/augmented.safetensors", zoo.root / "o.safetensors")
    named = artifact(zoo, jitter=0.3)
    zoo.run(named, "--original=o.safetensors")
    alone = row(zoo)
    zoo.run(named, "--original=o.safetensors", "-n", "2")
    assert row(zoo) == alone


def test_the_report_says_what_differs_and_where(zoo):
    result = zoo.run(artifact(zoo, jitter=1.0), ORIGINAL, page=True)
    result.stdout.re_match_lines(
        [r"The artifact changes \d+ of 400 predictions \([\d.]+%, tolerance 5\.0%\), most often \w+ → \w+; \d+ correct"]
    )
    page = (zoo.root / "reports/stress.html").read_text()
    for title in ("Differences from the original", "Changes from class to class"):
        assert title in page


CLEAN_ACCURACY = '\n[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\nhand = { threshold = 0.99 }\n'


@pytest.mark.zoo(EQUIVALENCE + CLEAN_ACCURACY, tests=("equivalence", "clean"))
def test_an_original_that_fails_its_own_checks_is_said_first(zoo):
    zoo.run(artifact(zoo, jitter=1e-6), ORIGINAL)
    assert zoo.report()["headline"].endswith("The original itself fails clean: equal to it is not fit to ship.")


@pytest.mark.processes
def test_workers_hand_on_what_differs(zoo):
    zoo.run(artifact(zoo, jitter=1.0), ORIGINAL, "-n", "2")
    assert "Differences from the original" in (zoo.root / "reports/stress.html").read_text()


def test_a_worst_class_of_few_images_is_informational(zoo):
    zoo.bind(EQUIVALENCE + WORST.replace("0.2", "0.01"))
    assert zoo.run(artifact(zoo, jitter=1e-6), ORIGINAL).ret == 0
    assert row(zoo, "equivalence-class")["status"] == "informational"
    assert "459 images of a group prove 1.0%, all have fewer" in row(zoo, "equivalence-class")["detail"]


def test_predictors_of_labels_are_held_to_each_other(zoo):
    images = images_of()
    pixels = images.pixels.flatten(1).float().numpy()
    means = np.stack([pixels[images.labels.numpy() == label].mean(axis=0) for label in range(4)])
    np.savez(zoo.root / "means.npz", means=means)
    (zoo.root / "served.py").write_text(SERVED)
    zoo.bind(EQUIVALENCE + CONFIDENCE)
    assert zoo.run("--candidate=python:served:Labels", "--original=python:served:Labels").ret == 0
    assert zoo.statuses["equivalence-confidence"] == "not_applicable"


@pytest.mark.zoo(tests=("clean", "equivalence"))
def test_without_rows_and_original_the_family_is_no_check_of_the_run(zoo):
    zoo.bind(CLEAN_ACCURACY.replace("0.99", "0.85"))
    assert zoo.run().ret == 0
    assert set(zoo.statuses) == {"clean", "class"}
    zoo.run(ORIGINAL)
    assert zoo.statuses["equivalence-predictions-changed"] == "informational"


def test_a_first_check_of_the_consensus_set_waits_for_a_panel(zoo):
    rows = {row.id: row for row in starter_checks(images_of(), ["equivalence"])}
    zoo.bind(f"\n{rows['equivalence-consensus'].as_toml()}\n{EQUIVALENCE}")
    assert zoo.run(artifact(zoo, jitter=1e-6), ORIGINAL).ret == 0
    assert row(zoo, "equivalence-consensus")["status"] == "not_applicable"
    assert zoo.report()["verdict"] == "pass"
