"""Attention on the object.

By hand, and as checks that models fail which look elsewhere, or nowhere.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

# Since it drops what a run inside this process imports, and they load only once.
import scipy.stats
import torch
from torch import nn
from zoo import checks_text, role_model

from harness.base.errors import InputError, NotApplicableError
from harness.checks import read_checks
from harness.data import LabelledImages, load_images
from harness.inference import Classifier, Predictions, RoleModel
from harness.inference.attention import Attention
from harness.measures.localisation import (
    attention_drift,
    attention_lift,
    attention_ratio,
    dead_maps,
    rank_correlation,
)
from harness.perturb import IDENTITY, Pose
from harness.run import self_checks as module
from harness.run.session import StressSession

STRESS_TESTS = Path(__file__).parents[2] / "stress_tests"
CLASSES = ("left", "right")


def attention_of(maps, *, size=4, answers=(), pose=IDENTITY) -> Attention:
    """Return attention with these maps, of images that are all of the first class.

    By default all answers are right.
    """
    maps = np.asarray(maps, dtype=np.float32)
    pixels = torch.zeros(len(maps), 1, size, size, dtype=torch.uint8)
    images = LabelledImages(
        pixels, torch.zeros(len(maps), dtype=torch.int64), CLASSES, "by hand", "test"
    )
    logits = np.tile(np.float32([1, 0]), (len(maps), 1))
    for position in answers:
        logits[position] = [0, 1]
    return Attention(Predictions(logits, images, pose), maps, "conv")


def left_half(count, size=4):
    masks = np.zeros((count, size, size), dtype=bool)
    masks[:, :, : size // 2] = True
    return masks


UNIFORM = np.ones((4, 4))
ON_OBJECT = np.repeat([[1, 1, 0, 0]], 4, axis=0)
OFF_OBJECT = 1 - ON_OBJECT
DEAD = np.zeros((4, 4))
THREE_QUARTERS = np.repeat([[3, 3, 1, 1]], 4, axis=0)


@pytest.mark.parametrize(
    ("maps", "ratio"), [(UNIFORM, 0.5), (ON_OBJECT, 1.0), (OFF_OBJECT, 0.0), (THREE_QUARTERS, 0.75)]
)
def test_ratio_and_lift_by_hand(maps, ratio):
    attention = attention_of([maps, maps])
    measured, lift = (
        measure(attention, left_half(2)) for measure in (attention_ratio, attention_lift)
    )
    assert (measured.value, measured.n, measured.unit.value, measured.interval) == (
        ratio,
        2,
        "share",
        (ratio, ratio),
    )
    assert (lift.metric.name, lift.value, lift.unit.value) == (
        "attention_lift",
        2 * ratio,
        "factor",
    )
    assert "uniform baseline 0.500" in measured.detail
    assert "uniform baseline 1;" in lift.detail


def test_means_and_intervals_are_over_images_that_count():
    measured = attention_ratio(attention_of([ON_OBJECT, UNIFORM, THREE_QUARTERS]), left_half(3))
    values = np.array([1.0, 0.5, 0.75])
    margin = 1.96 * values.std(ddof=1) / np.sqrt(3)
    assert measured.value == pytest.approx(values.mean())
    assert measured.interval == (pytest.approx(0.75 - margin), 1.0)
    masks = left_half(4)
    masks[1] = False
    measured = attention_ratio(attention_of([THREE_QUARTERS, ON_OBJECT, DEAD, UNIFORM]), masks)
    assert measured.value == pytest.approx((0.75 + 0.5) / 2)
    assert measured.n == 4
    assert measured.detail.endswith("2 maps count, 1 dead maps and 1 empty masks left out")
    for measure in (attention_ratio, attention_lift):
        with pytest.raises(
            NotApplicableError,
            match=r"of 2 images 2 are asked for and none counts, 2 dead maps and 0",
        ):
            measure(attention_of([DEAD, DEAD]), left_half(2))
    with pytest.raises(NotApplicableError, match="of 2 images 0 are asked for"):
        attention_ratio(attention_of([UNIFORM, UNIFORM]), left_half(2), answers="wrong")
    one, thousandth = (attention_of([factor * THREE_QUARTERS]) for factor in (1, 0.001))
    assert attention_ratio(one, left_half(1)).value == pytest.approx(
        attention_ratio(thousandth, left_half(1)).value
    )


def test_the_mask_moves_with_the_image_and_must_fit():
    moved = attention_of([np.roll(ON_OBJECT, 2, axis=1)], pose=Pose(dx=2))
    assert attention_ratio(moved, left_half(1)).value == 1.0
    out_of_sight = attention_of([UNIFORM], pose=Pose(dx=4))
    with pytest.raises(NotApplicableError, match="1 empty masks"):
        attention_ratio(out_of_sight, left_half(1))
    attention = attention_of([ON_OBJECT])
    assert attention_ratio(attention, ~left_half(1)).value == 0.0
    with pytest.raises(InputError, match=r"masks are \(1, 6, 6\), the images \(1, 4, 4\)"):
        attention_ratio(attention, left_half(1, 6))
    lifts = [THREE_QUARTERS, 4 - THREE_QUARTERS, UNIFORM, OFF_OBJECT, DEAD]
    assert attention_ratio(attention_of(lifts), left_half(5)).failures.tolist() == [3, 1]
    attention = attention_of([ON_OBJECT, OFF_OBJECT, UNIFORM], answers=[1])
    assert attention_ratio(attention, left_half(3), answers="wrong").value == 0.0
    assert attention_ratio(attention, left_half(3), answers="wrong").n == 3
    assert attention_ratio(attention, left_half(3), of_class="left").value == 0.5
    with pytest.raises(InputError, match="unknown class 'up'"):
        attention_ratio(attention, left_half(3), of_class="up")


def test_a_map_that_moves_along_does_not_drift_and_one_that_stays_does():
    rest = attention_of([ON_OBJECT, ON_OBJECT])
    along = attention_of([np.roll(ON_OBJECT, 2, axis=1)] * 2, pose=Pose(dx=2))
    measured = attention_drift(along, rest)
    assert (measured.metric.name, measured.value, measured.n) == ("attention_drift", 0.0, 2)
    assert "would drift 1.000; 0 dead maps" in measured.detail
    stays = attention_of([np.roll(ON_OBJECT, 2, axis=1), ON_OBJECT], pose=Pose(dx=2))
    drifted = attention_drift(stays, rest)
    assert drifted.value == 0.5
    assert drifted.failures.tolist() == [1, 0]
    rest = attention_of([ON_OBJECT, DEAD, ON_OBJECT, OFF_OBJECT])
    moved = attention_of([np.roll(ON_OBJECT, 2, axis=1), UNIFORM, DEAD, UNIFORM], pose=Pose(dx=2))
    measured = attention_drift(moved, rest)
    assert measured.value == 0.0
    assert measured.detail.endswith("3 dead maps left out")
    with pytest.raises(NotApplicableError, match="all 1 maps are dead"):
        attention_drift(attention_of([DEAD]), attention_of([UNIFORM]))


def test_dead_maps_are_a_share_of_all_and_have_no_rank_correlation():
    measured = dead_maps(attention_of([DEAD, UNIFORM, DEAD, ON_OBJECT], answers=[2, 3]))
    assert (measured.metric.name, measured.value, measured.n) == ("dead_maps", 0.5, 4)
    assert measured.failures.tolist() == [0, 2]
    assert measured.detail == "2 maps of layer conv, 1 of them with a wrong prediction"
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 5, (3, 4, 4)) for _ in range(2))
    expected = [
        scipy.stats.spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(one, other, strict=True)
    ]
    assert rank_correlation(attention_of(one), attention_of(other)) == pytest.approx(expected)
    assert np.isnan(
        rank_correlation(attention_of([UNIFORM, DEAD]), attention_of([ON_OBJECT] * 2))
    ).all()


class Looker(nn.Module):
    """Tells squares with a bright left half from those with a bright right half.

    `how` decides where it looks for it. The network looks at each pixel ("object"). At "nowhere" it
    has equal answers for all images. At "everywhere" it counts each place alike, and at "corners"
    two corners alone.
    """

    def __init__(self, how: str = "object") -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 17, padding=8)
        self.fc = nn.Linear(256, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()[0, 0, 8, 8] = float(how != "everywhere")
            self.conv.bias.fill_(float(how == "everywhere"))
            left = torch.arange(16).repeat(16) < 8
            self.fc.weight.copy_(torch.stack([left, ~left]).float() * float(how != "nowhere"))
            if how == "corners":
                self.fc.weight[:, 1:-1] = 0

    def forward(self, pixels):
        return self.fc(self.conv(pixels).flatten(1))


def squares(count=40) -> LabelledImages:
    pixels = torch.zeros(count, 1, 16, 16, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    pixels[:, :, 4:12, 4:12] = 120
    pixels[0::2, :, 4:12, 4:8] = 250
    pixels[1::2, :, 4:12, 8:12] = 250
    return LabelledImages(pixels, labels, CLASSES, "squares", "test")


ROWS = "".join(
    f'\n[[check]]\nid = "{name}"\nfamily = "attention"\nmetric = "{metric}"\n{keys}\n'
    f"hand.threshold = {threshold}\n"
    for name, metric, threshold, keys in (
        ("attention-ratio", "attention_ratio", 0.9, ""),
        ("attention-ratio-right", "attention_ratio", 0.9, 'class = "right"'),
        ("attention-ratio-errors", "attention_ratio", 0.9, 'answers = "wrong"'),
        ("attention-lift-right-2", "attention_lift", 2.0, "pose = { dx = 2 }"),
        ("attention-drift-right-2", "attention_drift", 0.05, "pose = { dx = 2 }"),
        ("attention-dead", "dead_maps", 0.1, ""),
        (
            "background-noise-010",
            "prediction_consistency",
            0.9,
            'background = "noise"\nstrength = 0.1',
        ),
        ("object-erased", "object_dependence", 0.4, ""),
    )
)


@pytest.fixture
def gallery(pytester, monkeypatch):
    """A repository with squares, a model of its own, and the tests of attention and background."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path / "cache"))
    # The network is code of the user's, which a run would ask in three other processes, too.
    monkeypatch.setattr("harness.run.steadiness.asked_elsewhere", lambda *_: [])
    root = pytester.path
    (root / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    (root / "stress_tests").mkdir()
    for name in ("attention", "background"):
        shutil.copy(STRESS_TESTS / f"test_{name}.py", root / "stress_tests")
    shutil.copy(__file__, root / "lookers.py")

    def run(how="object", *arguments, images=None, masks=None, rows=ROWS):
        images = squares() if images is None else images
        arrays = {
            "images": images.pixels[:, 0].numpy(),
            "labels": images.labels.numpy(),
            "classes": np.array(CLASSES),
        }
        np.savez(root / "squares.npz", **arrays, **({} if masks is None else {"masks": masks}))
        loaded = load_images(f"npz:{root / 'squares.npz'}")
        (root / "stress_tests/checks.toml").write_text(checks_text(loaded, rows))
        torch.save(Looker(how).state_dict(), root / "looker.pth")
        result = pytester.runpytest_inprocess(
            *(
                "stress_tests",
                "--stress-set=no_overview=true",
                "-p",
                "no:html",
                "--candidate",
                "looker.pth",
            ),
            *(
                "--stress-set",
                f"data=npz:{root / 'squares.npz'}",
                "--stress-set",
                "model=lookers:Looker",
                *arguments,
            ),
        )
        path = root / "reports/stress.json"
        report = json.loads(path.read_text()) if path.exists() else None
        return result, report

    return run


def statuses(report):
    return {check["id"]: check["status"] for check in report["checks"]}


def failed(report):
    return {name for name, status in statuses(report).items() if status == "fail"}


def test_a_model_that_looks_at_the_object_passes_at_its_layer(gallery):
    result, report = gallery("object", "--stress-set", "layer=conv")
    assert {
        status for name, status in statuses(report).items() if name != "attention-ratio-errors"
    } == {"pass"}
    assert statuses(report)["attention-ratio-errors"] == "not_applicable"
    assert result.ret == 0
    checks = {check["name"]: (check["status"], check["detail"]) for check in report["self_checks"]}
    assert checks["blind"][0] == "pass"
    assert "check object-erased of family 'attention' notices" in checks["blind"][1]
    result, _ = gallery("object", "--stress-set", "layer=relu9")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*layer relu9: candidate looker.pth: layer 'relu9': * it has network.conv (16x16)*"]
    )


CORNER = np.zeros((40, 16, 16), dtype=bool)
CORNER[:, :3, :3] = True


@pytest.mark.parametrize(
    ("how", "masks", "expected"),
    [
        ("nowhere", None, {"attention-dead", "object-erased"}),
        (
            "everywhere",
            None,
            {
                "attention-ratio",
                "attention-ratio-right",
                "attention-drift-right-2",
                "object-erased",
            },
        ),
        ("corners", None, {"background-noise-010"}),
        ("object", CORNER, {"attention-ratio", "attention-lift-right-2", "object-erased"}),
    ],
    ids=["nowhere", "everywhere", "a background that decides", "wrong masks"],
)
def test_models_that_look_elsewhere_fail(gallery, how, masks, expected):
    result, report = gallery(how, masks=masks)
    assert result.ret in {1, 4}
    assert expected <= failed(report)
    assert ("background-noise-010" in failed(report)) == (how == "corners")


def test_without_a_plain_background_attention_is_not_applicable(gallery):
    noise = torch.randint(
        0, 256, (40, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    _, report = gallery(images=replace(squares(), pixels=noise))
    found = statuses(report)
    assert {
        found[name] for name in ("attention-ratio", "background-noise-010", "object-erased")
    } == {"not_applicable"}
    details = {check["id"]: check["detail"] for check in report["checks"]}
    assert "the background of squares is not plain" in details["attention-ratio"]
    assert found["attention-dead"] != "not_applicable", "for which no mask is needed"


@pytest.fixture
def session_of(tmp_path):
    def build(model, rows=ROWS, images=None):
        images = squares() if images is None else images
        path = tmp_path / "checks.toml"
        path.write_text(checks_text(images, rows))
        return StressSession(images, read_checks(path), {"candidate": role_model(model=model)})

    return build


def follows(session):
    (found,) = (
        check
        for check in module.self_checks(session, lambda *_: None)
        if check.name == "maps-follow-weights"
    )
    return found


def test_maps_of_a_trained_network_follow_its_weights(session_of):
    from harness.data import stratified_sample
    from harness.networks.checkpoints import load_checkpoint

    model = load_checkpoint(Path(__file__).parents[2] / "models/augmented.safetensors").model
    state = torch.get_rng_state()
    found = follows(
        session_of(
            model,
            ROWS.replace('"right"', '"Bag"'),
            stratified_sample(load_images("fashion-mnist"), 200),
        )
    )
    assert found.status == "pass"
    assert "the maps of layer bn3+relu correlate by" in found.detail
    assert torch.equal(torch.get_rng_state(), state)


class Intensity(nn.Module):
    """Its map is the image itself, whatever the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 1, 1, bias=False), nn.Linear(256, 2)
        with torch.no_grad():
            self.conv.weight.fill_(1)
            self.fc.weight.fill_(1)

    def forward(self, pixels):
        return self.fc(self.conv(pixels).flatten(1))


def test_maps_that_do_not_follow_the_weights_are_found(session_of):
    found = follows(session_of(Intensity()))
    assert found.status == "fail"
    assert "correlate by 1.00 with the model's own" in found.detail
    assert found.detail.endswith("name another by the setting layer")
    classifier = Classifier(Looker(), workers=1)
    role = RoleModel("candidate", Path("c"), "c", "m", "user", None, classifier, layer="conv")
    assert role.attend(squares()).layer == "conv"


@pytest.mark.parametrize(
    ("model", "rows", "reason"),
    [
        (Intensity, "", "there is no check of family 'attention'"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 2)),
            ROWS,
            "the model has no convolution layer",
        ),
        (lambda: Looker("nowhere"), ROWS, "no image has a map"),
    ],
    ids=["no-gate", "no-layer", "dead"],
)
def test_without_maps_or_checks_there_is_nothing_to_follow(session_of, model, rows, reason):
    found = follows(session_of(model(), rows))
    assert found.status == "not_applicable"
    assert reason in found.detail
