"""The family `equivalence` in a run: an artifact is equal, different or inconclusive."""

import pytest
from artifacts import save_artifact, save_groups, save_predictors
from zoo import EQUIVALENCE, checks_text, images_of

from harness.checks.families import starter_checks
from harness.data import load_images


def row_of(name, metric, more):
    return (
        f'\n[[check]]\nid = "equivalence-{name}"\nfamily = "equivalence"\nmetric = "{metric}"\n'
        f"{more}\n"
    )


LOST = row_of("lost", "correct_predictions_lost", "tolerance = 0.3")
POSED = row_of(
    "posed", "pooled_predictions_changed", 'under = ["rest", "mirrored"]\ntolerance = 0.1'
)
WORST = row_of("class", "worst_class_predictions_changed", "tolerance = 0.2")
FEW = row_of("few", "worst_class_predictions_changed", "tolerance = 0.01")
CONFIDENCE = row_of("confidence", "confidence_moved", "tolerance = 0.1")
GROUP = row_of("group", "worst_group_predictions_changed", 'by = "camera"\ntolerance = 0.3')
CLEAN = (
    '\n[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\n'
    "hand = { threshold = 0.85 }\n"
)
ORIGINAL = "--original=models/augmented.safetensors"

pytestmark = pytest.mark.zoo(EQUIVALENCE, tests=("clean", "equivalence"))


def artifact(zoo, jitter):
    return f"--candidate={save_artifact(zoo.root, jitter=jitter)}"


def row(zoo, name="equivalence-clean"):
    return next(check for check in zoo.report()["checks"] if check["id"] == name)


def self_checks(zoo):
    return {check["name"]: check for check in zoo.report()["self_checks"]}


@pytest.fixture
def one_process(monkeypatch):
    """Ask code of a user's again in this process alone."""
    monkeypatch.setattr("harness.run.steadiness.asked_elsewhere", lambda *_: [])


def test_an_artifact_that_changes_nothing_is_equal(zoo):
    consensus = {each.id: each for each in starter_checks(images_of(), ["equivalence"])}[
        "equivalence-consensus"
    ]
    zoo.bind(EQUIVALENCE + LOST + POSED + WORST + FEW + CLEAN + f"\n{consensus.as_toml()}\n")
    assert zoo.run(artifact(zoo, 1e-6), ORIGINAL).ret == 0
    report = zoo.report()
    assert (report["verdict"], report["original"]["path"]) == (
        "pass",
        "models/augmented.safetensors",
    )
    assert (row(zoo)["value"], row(zoo)["provenance"]) == (0.0, "hand")
    assert "equal: at most 1.1% (99% confidence), tolerance 5.0%" in row(zoo)["detail"]
    statuses = [zoo.statuses[f"equivalence-{name}"] for name in ("clean", "lost", "posed", "class")]
    assert statuses == ["pass"] * 4
    assert row(zoo, "equivalence-few")["status"] == "informational"
    assert (
        "459 images of a group prove 1.0%, all have fewer" in row(zoo, "equivalence-few")["detail"]
    )
    assert zoo.statuses["equivalence-consensus"] == "not_applicable"  # It waits for a panel.
    assert {
        self_checks(zoo)[name]["status"] for name in ("model-equals-itself", "changed-original")
    } == {"pass"}
    assert (
        "5.0% of its predictions permuted does not pass"
        in self_checks(zoo)["changed-original"]["detail"]
    )


def test_what_the_images_cannot_tell_is_inconclusive_and_exits_4(zoo):
    zoo.bind(EQUIVALENCE.replace("0.05", "0.001"))
    result = zoo.run(artifact(zoo, 1e-6), ORIGINAL)
    report = zoo.report()
    assert (result.ret, report["verdict"], row(zoo)["status"]) == (4, "error", "inconclusive")
    assert "of 400 images, about 4,203 more would tell" in row(zoo)["detail"]
    assert report["headline"].startswith("INCONCLUSIVE: equivalence-clean")
    result.stdout.fnmatch_lines(["*equivalence-clean*about 4,203 more would tell*"])
    assert "4,203 more would tell" in (zoo.root / "reports/stress.md").read_text()


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param((), id="serial"),
        pytest.param(("-n", "1"), id="workers", marks=pytest.mark.processes),
    ],
)
def test_a_difference_outranks_what_cannot_be_told_and_the_report_shows_it(zoo, workers):
    zoo.bind(EQUIVALENCE + LOST)
    result = zoo.run(artifact(zoo, 1.0), ORIGINAL, *workers, page=True)
    assert (result.ret, zoo.report()["verdict"], row(zoo)["status"]) == (1, "fail", "fail")
    assert "different: at least" in row(zoo)["detail"]
    assert zoo.statuses["equivalence-lost"] == "inconclusive"
    result.stdout.re_match_lines(
        [
            r"The artifact changes \d+ of 400 predictions \([\d.]+%, tolerance 5\.0%\), most "
            r"often \w+ → \w+; \d+ correct"
        ]
    )
    page = (zoo.root / "reports/stress.html").read_text()
    for title in ("Differences from the original", "Changes from class to class"):
        assert title in page


def test_without_an_original_the_family_does_not_apply(zoo):
    zoo.bind(EQUIVALENCE + POSED + CLEAN)
    assert zoo.run().ret == 0
    assert {zoo.statuses[name] for name in ("equivalence-clean", "equivalence-posed")} == {
        "not_applicable"
    }
    assert zoo.report()["original"] is None
    zoo.bind(CLEAN)
    assert zoo.run().ret == 0
    assert set(zoo.statuses) == {"clean", "class"}
    zoo.run(ORIGINAL)
    assert zoo.statuses["equivalence-predictions-changed"] == "informational"


def test_an_original_that_fails_its_own_checks_is_said_first(zoo):
    zoo.bind(EQUIVALENCE + CLEAN.replace("0.85", "0.99"))
    zoo.run(ORIGINAL)
    assert zoo.report()["headline"].endswith(
        "The original itself fails clean: equal to it is not fit to ship."
    )


def test_a_test_that_lets_changes_pass_makes_the_run_unsound(zoo):
    path = zoo.tests / "test_equivalence.py"
    path.write_text(
        path.read_text().replace("original.predict(images, stress_check.pose)", "predictions", 1)
    )
    assert zoo.run(ORIGINAL).ret == 4
    assert self_checks(zoo)["changed-original"]["status"] == "fail"


def test_an_original_that_changes_its_mind_makes_the_run_unsound(zoo, one_process):
    (zoo.root / "dice.py").write_text(
        "import torch\n\nclass Dice(torch.nn.Module):\n    def __init__(self):\n        "
        "super().__init__()\n        self.fc = torch.nn.Linear(1, 1)\n\n    def forward(self, "
        "pixels):\n        return torch.rand(len(pixels), 4) + 0 * self.fc.weight.sum()\n"
    )
    import torch
    from safetensors.torch import save_file

    save_file(
        {"fc.weight": torch.zeros(1, 1), "fc.bias": torch.zeros(1)}, zoo.root / "dice.safetensors"
    )
    zoo.pytester.syspathinsert()
    assert zoo.run("--original=dice.safetensors", "--stress-set=model=dice:Dice").ret == 4


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (EQUIVALENCE.replace("0.05", "0"), "tolerance is 0"),
        (EQUIVALENCE.replace("0.05", "1.5"), "tolerance is 1.5"),
        (
            EQUIVALENCE + "hand = { threshold = 0.1 }\n",
            "has a tolerance and a threshold by hand; remove one",
        ),
    ],
)
def test_a_tolerance_that_proves_nothing_is_refused(zoo, row, said):
    zoo.bind(row)
    result = zoo.run(ORIGINAL)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{said}*"])


def test_a_tolerance_on_another_metric_is_an_error(zoo):
    zoo.bind(CLEAN.replace("hand = { threshold = 0.85 }", "tolerance = 0.5"))
    assert zoo.run("-k", "clean").ret == 4
    assert "no distance from an original" in row(zoo, "clean")["detail"]


def test_the_worst_group_is_named(zoo):
    save_groups(zoo.root / "zoo.npz")
    zoo.checks.write_text(checks_text(load_images(zoo.data), GROUP))
    zoo.run(artifact(zoo, 0.3), ORIGINAL)
    assert row(zoo, "equivalence-group")["detail"].startswith(("front: ", "back: "))


def test_predictors_of_labels_are_held_to_each_other(zoo, one_process):
    save_predictors(zoo.root)
    zoo.bind(EQUIVALENCE + CONFIDENCE)
    assert zoo.run("--candidate=python:served:Labels", "--original=python:served:Labels").ret == 0
    assert zoo.statuses["equivalence-confidence"] == "not_applicable"
