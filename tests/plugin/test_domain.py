"""A project's augmentation range and border decide a run's measurements.

They go with its thresholds.
"""

import json
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recorded_answers import answer, order
from zoo import ROWS, asked_to_record, images_of, network

from harness.base.cache import Store
from harness.data import sample_up_to
from harness.data.domain import DEFAULT_RANGE, AugmentationRange, Domain
from harness.data.images import unit_range
from harness.inference import Classifier
from harness.inference.attention import attend
from harness.inference.predictors.network import PredictorModel
from harness.inference.predictors.protocol import Identity, Provides
from harness.inference.search import first_failures
from harness.measures import accuracy
from harness.perturb import Pose, augmentation_range_poses
from harness.perturb.grids import most_dangerous_first
from harness.perturb.poses import BorderedPose

TESTS = (
    "clean",
    "rotation",
    "confident_errors",
    "worst_pose",
    "breaking_pose",
    "drawn_pose",
    "equivalence",
    "attention",
)
MODEL = "models/augmented.safetensors"
GEOMETRY = """
[[check]]
id = "robust"
family = "search"
metric = "robust_accuracy"
grid = "augmentation-range"

[[check]]
id = "unchanged"
family = "search"
metric = "unchanged_share"
within = { dx = 3 }

[[check]]
id = "break-shift"
family = "search"
metric = "breaking_severity"
path = "shift"
share_broken = 0.5

[[check]]
id = "break-rotation"
family = "search"
metric = "breaking_severity"
path = "rotation"
share_broken = 0.5

[[check]]
id = "equivalence-corners"
family = "equivalence"
metric = "pooled_predictions_changed"
under = ["corners"]

[[check]]
id = "attention"
family = "attention"
metric = "attention_ratio"
pose = { dx = 4 }
"""
BOUND = ROWS + GEOMETRY
TIME_ALONE = AugmentationRange(shift_x=3)
"""As of a spectrogram: shifts in time, no rotation, no shift in frequency."""
DECLARED = Domain(TIME_ALONE, "edge")


def declared(domain: Domain, *, thresholds: bool = True, gate: bool = True) -> dict:
    """Return the files of a project that declares a domain.

    In [gate], and in [data] with its thresholds.
    """
    limits = domain.augmentation
    lines = [] if domain.border == "constant:0" else [f'border = "{domain.border}"']
    if limits != DEFAULT_RANGE:
        of_limits = (
            f"rotate = {limits.rotate}, shift_x = {limits.shift_x}, shift_y = {limits.shift_y}"
        )
        lines.append(f"augmentation = {{ {of_limits}, flip = {str(limits.flip).lower()} }}")
    text = "".join(f"{line}\n" for line in lines).encode()

    def change(content: bytes) -> bytes:
        if thresholds:
            content = content.replace(b"[data]\n", b"[data]\n" + text)
        return (
            content.replace(b"\n[data]\n", b"\n[gate]\n" + text + b"\n[data]\n")
            if gate
            else content
        )

    return {"stress_tests/checks.toml": change}


@pytest.fixture
def classifier():
    return Classifier(network(), workers=1)


@pytest.fixture
def plain(shared):
    return shared.once("--original", MODEL)


@pytest.fixture
def spectrograms(shared):
    return shared.once("--original", MODEL, files=declared(DECLARED), overview=True)


@pytest.mark.usefixtures("unchecked")
def test_by_default_nothing_changes(shared, plain):
    named = shared.once(
        "--original",
        MODEL,
        "--stress-set=border=constant:0",
        "--stress-set=augmentation.rotate=10",
        "--stress-set=augmentation.shift_x=2",
        "--stress-set=augmentation.shift_y=2",
        "--stress-set=augmentation.flip=true",
    )
    assert named.report["checks"] == plain.report["checks"]
    assert plain.report["data"]["augmentation"] == {
        "rotate": 10,
        "shift_x": 2,
        "shift_y": 2,
        "flip": True,
    }
    assert plain.report["data"]["border"] == "constant:0"


@pytest.mark.usefixtures("unchecked")
def test_checks_measure_within_the_declared_range_and_border(
    shared, plain, spectrograms, classifier
):
    images = replace(shared.images, domain=DECLARED)
    assert spectrograms.report["data"]["augmentation"] == {
        "rotate": 0,
        "shift_x": 3,
        "shift_y": 0,
        "flip": False,
    }
    assert spectrograms.report["data"]["border"] == "edge"
    values = {name: check["value"] for name, check in spectrograms.checks.items()}

    grid = augmentation_range_poses(TIME_ALONE)
    right = np.stack([classifier.predict(images, pose).correct for pose in grid])
    assert values["robust"] == right.all(axis=0).mean() > plain.checks["robust"]["value"]
    assert (
        values["rotate-ccw-010"]
        == accuracy(classifier.predict(shared.images, BorderedPose(10, border="edge"))).value
    )
    assert values["rotate-ccw-010"] != plain.checks["rotate-ccw-010"]["value"]
    assert values["clean"] == plain.checks["clean"]["value"]
    assert values["break-shift"] != plain.checks["break-shift"]["value"]
    assert values["break-rotation"] is None
    assert spectrograms.checks["break-rotation"]["status"] == "not_applicable"
    assert "±3 px to the sides" in spectrograms.checks["break-rotation"]["detail"]
    assert "in 2 views" in spectrograms.checks["equivalence-corners"]["detail"]
    assert "in 8 views" in plain.checks["equivalence-corners"]["detail"]


@pytest.mark.usefixtures("unchecked")
def test_the_overview_compares_at_the_corners_of_the_range(spectrograms, shared, classifier):
    images = replace(shared.images, domain=DECLARED)
    overview = spectrograms.report["overview"]
    sample = sample_up_to(images, overview["sample"])
    corners = [classifier.predict(sample, Pose(0, dx, 0)).correct.mean() for dx in (-3, 3)]
    assert overview["augmentation"] == {"rotate": 0, "shift_x": 3, "shift_y": 0, "flip": False}
    assert overview["models"][0]["corners"]["value"] == pytest.approx(np.mean(corners))
    assert "accuracy at the corners of ±3 px to the sides" in spectrograms.summary.lower()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        (
            declared(DECLARED, thresholds=False),
            (),
            "made for augmentation ±10°, ±2 px, flipped; border constant:0, and",
        ),
        (declared(DECLARED, gate=False), (), 'or write augmentation = { "rotate" = 0'),
        (
            {},
            ("--stress-set=border=mean",),
            "has augmentation ±10°, ±2 px, flipped; border mean. Calibrate all",
        ),
        (
            declared(Domain(border="edge")),
            ("--stress-set=border=mean",),
            'or write border = "edge" below [gate]',
        ),
    ],
    ids=["declared-later", "thresholds-of-another", "for-one-run", "another-border"],
)
def test_thresholds_of_another_range_or_border_are_refused(shared, files, options, said):
    ran = shared.once(*options, files=files)
    assert ran.ending == (4, "error")
    assert ran.report["error_codes"] == ["CHECKS"]
    assert said.replace('"rotate"', "rotate") in ran.why


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("border=wrap", "expected constant:V, edge, reflect or mean"),
        ("augmentation.rotate=-1", "expected a number of at least 0, found -1"),
        ("augmentation.turn=1", "unknown key 'turn'"),
        ("augmentation=10", "augmentation 10"),
    ],
)
def test_an_invalid_declaration_is_refused(shared, option, said):
    ran = shared.once(f"--stress-set={option}")
    assert ran.ending == (4, "error")
    assert said in ran.why


def test_self_checks_hold_under_every_border(zoo):
    for border in ("constant:1", "edge", "reflect", "mean"):
        ran = zoo.once(files=declared(Domain(border=border)), rows=ROWS)
        assert set(ran.self_checks.values()) <= {"pass", "not_applicable"}
        assert ran.self_checks["identity-equals-clean"] == "pass"


@pytest.mark.zoo(BOUND, tests=TESTS)
def test_recorded_predictions_are_of_the_declared_pixels(zoo):
    """An export has the images of the declared range and border.

    Answers to another export are refused.
    """
    for name, content in declared(DECLARED).items():
        (zoo.root / name).write_bytes(content((zoo.root / name).read_bytes()))
    few = ("--stress-samples", "20")
    with asked_to_record(None, **order(zoo.root / "inputs")):
        assert zoo.run("--stress-plan", *few).ret == 0
    manifest = json.loads((zoo.root / "inputs/manifest.json").read_text())
    under = {entry["perturbation"] for entry in manifest["perturbations"]}
    assert str(BorderedPose(10.0, border="edge")) in under
    assert not any(name.startswith("Pose(") and name != str(Pose()) for name in under)
    recorded = answer(zoo.root / "inputs", zoo.root / MODEL, zoo.root / "answers.npz")
    zoo.run("--candidate", recorded, *few)
    found = {
        name: check["value"]
        for name, check in zoo.once("--candidate", recorded, *few).checks.items()
    }
    live = zoo.once("--candidate", MODEL, *few).checks
    for name in ("rotate-ccw-010", "robust", "break-shift"):
        assert found[name] == live[name]["value"] is not None
    refused = zoo.once("--candidate", recorded, *few, rows=BOUND)
    assert "another augmentation range or border" in refused.why


def test_every_cache_tells_borders_apart(tmp_path):
    """Predictions, searches and maps differ by border, in memory and on disk."""
    images = images_of(60)
    store = Store(tmp_path)
    poses = most_dangerous_first([Pose(), Pose(dx=5), Pose(dx=-5), Pose(dy=5)])
    found = {}
    for border in ("constant:0", "edge", "reflect"):
        own = replace(images, domain=Domain(border=border))
        kept = [Classifier(network(), workers=1, cache=store) for _ in range(2)]
        fresh = Classifier(network(), workers=1)
        for classifier in kept:  # The second one reads what the first has left.
            for each, expected in (
                (classifier.predict(own, Pose(dx=5)), fresh.predict(own, Pose(dx=5))),
                (attend(classifier, own, Pose(dx=5)), attend(fresh, own, Pose(dx=5))),
            ):
                logits = [getattr(side, "predictions", side).answers for side in (each, expected)]
                assert np.array_equal(*logits)
            first = first_failures(classifier, own, poses)
            assert np.array_equal(first.first, first_failures(fresh, own, poses).first)
            assert all(
                pose.border == border for pose in first.poses if isinstance(pose, BorderedPose)
            )
        found[border] = fresh.predict(own, Pose(dx=5)).answers
        seen = unit_range(own.pixels)
        assert torch.equal(
            fresh.inputs(own, Pose(dx=5))(np.arange(len(own))), Pose(dx=5)(seen)
        ) == (border == "constant:0")
    assert not np.array_equal(found["constant:0"], found["edge"])
    assert not np.array_equal(found["edge"], found["reflect"])
    one = Classifier(network(), workers=1)
    in_one = [
        one.predict(replace(images, domain=Domain(border=border)), Pose(dx=5)).answers
        for border in found
    ]
    assert all(
        np.array_equal(mine, found[border]) for mine, border in zip(in_one, found, strict=True)
    )


@pytest.mark.usefixtures("unchecked")
def test_workers_measure_the_declared_pixels(shared, spectrograms):
    parallel = shared.once("--original", MODEL, "-n", "2", files=declared(DECLARED))
    found = {name: check["value"] for name, check in parallel.checks.items()}
    assert found == {name: check["value"] for name, check in spectrograms.checks.items()}


def test_inputs_that_travel_to_another_process_keep_their_border(classifier):
    inputs = classifier.inputs(replace(images_of(8), domain=DECLARED), Pose(dx=3))
    sent = pickle.loads(pickle.dumps(inputs))
    numbers = np.arange(len(sent))
    assert torch.equal(
        sent(numbers), BorderedPose(dx=3, border="edge")(unit_range(images_of(8).pixels))
    )


def test_a_server_gets_the_declared_pixels():
    images, sent = replace(images_of(8), domain=DECLARED), []

    def predict(pixels):
        sent.append(pixels)
        return np.zeros((len(pixels), 4), np.float32)

    server = SimpleNamespace(
        identity=Identity("http", {"url": "recording"}, lasting=False),
        provides=Provides("logits"),
        predict=predict,
        close=lambda: None,
    )
    Classifier(PredictorModel(server, classes=images.classes), workers=1).predict(
        images, Pose(dx=3)
    )
    expected = BorderedPose(dx=3, border="edge")(unit_range(images.pixels)).numpy()
    assert np.array_equal(np.concatenate(sent)[: len(images)], expected)
