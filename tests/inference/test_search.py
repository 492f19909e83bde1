"""Worst, drawn and breaking poses: against brute force, and as a user finds them in the report."""

import importlib
import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from panels import with_panel
from torch import nn
from zoo import checks_text, hypothesis_as_it_starts

from harness.base.errors import InputError
from harness.data import LabelledImages, load_images, stratified_sample
from harness.inference import Classifier, anew
from harness.inference.search import breaking, changes, correct_at, first_failures
from harness.measures import Unit, breaking_severity, robust_accuracy, unchanged_share, worst_of_ten
from harness.networks.checkpoints import load_checkpoint
from harness.perturb import Pose, augmentation_range_poses
from harness.perturb.grids import (
    GRIDS,
    PATHS,
    classic_poses,
    fine_paths,
    most_dangerous_first,
    random_poses,
)
from harness.perturb.strategies import poses
from harness.run.opening import EXAMPLES

STRESS_TESTS = Path(__file__).parents[2] / "stress_tests"
CLASSES = ("dim", "bright", "other")


def some_images(count: int = 30, *, size: int = 8, seed: int = 0) -> LabelledImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, size, size), generator=generator, dtype=torch.uint8)
    return LabelledImages(pixels, torch.arange(count) % 3, CLASSES, "some", "test")


def random_model(seed: int, *, size: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (size - 2) ** 2, 3)
    ).eval()


def shipped(name: str) -> nn.Module:
    return load_checkpoint(STRESS_TESTS.parent / f"models/{name}.safetensors").model


def agreeing(images: LabelledImages, model: nn.Module) -> LabelledImages:
    """Return the images with the model's predictions as labels: all clean ones are correct."""
    labels = torch.from_numpy(Classifier(model).predict(images).predicted)
    return LabelledImages(images.pixels, labels, images.classes, "agreed", "test")


def brute_force(classifier: Classifier, images: LabelledImages, sequence) -> np.ndarray:
    wrong = np.stack([~classifier.predict(images, pose).correct for pose in sequence])
    return np.where(wrong.any(axis=0), wrong.argmax(axis=0), -1)


some_poses = st.lists(
    st.builds(Pose, st.integers(-30, 30), st.integers(-3, 3), st.integers(-3, 3)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sequence=some_poses, seed=st.integers(0, 1000), count=st.integers(1, 300), agree=st.booleans()
)
def test_early_exit_equals_brute_force(sequence, seed, count, agree):
    model = random_model(seed)
    images = some_images(count, seed=seed)
    images = agreeing(images, model) if agree else images
    classifier = Classifier(model)
    found = first_failures(classifier, images, sequence)
    assert found.first.tolist() == brute_force(classifier, images, sequence).tolist()


def test_the_order_of_poses_decides_no_survival():
    model = random_model(1)
    images = agreeing(some_images(200), model)
    grid = (Pose(), Pose(3), Pose(-3), Pose(8), Pose(dx=1))
    straight = first_failures(Classifier(model), images, grid).right_everywhere
    assert 0 < straight.sum() < len(straight)
    for order in (most_dangerous_first(grid), tuple(reversed(grid))):
        assert (
            first_failures(Classifier(model), images, order).right_everywhere.tolist()
            == straight.tolist()
        )


def test_broken_images_are_not_evaluated_again():
    seen = []

    class Counting(nn.Module):
        def forward(self, pixels):
            seen.append(int((pixels.flatten(1).sum(1) > 0).sum()))  # Padding is black.
            return torch.tensor([[0.0, 1.0, 2.0]]).repeat(len(pixels), 1)

    images = some_images(300)
    grid = tuple(Pose(float(degrees)) for degrees in range(100))
    found = first_failures(Classifier(Counting(), workers=1, screen=False), images, grid)
    right = int((images.labels == 2).sum())
    assert found.right_everywhere.sum() == right
    # The first wave takes poses until it is full; after it only the images that are right remain.
    wave = -(-4_000 // 300)
    assert sum(seen) == wave * 300 + (100 - wave) * right


def test_the_order_of_what_is_asked_changes_no_bit():
    """Bfloat16 leaves the same images to float32, whichever process asks first."""
    some = load_images("fashion-mnist").take(torch.arange(400))
    model = shipped("augmented")
    poses = (Pose(), Pose(degrees=30, dx=3), Pose(degrees=-10))
    answers = []
    for order in (poses, poses[::-1]):
        classifier = Classifier(model)
        classifier.measure_precision_on(some)
        predictions = {pose: classifier.predict(some, pose).answers for pose in order}
        answers.append([predictions[pose].tobytes() for pose in poses])
    assert answers[0] == answers[1]


def test_screening_gives_the_answers_of_float32():
    images = stratified_sample(load_images("fashion-mnist"), 300)
    model = shipped("baseline")
    screened, plain = Classifier(model), Classifier(model, screen=False)
    for pose in (Pose(), Pose(-30, 3, -3)):
        ours, reference = screened.predict(images, pose), plain.predict(images, pose)
        assert (ours.predicted == reference.predicted).all()
        assert (ours.confidence_of_errors() == reference.confidence_of_errors()).all()
        assert (ours.logits == reference.logits).all()
    grid = most_dangerous_first(augmentation_range_poses())[::45]
    found, exact = first_failures(screened, images, grid), first_failures(plain, images, grid)
    assert (found.first == exact.first).all()


def test_the_grids_are_those_of_the_protocol():
    classic = classic_poses()
    assert len(classic) == len(set(classic)) == 31 * 5 * 5
    assert {pose.degrees for pose in classic} == set(range(-30, 31, 2))
    assert {pose.dx for pose in classic} == {pose.dy for pose in classic} == {-3, -1.5, 0, 1.5, 3}
    assert len(augmentation_range_poses()) == 225
    assert set(GRIDS) == {"augmentation-range", "corner", "classic"}
    assert len(set(GRIDS["corner"]())) == 8
    assert set(GRIDS["corner"]()) <= set(augmentation_range_poses())
    first = most_dangerous_first(classic)[:8]
    assert {(abs(pose.degrees), abs(pose.dx), abs(pose.dy)) for pose in first} == {(30, 3, 3)}
    with pytest.raises(InputError, match="sequence of poses is empty"):
        first_failures(Classifier(random_model(0)), some_images(), ())
    with pytest.raises(InputError, match="9 poses, expected 10"):
        worst_of_ten(np.ones((5, 9), dtype=bool))


def test_natural_random_worst_of_ten_and_grid_are_in_order():
    images = stratified_sample(load_images("fashion-mnist"), 20)
    classifier = Classifier(shipped("augmented"))
    grid = classic_poses()
    drawn = random_poses(grid, 10, images=len(images))
    assert all(len(set(row)) == 10 for row in drawn)
    correct = correct_at(classifier, images, grid, drawn)
    expected = [
        [classifier.predict(images, grid[at]).correct[n] for at in drawn[n]] for n in range(5)
    ]
    assert correct[:5].tolist() == expected
    ever = first_failures(classifier, images, most_dangerous_first(grid))
    natural = classifier.predict(images).correct.mean()
    shares = [natural, correct.mean(), worst_of_ten(correct).value, robust_accuracy(ever).value]
    assert all(better >= worse for better, worse in pairwise(shares)), shares
    assert (correct.all(axis=1) >= ever.right_everywhere).all()


class ErrsWhenTurned(nn.Module):
    """Tells dim bars from bright ones.

    It errs when the bar's turn is within a range of degrees.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, pixels):
        image = pixels[:, 0]
        axis = torch.arange(image.shape[-1], dtype=image.dtype) - (image.shape[-1] - 1) / 2
        mass = image.sum((1, 2)).clamp_min(1e-6)
        xx = (image * axis[None, None] ** 2).sum((1, 2)) / mass
        yy = (image * axis[None, :, None] ** 2).sum((1, 2)) / mass
        xy = (image * axis[None, None] * axis[None, :, None]).sum((1, 2)) / mass
        degrees = -0.5 * torch.atan2(2 * xy, xx - yy).rad2deg()  # The y axis points down.
        errs = (degrees > self.low) & (degrees < self.high)
        bright = (mass > 60) ^ errs
        return torch.stack([(~bright).float(), bright.float()], dim=1) * 4


def bars(count: int = 40) -> LabelledImages:
    """Return thin horizontal bars through the center of 29 x 29 pixels, dim and bright."""
    pixels = torch.zeros(count, 1, 29, 29, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    pixels[:, :, 13:16, 3:26] = torch.where(labels == 1, 250, 120).to(torch.uint8).view(-1, 1, 1, 1)
    return LabelledImages(pixels, labels, ("dim", "bright"), "bars", "test")


def build(low: float = 6.95, high: float = 8.05) -> nn.Module:
    return ErrsWhenTurned(low, high)


def test_breakage_that_is_not_monotone_is_found_at_its_lower_end():
    images = bars()
    found = breaking(Classifier(ErrsWhenTurned(6.5, 8.5)), images, PATHS["rotation"])
    assert set(found.severity) == {7.0}
    fine = first_failures(
        Classifier(ErrsWhenTurned(6.95, 8.05)), images, fine_paths()["rotation"].poses
    )
    assert {fine.perturbation_of(position) for position in range(len(images))} == {Pose(7.0)}
    assert np.isinf(
        breaking(Classifier(ErrsWhenTurned(99, 99)), images, PATHS["rotation"]).severity
    ).all()
    wrong = bars()
    wrong = LabelledImages(wrong.pixels, 1 - wrong.labels, wrong.classes, "wrong", "test")
    found = breaking(Classifier(ErrsWhenTurned(99, 99)), wrong, PATHS["shift"])
    with pytest.raises(InputError, match="none of 40 clean images is correct"):
        breaking_severity(found, share_broken=0.1)


def test_survival_and_quantiles_by_hand():
    from harness.inference.search import Breaking
    from harness.perturb.grids import SeverityPath

    path = SeverityPath(
        "rotation", "degrees", {1.0: (Pose(1.0),), 2.0: (Pose(2.0),), 4.0: (Pose(4.0),)}
    )
    found = Breaking(path, np.array([1, 1, 2, 2, 2, 4, np.inf, np.inf, np.inf, np.inf]), images=12)
    severities, surviving = found.survival()
    assert severities.tolist() == [0, 1, 2, 4]
    assert surviving.tolist() == [1.0, 0.8, 0.5, 0.4]
    assert found.quantile(0.5) == 2.0
    assert found.quantile(0.1) == pytest.approx(0.5)
    assert found.quantile(0.35) == pytest.approx(1.5)
    assert found.quantile(0.9) == 4.0
    measured = breaking_severity(found, share_broken=0.5)
    assert (measured.value, measured.unit, measured.n) == (2.0, Unit.DEGREES, 12)
    assert measured.interval[0] <= 2.0 <= measured.interval[1]
    assert (
        "of 10 images that are correct when clean, 4 are correct up to the limit of 4 degrees"
        in measured.detail
    )


@settings(deadline=None)
@given(poses(max_degrees=10, max_shift_px=2))
def test_drawn_poses_are_tenths_within_the_limits(pose):
    for value, limit in ((pose.degrees, 10), (pose.dx, 2), (pose.dy, 2)):
        assert abs(value) <= limit
        assert round(value * 10) / 10 == value


def test_poses_shrink_to_small_ones_and_changes_are_found_and_counted():
    from hypothesis import find

    assert find(poses(), lambda pose: pose.degrees > 3.14) == Pose(3.2)
    images = bars()
    found = changes(Classifier(ErrsWhenTurned(-99, -5)), images, Pose(10), seed=0)
    assert not found.right_everywhere.any()
    assert unchanged_share(found).value == 0
    assert all(found.perturbation_of(position).degrees < -4.5 for position in range(len(images)))
    calm = changes(Classifier(ErrsWhenTurned(99, 99)), images, Pose(10), seed=0)
    assert unchanged_share(calm).value == 1
    again = changes(Classifier(ErrsWhenTurned(-99, -5)), images, Pose(10), seed=0)
    assert (again.poses, again.first.tolist()) == (found.poses, found.first.tolist())


def test_constants_of_code_that_is_loaded_decide_no_pose(tmp_path, monkeypatch):
    def drawn() -> list[Pose]:
        found = []

        @seed(0)
        @settings(max_examples=100, database=None, deadline=None)
        @given(poses(max_degrees=10, max_shift_px=2))
        def draw(pose):
            found.append(pose)

        draw()
        return found

    before = drawn()
    (tmp_path / "of_many_constants.py").write_text(f"NUMBERS = {list(range(-100, 101))}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("of_many_constants")
    assert drawn() == before


ROW = """
[[check]]
id = "drawn-rotation"
family = "search"
metric = "accuracy"
within = { degrees = 10 }
hand = { threshold = 0.9 }
"""


@pytest.fixture
def barn(pytester, monkeypatch):
    """A repository with bars, a model of its own, and the tests that draw poses.

    No other process is asked.
    """
    monkeypatch.setattr(anew, "SEEDS", ())
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    root = pytester.path
    (root / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    (root / "stress_tests").mkdir()
    shutil.copy(STRESS_TESTS / "test_drawn_pose.py", root / "stress_tests")
    shutil.copy(__file__, root / "bar_models.py")
    images = bars()
    arrays = {
        "images": images.pixels[:, 0].numpy(),
        "labels": images.labels,
        "classes": np.array(images.classes),
    }
    np.savez(root / "bars.npz", **arrays)
    loaded = load_images(f"npz:{root / 'bars.npz'}")
    torch.save({}, root / "none.pth")

    def run(*arguments, rows=ROW):
        (root / "stress_tests/checks.toml").write_text(checks_text(loaded, rows))
        settings = [f"data=npz:{root / 'bars.npz'}", "model=bar_models:build"]
        named = [each for setting in settings for each in ("--stress-set", setting)]
        result = pytester.runpytest_inprocess(
            "-p", "no:html", "stress_tests", "--candidate", "none.pth", *named, *arguments
        )
        return result, json.loads((root / "reports/stress.json").read_text())

    with hypothesis_as_it_starts():
        yield run


def test_a_failure_within_one_degree_is_found_and_its_range_named(barn):
    result, report = barn()
    assert result.ret == 1
    (row,) = [row for row in report["checks"] if row["id"] == "drawn-rotation"]
    assert row["status"] == "fail"
    assert (
        "smallest failing pose: rotated by 7° counter-clockwise, @example(pose=Pose(degrees=7))"
        in row["detail"]
    )
    assert "fails from 7 to 8°" in row["detail"]
    assert "@example(pose=Pose(degrees=7))" in result.stdout.str()


def test_a_thorough_run_searches_longer_at_no_cost_for_the_model(barn, monkeypatch):
    monkeypatch.setitem(EXAMPLES, "thorough", 60)
    _, report = barn("--stress-profile", "thorough")
    assert not any("did not run" in omission for omission in report["omissions"])
    (row,) = [row for row in report["checks"] if row["id"] == "drawn-rotation"]
    assert row["status"] == "informational"
    assert row["value"] == 0.0
    assert "searched ten times as long" in row["explanation"]


SEARCH_ROW = """
[[check]]
id = "worst-pose"
family = "search"
metric = "robust_accuracy"
grid = "augmentation-range"
"""


ASKED = "first_failures(candidate.classifier, search_images, poses)"
ASKS_ANOTHER = "first_failures(candidate.classifier.like(SURE), search_images, poses)"
"""A mistaken search, of a model that errs nowhere, whoever the candidate is."""


@pytest.mark.parametrize(
    ("measured", "threshold", "status"),
    [(ASKED, 0.9, "pass"), (ASKED, 0.001, "pass"), (ASKS_ANOTHER, 0.9, "fail")],
)
def test_the_search_checks_itself_on_a_turned_copy(barn, measured, threshold, status):
    test = (STRESS_TESTS / "test_worst_pose.py").read_text()
    assert ASKED in test
    header = "import bar_models\n\nSURE = bar_models.ErrsWhenTurned(99, 99)\n"
    Path("stress_tests/test_worst_pose.py").write_text(header + test.replace(ASKED, measured))
    result, report = barn(
        *("--stress-set", "model_args.low=15.0", "--stress-set", "model_args.high=30.0"),
        rows=with_panel(SEARCH_ROW, mean=threshold, std=0.0, n=100),
    )
    checks = {check["name"]: check["status"] for check in report["self_checks"]}
    assert checks["turned-020-searched"] == status
    assert result.ret == (0 if status == "pass" else 4)
