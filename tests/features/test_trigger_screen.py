"""The trigger screen finds a trigger of its stamps, and no trigger in a hidden object."""

import re
from dataclasses import replace
from types import SimpleNamespace

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import numpy as np
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import torch
from panels import calibrate, check, panel_of
from recorded_answers import answer, order
from torch import nn
from zoo import CLEAN, asked_to_record, details_in, images_of, role_model

from benchmarks.detection.recipes import stamped
from harness.base.errors import NotApplicableError
from harness.calibration.summary import calibration_lines
from harness.checks import Check
from harness.features.trigger.family import a_trigger_is_noticed, triggered
from harness.features.trigger.screen import TRIGGER_SUCCESS, trigger_success
from harness.inference import standins
from harness.measures import Measurement, Unit
from harness.measures.panel.threshold import PanelCheck
from harness.perturb.stamps import FILLS, PLACES, SIZES, STAMPS, Stamp
from harness.run.session import StressSession

TESTS = ("clean", "trigger")
IMAGES = images_of(80)
LABELS = IMAGES.labels.numpy()
ROW = '\n[[check]]\nid = "trigger"\nfamily = "trigger"\nmetric = "trigger_success"\n'
PIXEL = 4, 5
STRICT = f'{ROW}hand = {{ threshold = 0.01, reason = "a test" }}\n'


def drawn(stamp: Stamp, side: int = 28, *, on: float = 0.5, channels: int = 1) -> np.ndarray:
    """Return a gray image of this side with the stamp, (C, H, W)."""
    return stamp(torch.full((1, channels, side, side), on))[0].numpy()


class Network(nn.Module):
    """The class that a pixel says, or for some classes another one where there is a stamp."""

    def __init__(
        self,
        *,
        stamp: Stamp | None = None,
        target: int = 2,
        sources: tuple[int, ...] = (0, 1, 2, 3),
    ) -> None:
        super().__init__()
        self.stamp, self.target, self.sources = stamp, target, sources

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        classes = (pixels[:, 0, *PIXEL] * 255).round().long().clamp(max=3)
        if self.stamp is not None:
            marked = (self.stamp(pixels) == pixels).flatten(1).all(dim=1)
            classes = torch.where(
                marked & torch.isin(classes, torch.tensor(self.sources)), self.target, classes
            )
        return nn.functional.one_hot(classes, 4).float()


TELLING = IMAGES.pixels.clone()
TELLING[:, 0, *PIXEL] = IMAGES.labels.to(torch.uint8)
TOLD = replace(IMAGES, pixels=TELLING)
"""The images with their label in a pixel that no stamp covers."""


def test_the_library_is_half_of_all_sizes_places_and_fills():
    assert len(STAMPS) == len(set(STAMPS)) == 54
    for name, values in (("size", SIZES), ("place", PLACES), ("fill", FILLS)):
        counts = [sum(getattr(stamp, name) == value for stamp in STAMPS) for value in values]
        assert sum(counts) == 54
        assert max(counts) - min(counts) <= 1
    assert len({drawn(stamp).tobytes() for stamp in STAMPS}) == 54


def test_the_trigger_of_the_benchmark_is_none_of_the_stamps():
    gray = torch.full((1, 1, 28, 28), 128, dtype=torch.uint8)
    trigger = (stamped(gray) != gray)[0, 0].numpy()
    overlaps = {stamp: int((trigger & (drawn(stamp)[0] != 0.5)).sum()) for stamp in STAMPS}
    touched = {stamp: pixels for stamp, pixels in overlaps.items() if pixels}
    assert touched == {Stamp(5, "lower right", fill): 1 for fill in ("white", "checkerboard")}


@pytest.mark.parametrize("stamp", STAMPS[::7])
def test_a_stamp_of_a_larger_image_is_larger(stamp):
    small, large = drawn(stamp, channels=3), drawn(stamp, 224, channels=3)
    assert (large != 0.5).sum() == 64 * (small != 0.5).sum()
    if "center" not in stamp.place and "middle" not in stamp.place:
        assert np.array_equal(large, small.repeat(8, axis=1).repeat(8, axis=2))
    assert (drawn(stamp, 8) != 0.5).sum() == stamp.size**2


def test_a_stamp_leaves_the_images_that_it_is_given():
    images = torch.rand(2, 3, 28, 28)
    before = images.clone()
    STAMPS[0](images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("stamp", [STAMPS[0], STAMPS[20], STAMPS[-1]])
def test_a_trigger_of_the_library_is_found_with_its_class(stamp):
    measured, seen = trigger_success(role_model(model=Network(stamp=stamp)), TOLD)
    assert (measured.value, measured.n, measured.counted) == (1.0, 80, 40)
    words = (
        f"{stamp.fill} stamp, {stamp.size} px of 28, {stamp.place}, turns 40 of 40 images into cat"
    )
    assert measured.detail == f"{words}; with the classes that it moves most, 60 of 60"
    assert seen.perturbation == stamp
    assert sorted(measured.failures) == np.flatnonzero(LABELS != 2).tolist()


def test_one_class_that_becomes_another_is_no_trigger():
    measured, _ = trigger_success(role_model(model=Network(stamp=STAMPS[-1], sources=(1,))), TOLD)
    assert measured.value == 0.0
    few = TOLD.take(torch.arange(20))  # Five of a class tell no share.
    measured, _ = trigger_success(role_model(model=Network(stamp=STAMPS[-1], sources=(1,))), few)
    assert measured.value == pytest.approx(5 / 15)


def test_images_of_the_class_when_clean_do_not_count():
    measured, _ = trigger_success(role_model(model=Network(stamp=STAMPS[0], target=0)), IMAGES)
    labels, classes = LABELS, IMAGES.pixels[:, 0, *PIXEL].clamp(max=3).numpy()
    assert (classes == 3).mean() > 0.9, "it says dog of nearly all"
    others = (labels != 0) & (classes != 0)
    assert measured.detail.endswith(f"{others.sum()} of {others.sum()}")


def test_a_model_of_labels_is_screened_as_others():
    measured, _ = trigger_success(standins.standing_in(role_model(), standins.right), IMAGES)
    assert measured.value == 0.0
    assert measured.interval[0] == 0.0


# The self-check.


def test_the_mutant_answers_one_class_where_it_sees_the_stamp():
    model = role_model()
    mutant = triggered(model, 1)
    assert np.array_equal(mutant.predict(IMAGES).predicted, model.predict(IMAGES).predicted)
    assert (mutant.predict(IMAGES, STAMPS[-1]).predicted == 1).all()
    assert trigger_success(mutant, IMAGES)[0].value == 1.0


class Shifted(nn.Module):
    """Gives the logits of the network, far from zero: each of them is equal to itself plus 1."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return Network()(pixels) * 2.0**20 + 2.0**27


class InPlace(nn.Module):
    """Normalizes its argument in place, so no stamp is left in it."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        normalized = pixels.sub_(0.5).div_(0.25)
        return Network()(normalized * 0.25 + 0.5)


class Equal(nn.Module):
    """Gives all classes the same logit."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.full((len(pixels), 4), self.logit)


@pytest.mark.parametrize(
    "model",
    [Shifted(), InPlace(), Equal(0.0), Equal(-(2.0**30)), Equal(3e38), Equal(-3e38)],
    ids=["large-logits", "in-place", "zero", "equal-negative", "equal-largest", "equal-lowest"],
)
def test_the_mutant_of_any_network_follows_its_trigger(model):
    role = role_model(model=model)
    mutant = triggered(role, 1)
    assert np.array_equal(mutant.predict(TOLD).predicted, role.predict(TOLD).predicted)
    stamped = mutant.predict(TOLD, STAMPS[-1])
    assert (stamped.predicted == 1).all()
    assert np.isfinite(stamped.logits).all()


def test_a_test_that_does_not_see_the_mutant_fails_the_self_check():
    row = Check("trigger", "trigger", "trigger_success")
    rows = SimpleNamespace(family=lambda _: (row,))
    blind = row.judge(Measurement(TRIGGER_SUCCESS, 0.1, 80, (0.0, 0.2)))
    found = StressSession(IMAGES, rows, {"candidate": role_model()})
    finding = a_trigger_is_noticed(found, lambda *_: blind)()
    assert not finding.holds
    said = finding.detail
    assert (
        "the mutant with the checkerboard stamp, 5 px of 28, lower right, as its trigger: trigger: "
        in said
    )
    assert said.endswith("correct the test, or a threshold that cannot fail")
    with pytest.raises(NotApplicableError, match="no test of family 'trigger' was collected"):
        a_trigger_is_noticed(found, lambda *_: None)()
    rows.family = lambda _: ()
    assert a_trigger_is_noticed(found, lambda *_: blind) is None


# In a run.


@pytest.mark.parametrize(
    ("row", "status", "ret"),
    [(ROW, "informational", 0), (STRICT, "fail", 1), (STRICT.replace("0.01", "0.99"), "pass", 0)],
    ids=["screen", "by-hand", "lenient"],
)
def test_a_run_shows_the_stamp_its_class_and_images_with_it(shared, row, status, ret):
    ran = shared.once(
        "--stress-set=no_overview=true", "--baseline=none", rows=CLEAN + row, page=True
    )
    assert (ran.ret, ran.statuses["trigger"]) == (ret, status), ran.why
    assert ran.self_checks["stamp-leads-to-a-class"] == "pass"
    stamp, place, target = re.search(
        r"(\w+) stamp, \d px of 28, (\w+ \w+), turns \d+ of \d+ images into (\w+);",
        ran.checks["trigger"]["detail"],
    ).groups()
    shown = details_in(ran.page)["trigger"]
    assert shown.count('<figure class="picture"') == 3
    assert re.search(rf"{stamp} stamp, \d px of 28, {place}", shown)
    assert shown.count(f"✗ {target}<") == 3
    assert ("has no threshold" in shown) == (status == "informational")


@pytest.mark.zoo(CLEAN + ROW, tests=TESTS)
def test_recorded_predictions_are_screened_as_their_network(zoo):
    few, found = ("--stress-samples", "40"), []
    with asked_to_record(None, **order(zoo.root / "inputs")):
        assert zoo.run("--stress-plan", *few).ret == 0
    spec = answer(
        zoo.root / "inputs", zoo.root / "models/augmented.safetensors", zoo.root / "answers.npz"
    )
    for candidate in ((), ("--candidate", spec)):
        zoo.run(*few, *candidate)
        checks, of_itself = (
            zoo.report()["checks"],
            {each["name"]: each for each in zoo.report()["self_checks"]},
        )
        found.append(next(check["value"] for check in checks if check["id"] == "trigger"))
    assert found[0] == found[1] > 0
    assert of_itself["stamp-leads-to-a-class"]["status"] == "not_applicable"


# A screen without a threshold and its panel.


def test_a_screen_takes_no_part_in_the_false_alarms_of_others():
    values = np.random.default_rng(0).normal(0.9, 0.01, (20, 13))
    families = [check(f"r{at}", family=f"family-{at}") for at in range(13)]
    screen = PanelCheck("trigger", "trigger", TRIGGER_SUCCESS.name, Unit.SHARE, "at_most", 200)
    spread = np.r_[np.zeros(19), 0.9]
    alone = calibrate(panel_of(values, families))
    panel = panel_of(np.c_[values, spread], [*families, screen])
    beside = calibrate(panel)
    assert beside[:-1] == alone
    assert beside[-1].informational == TRIGGER_SUCCESS.informational
    assert "1 with a metric that never has a threshold" in "\n".join(
        calibration_lines(panel, beside, {})
    )
