"""The overview measures what it says, each network once, and survives the way to the controller."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from overviews import CHANGES, overview
from overviews import model as described
from panels import view_of
from zoo import images_of, network

from harness.base.errors import InputError
from harness.inference import Classifier, Predictions, RoleModel
from harness.inference.search import breaking
from harness.measures import calibration_error
from harness.measures.failures import UNIQUE_CONFIDENT
from harness.measures.flips import flips
from harness.measures.panel.predictions import PanelPredictions
from harness.networks.checkpoints import Record
from harness.perturb import IDENTITY, Pose
from harness.perturb.backgrounds import SIDES, Covered
from harness.perturb.grids import PATHS
from harness.report.html import comparison_page
from harness.report.tables import comparison_lines
from harness.run.overview import (
    PARTS,
    Clean,
    Failing,
    Looking,
    ModelOverview,
    Moved,
    Overview,
    ReliabilityBin,
    RobustAccuracy,
    Shifted,
    Surviving,
    Training,
    Turned,
    measure_overview,
    reliability,
)

FLIPS = {"net": 0.0, "interval": (0.0, 0.0), "mcnemar_p": 1.0, "new_failures": [], "fixed_failures": []}
FLIPS |= {"by_class": {}, "by_pair": {}}


def role(name="candidate", *, sha256="same", record=None, path="model.safetensors", **facts) -> RoleModel:
    classifier = Classifier(network(**facts), workers=1)
    return RoleModel(name, Path(path), "file", sha256, "fashion-cnn", record, classifier)


@pytest.fixture(scope="module")
def images():
    return images_of(400)


@pytest.fixture(scope="module")
def measured(images):
    models = {
        "candidate": role(jitter=0.5, sha256="own"),
        "baseline": role("baseline", sha256="plain"),
        "incumbent": role("incumbent", sha256="own", jitter=0.5),
    }
    probe = images.take(torch.arange(0, 400, 4))
    some = measure_overview(models, images, survival={"candidate": probe}, robust={"baseline": probe})
    return models, probe, some


def test_models_of_equal_weights_are_measured_once(measured):
    _, _, some = measured
    assert [model.roles for model in some.models] == [("candidate", "incumbent"), ("baseline",)]


def test_clean_numbers_are_those_of_the_predictions(images, measured):
    models, _, some = measured
    predictions = models["candidate"].predict(images)
    candidate = some.models[0]
    assert candidate[Clean].accuracy.value == pytest.approx(predictions.correct.mean())
    assert candidate[Clean].accuracy.low < candidate[Clean].accuracy.value < candidate[Clean].accuracy.high
    counts = np.array(candidate[Clean].confusion)
    assert counts.sum() == candidate[Clean].accuracy.n == 400
    for true, row in enumerate(counts):
        taken = predictions.predicted[predictions.labels == true]
        assert row.tolist() == [int((taken == label).sum()) for label in range(4)]
        assert candidate[Clean].per_class[true].value == pytest.approx(row[true] / row.sum())


def test_curves_and_maps_are_accuracies_of_the_sample_in_these_poses(images, measured):
    models, _, some = measured
    from harness.data import stratified_sample

    assert some.sample == 200
    sample = fewer = stratified_sample(images, 200)
    at = some.degrees.index(10.0)
    assert some.models[1][Turned].rotation[at].value == models["baseline"].predict(sample, Pose(10.0)).correct.mean()
    row, column = some.shifts.index(2.0), some.shifts.index(-4.0)
    right = models["baseline"].predict(fewer, Pose(dx=-4.0, dy=2.0)).correct.mean()
    assert some.models[1][Shifted].shift[row][column].value == right
    corners = [Pose(a, b, c) for a in (-10.0, 10.0) for b in (-2.0, 2.0) for c in (-2.0, 2.0)]
    mean = np.mean([models["baseline"].predict(sample, pose).correct.mean() for pose in corners])
    assert some.models[1][Moved].corners.value == pytest.approx(mean)
    assert some.models[1][Moved].corners.n == 200


def test_failures_are_counted_by_kind_at_rest_and_moved(images, measured):
    models, _, some = measured
    clean = models["candidate"].predict(images)
    mine, theirs = some.models
    assert mine[Failing].failures[0].kind == "any error"
    assert mine[Failing].failures[0].count == (~clean.correct).sum()
    assert mine[Failing].failures[0].moved == pytest.approx(1 - mine[Moved].corners.value)
    assert [kind.kind for kind in theirs[Failing].failures] == [kind.kind for kind in mine[Failing].failures]
    for kind in mine[Failing].failures[2:]:
        first, second = (images.classes.index(name) for name in kind.kind.split("↔"))
        assert kind.count == mine[Clean].confusion[first][second] + mine[Clean].confusion[second][first]


def test_what_persists_is_wrong_at_most_of_the_corners_and_rest(images, measured):
    from harness.data import stratified_sample

    models, _, some = measured
    sample = stratified_sample(images, 200)
    corners = [Pose(a, b, c) for a in (-10.0, 10.0) for b in (-2.0, 2.0) for c in (-2.0, 2.0)]
    wrong = sum(~models["candidate"].predict(sample, pose).correct for pose in (IDENTITY, *corners))
    expected = {int(sample.positions[at]): int(wrong[at]) for at in np.flatnonzero(wrong > 4.5)}
    found = some.models[0][Failing].persistent
    views = [models["candidate"].predict(sample, pose) for pose in (IDENTITY, *corners)]
    sure = np.sum([np.where(view.correct, 0, view.confidence) for view in views], axis=0) / np.maximum(wrong, 1)
    numbers = sample.positions.tolist()
    assert all(row.confidence == pytest.approx(sure[numbers.index(row.index)], abs=1e-5) for row in found.rows)
    assert expected
    assert {row.index: row.wrong_at for row in found.rows} == expected
    assert (found.n, found.poses) == (200, 9)


def test_changes_are_counted_against_the_reference_and_the_new_ones_named(images, measured):
    models, _, some = measured
    mine, theirs = (models[name].predict(images) for name in ("candidate", "baseline"))
    new = np.flatnonzero(theirs.correct & ~mine.correct)
    changes = some.changes
    assert changes.against == "baseline"
    assert (changes.by_kind[0].new, changes.by_kind[0].shared) == (len(new), (~theirs.correct & ~mine.correct).sum())
    named = [each.candidate.index for each in changes.new_failures]
    assert set(named) <= set(new)
    assert len(named) == min(len(new), 27)
    sure = [each.candidate.confidence for each in changes.new_failures]
    assert sure == sorted(sure, reverse=True)
    assert all(each.other.predicted == each.other.true for each in changes.new_failures)
    gone = [each.candidate.index for each in changes.fixed_failures]
    assert set(gone) <= set(np.flatnonzero(mine.correct & ~theirs.correct).tolist())
    assert len(gone) == min(changes.by_kind[0].fixed, 27)
    assert all(each.candidate.predicted == each.candidate.true for each in changes.fixed_failures)


@pytest.mark.parametrize("left", [Moved, Turned, Shifted, Looking])
def test_a_part_that_is_left_out_is_named_and_asked_of_no_model(images, left):
    model = role()
    some = measure_overview({"candidate": model}, images, survival={}, robust={}, without=[left], confidences=0)
    (found,) = some.models
    assert found[left] == left()
    assert found[Clean].calibration_error is None
    assert found[Clean].accuracy.n == 400
    assert (found[Failing].failures[0].moved is None) is (left is Moved)
    titles = [part.title for part in PARTS if part.record is left]
    assert some.left_out == (*titles, "expected calibration error")
    assert Overview.from_wire(some.as_wire()) == some
    page = comparison_page(replace(some, models=some.models * 2), FLIPS, {}, {})
    assert f"Not measured, since 200 images, the fewest that tell enough, take too long: {titles[0]}, expected" in page
    assert comparison_lines(replace(some, models=some.models * 2), flips(model.predict(images), model.predict(images)))


def test_a_model_alone_is_held_against_none(images):
    assert measure_overview({"candidate": role()}, images, survival={}, robust={}).changes is None


def test_searches_are_made_where_they_are_asked_for(measured):
    models, probe, some = measured
    candidate, baseline = some.models
    assert candidate[RobustAccuracy].robust_accuracy is None
    assert baseline[RobustAccuracy].robust_accuracy.n == 100
    assert baseline[Surviving].survival == ()
    (curve,) = (curve for curve in candidate[Surviving].survival if curve.path == "rotation")
    severities, shares = breaking(models["candidate"].classifier, probe, PATHS["rotation"]).survival()
    assert curve.severities == tuple(severities)
    assert curve.shares == tuple(shares)


@pytest.mark.parametrize("side", SIDES)
def test_covering_blacks_out_one_half(side):
    pixels = torch.ones(2, 1, 5, 6)
    covered = Covered(side)(pixels)
    assert pixels.min() == 1, "the input is left as it was"
    halves = {"left": (slice(None), slice(3)), "right": (slice(None), slice(3, None))}
    halves |= {"upper": (slice(2), slice(None)), "lower": (slice(2, None), slice(None))}
    expected = torch.ones(2, 1, 5, 6)
    expected[:, :, *halves[side]] = 0
    assert torch.equal(covered, expected)


def test_a_model_blind_to_a_side_does_not_change_when_it_is_covered(images):
    class Blind(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, pixels):
            right = torch.arange(16) >= 8
            return self.inner(pixels * right)

    blind = replace(role(), classifier=Classifier(Blind(), workers=1))
    (found,) = measure_overview({"candidate": blind}, images, survival={}, robust={}).models
    assert found[Moved].covered["left"] == 0
    assert found[Moved].covered["right"] > 0.1


def predictions_of(probabilities, labels) -> Predictions:
    images = images_of(len(labels))
    logits = np.log(np.array(probabilities, dtype=np.float32) + 1e-30)
    return Predictions(logits, replace(images, labels=torch.tensor(labels)), IDENTITY)


def test_reliability_counts_by_confidence_with_one_in_the_last_bin():
    sure, unsure = [1.0, 0.0, 0.0, 0.0], [0.55, 0.45, 0.0, 0.0]
    bins = reliability(predictions_of([sure, sure, unsure, unsure], [0, 1, 0, 0]))
    assert {at: item.count for at, item in enumerate(bins) if item.count} == {8: 2, 14: 2}
    assert len(bins) == 15
    assert bins[14].accuracy == 0.5
    assert bins[14].confidence == pytest.approx(1.0)
    assert bins[8].confidence == pytest.approx(0.55, abs=1e-6)
    assert bins[0] == ReliabilityBin(0, None, None)


def test_the_calibration_error_weighs_gaps_by_their_predictions(images, measured):
    models, _, some = measured
    clean = some.models[0][Clean]
    assert clean.calibration_error == calibration_error(models["candidate"].predict(images)).value
    gaps = [item.count * abs(item.accuracy - item.confidence) for item in clean.reliability if item.count]
    assert clean.calibration_error == pytest.approx(sum(gaps) / 400, abs=1e-6)


def test_a_class_without_images_has_no_accuracy(images):
    some = images.take(torch.nonzero(images.labels != 2).flatten())
    (found,) = measure_overview({"candidate": role()}, some, survival={}, robust={}).models
    assert found[Clean].per_class[2] is None
    assert all(found[Clean].per_class[at] for at in (0, 1, 3))


EPOCH = {"epoch": 1, "training_loss": 0.5, "training_accuracy": 0.8, "validation_loss": 0.6, "validation_accuracy": 0.7}


@pytest.mark.parametrize(
    ("history", "found"),
    [((EPOCH,), 1), (({"epoch": "<script>"},), 0), (({**EPOCH, "training_loss": "high"},), 0), ((), 0)],
    ids=["whole", "of-other-keys", "of-words", "none"],
)
def test_the_history_is_that_of_the_record_if_it_makes_sense(images, history, found):
    record = Record("fashion-cnn", {}, images.classes, history=history)
    some = measure_overview({"candidate": role(record=record)}, images, survival={}, robust={})
    assert len(some.models[0][Training].history) == found


@pytest.mark.parametrize(("content", "found"), [(json.dumps([EPOCH, EPOCH]), 2), ("{", 0), ("[1]", 0)])
def test_without_a_record_the_history_beside_the_checkpoint_counts(images, tmp_path, content, found):
    (tmp_path / "model.history.json").write_text(content)
    some = measure_overview({"candidate": role(path=tmp_path / "model.pth")}, images, survival={}, robust={})
    assert len(some.models[0][Training].history) == found


def test_the_way_to_the_controller_changes_nothing(measured):
    _, _, some = measured
    for sent in (
        some,
        overview(changes=CHANGES),
        overview(described(on_object=(), on_object_overall=None, survival=(), history=())),
    ):
        assert Overview.from_wire(json.loads(json.dumps(sent.as_wire()))) == sent


def test_progress_is_reported_to_the_end(images):
    steps = []
    measure_overview(
        {"candidate": role()},
        images,
        survival={},
        robust={},
        on_measured=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(done, len(PARTS)) for done in range(1, len(PARTS) + 1)]


def test_no_two_parts_fill_in_the_same_field():
    names = [field.name for part in PARTS for field in fields(part.record)]
    assert sorted(names) == sorted(set(names))


def test_a_part_that_was_not_measured_is_missed_by_its_name():
    with pytest.raises(KeyError, match="the overview of alone has no part Turned"):
        ModelOverview("alone", (), "", ())[Turned]


def test_what_no_part_of_the_overview_has_is_refused():
    sent = json.loads(overview().as_wire())
    sent["models"][0]["mood"] = "good"
    with pytest.raises(InputError, match="a worker's overview: unknown key 'mood'"):
        Overview.from_wire(json.dumps(sent))


def knowing(images, *, reference_models: int) -> PanelPredictions:
    """Predictions of reference models that are all wrong on the first image and correct on the others."""
    labels = images.labels.numpy()
    mean = np.eye(len(images.classes), dtype=np.float32)[np.where(np.arange(len(labels)) == 0, 1 - labels, labels)]
    view = view_of(np.where(np.arange(len(labels)) == 0, reference_models, 0), 0.96 * mean + 0.01, labels)
    members = tuple(f"{number:064x}" for number in range(reference_models))
    return PanelPredictions(images.sha256, images.classes, members, {repr(IDENTITY): view})


def test_a_sample_has_the_label_errors_of_the_whole_split(images):
    facts = {"panel_predictions": knowing(images, reference_models=20), "labels": images.labels.numpy()}
    sample = images.take(torch.arange(0, 400, 4))
    found = [
        measure_overview({"candidate": role()}, some, survival={}, robust={}, **facts).label_errors
        for some in (images, sample)
    ]
    assert [row.index for row in found[0].rows] == [0]
    assert found[1].rows == found[0].rows


def test_two_reference_models_have_errors_but_no_suspect_labels(images):
    facts = {"survival": {}, "robust": {}, "panel_predictions": knowing(images, reference_models=2)}
    some = measure_overview({"candidate": role()}, images, **facts)
    assert some.label_errors is None
    assert "at least 3 reference models; this panel has 2" in some.label_errors_missing
    assert UNIQUE_CONFIDENT in {each.kind for each in some.models[0][Failing].failures}
    assert Overview.from_wire(some.as_wire()) == some
