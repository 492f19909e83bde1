"""The overview measures what it says, each network once, and survives the way to the controller."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from overviews import CHANGES, overview
from overviews import model as described
from panels import view_of
from zoo import images_of, network

from harness.base.errors import InputError
from harness.base.records import as_json, as_plain, read_json, read_record
from harness.data import stratified_sample
from harness.inference import Classifier, RoleModel
from harness.measures import calibration_error
from harness.measures.failures import UNIQUE_CONFIDENT
from harness.measures.flips import flips
from harness.measures.panel.predictions import PanelPredictions
from harness.networks.checkpoints import Record
from harness.perturb import IDENTITY, Pose
from harness.report.html import comparison_page
from harness.report.tables import comparison_lines
from harness.run.overview import Overview, ReliabilityBin
from harness.run.side_by_side import measure_overview

CORNERS = [Pose(a, b, c) for a in (-10.0, 10.0) for b in (-2.0, 2.0) for c in (-2.0, 2.0)]
FLIPS = {
    "net": 0.0,
    "interval": (0.0, 0.0),
    "mcnemar_p": 1.0,
    "new_failures": [],
    "fixed_failures": [],
}
FLIPS |= {"by_class": {}, "by_pair": {}}


def role(
    name="candidate", *, sha256="same", record=None, path="model.safetensors", **facts
) -> RoleModel:
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
    return models, measure_overview(models, images)


def test_models_of_equal_weights_are_measured_once(measured):
    _, some = measured
    assert [model.roles for model in some.models] == [("candidate", "incumbent"), ("baseline",)]


def test_clean_numbers_are_those_of_the_predictions(images, measured):
    models, some = measured
    predictions = models["candidate"].predict(images)
    candidate = some.models[0]
    assert candidate.accuracy.value == pytest.approx(predictions.correct.mean())
    assert candidate.accuracy.low < candidate.accuracy.value < candidate.accuracy.high
    counts = np.array(candidate.confusion)
    assert counts.sum() == candidate.accuracy.n == 400
    for true, row in enumerate(counts):
        taken = predictions.predicted[predictions.labels == true]
        assert row.tolist() == [int((taken == label).sum()) for label in range(4)]
        assert candidate.per_class[true].value == pytest.approx(row[true] / row.sum())


def test_accuracy_at_corners_is_the_mean_on_a_sample(images, measured):
    models, some = measured
    assert some.sample == 200
    sample = stratified_sample(images, 200)
    mean = np.mean([models["baseline"].predict(sample, pose).correct.mean() for pose in CORNERS])
    assert some.models[1].corners.value == pytest.approx(mean)
    assert some.models[1].corners.n == 200


def test_failures_are_counted_by_kind_at_rest_and_moved(images, measured):
    models, some = measured
    clean = models["candidate"].predict(images)
    mine, theirs = some.models
    assert mine.failures[0].kind == "any error"
    assert mine.failures[0].count == (~clean.correct).sum()
    assert mine.failures[0].moved == pytest.approx(1 - mine.corners.value)
    assert [kind.kind for kind in theirs.failures] == [kind.kind for kind in mine.failures]
    for kind in mine.failures[2:]:
        first, second = (images.classes.index(name) for name in kind.kind.split("↔"))
        assert kind.count == mine.confusion[first][second] + mine.confusion[second][first]


def test_what_persists_is_wrong_at_most_of_the_corners_and_rest(images, measured):
    models, some = measured
    sample = stratified_sample(images, 200)
    wrong = sum(~models["candidate"].predict(sample, pose).correct for pose in (IDENTITY, *CORNERS))
    expected = {int(sample.positions[at]): int(wrong[at]) for at in np.flatnonzero(wrong > 4.5)}
    found = some.models[0].persistent
    views = [models["candidate"].predict(sample, pose) for pose in (IDENTITY, *CORNERS)]
    sure = np.sum(
        [np.where(view.correct, 0, view.confidence) for view in views], axis=0
    ) / np.maximum(wrong, 1)
    numbers = sample.positions.tolist()
    assert all(
        row.confidence == pytest.approx(sure[numbers.index(row.index)], abs=1e-5)
        for row in found.rows
    )
    assert expected
    assert {row.index: row.wrong_at for row in found.rows} == expected
    assert (found.n, found.poses) == (200, 9)


def test_changes_are_counted_against_the_reference_and_the_new_ones_named(images, measured):
    models, some = measured
    mine, theirs = (models[name].predict(images) for name in ("candidate", "baseline"))
    new = np.flatnonzero(theirs.correct & ~mine.correct)
    changes = some.changes
    assert changes.against == "baseline"
    assert (changes.by_kind[0].new, changes.by_kind[0].shared) == (
        len(new),
        (~theirs.correct & ~mine.correct).sum(),
    )
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


def test_what_is_left_out_is_named_and_asked_of_no_model(images):
    model = role()
    some = measure_overview({"candidate": model}, images, corners=199, confidences=199)
    (found,) = some.models
    assert (found.corners, found.persistent, found.calibration_error, found.reliability) == (
        None,
        None,
        None,
        (),
    )
    assert found.accuracy.n == 400
    assert found.failures[0].moved is None
    assert some.left_out == ("accuracy rotated and translated", "expected calibration error")
    assert sent_and_read(some) == some
    page = comparison_page(replace(some, models=some.models * 2), FLIPS, {}, {})
    said = (
        "Not measured, since 200 images, the fewest that tell enough, take too long: accuracy "
        "rotated"
    )
    assert said in page
    assert comparison_lines(
        replace(some, models=some.models * 2), flips(model.predict(images), model.predict(images))
    )


def test_images_that_are_too_small_for_the_corners_are_not_measured_there(images):
    """The images have 8 x 8 pixels, and 2 px are a quarter of a side."""
    small = replace(images, pixels=images.pixels[:, :, ::2, ::2].contiguous())
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    model = replace(role(), classifier=Classifier(linear.eval(), workers=1))

    some = measure_overview({"candidate": model}, small)

    assert (some.sample, some.models[0].corners, some.models[0].persistent) == (0, None, None)
    assert some.left_out == ()
    page = comparison_page(replace(some, models=some.models * 2), FLIPS, {}, {})
    assert "Not measured at the corners: 2 px, the shift at the corners" in page
    assert "accuracy at the corners" not in page.lower()


def test_a_model_alone_is_held_against_none(images):
    assert measure_overview({"candidate": role()}, images).changes is None


def test_reliability_is_counted_in_bins_of_confidence(images, measured):
    models, some = measured
    confidence = models["candidate"].predict(images).confidence
    bins = some.models[0].reliability
    assert [item.count for item in bins] == np.histogram(confidence, np.linspace(0, 1, 16))[
        0
    ].tolist()
    assert all(item == ReliabilityBin(0, None, None) for item in bins if not item.count)


def test_the_calibration_error_weighs_gaps_by_their_predictions(images, measured):
    models, some = measured
    clean = some.models[0]
    assert clean.calibration_error == calibration_error(models["candidate"].predict(images)).value
    gaps = [
        item.count * abs(item.accuracy - item.confidence)
        for item in clean.reliability
        if item.count
    ]
    assert clean.calibration_error == pytest.approx(sum(gaps) / 400, abs=1e-6)


def test_a_class_without_images_has_no_accuracy(images):
    some = images.take(torch.nonzero(images.labels != 2).flatten())
    (found,) = measure_overview({"candidate": role()}, some).models
    assert found.per_class[2] is None
    assert all(found.per_class[at] for at in (0, 1, 3))


EPOCH = {
    "epoch": 1,
    "training_loss": 0.5,
    "training_accuracy": 0.8,
    "validation_loss": 0.6,
    "validation_accuracy": 0.7,
}


@pytest.mark.parametrize(
    ("history", "found"),
    [
        ((EPOCH,), 1),
        (({"epoch": "<script>"},), 0),
        (({**EPOCH, "training_loss": "high"},), 0),
        ((), 0),
    ],
    ids=["whole", "of-other-keys", "of-words", "none"],
)
def test_the_history_is_that_of_the_record_if_it_makes_sense(images, history, found):
    record = Record("fashion-cnn", {}, images.classes, history=history)
    some = measure_overview({"candidate": role(record=record)}, images)
    assert len(some.models[0].history) == found


@pytest.mark.parametrize(
    ("content", "found"), [(json.dumps([EPOCH, EPOCH]), 2), ("{", 0), ("[1]", 0)]
)
def test_without_a_record_the_history_beside_the_checkpoint_counts(
    images, tmp_path, content, found
):
    (tmp_path / "model.history.json").write_text(content)
    some = measure_overview({"candidate": role(path=tmp_path / "model.pth")}, images)
    assert len(some.models[0].history) == found


def sent_and_read(some: Overview) -> Overview:
    return read_json(Overview, as_json(some), where="a worker's overview")


def test_the_way_to_the_controller_changes_nothing(measured):
    for sent in (
        measured[1],
        overview(changes=CHANGES),
        overview(described(history=(), persistent=None)),
    ):
        assert sent_and_read(sent) == sent


def test_progress_is_reported_to_the_end(images):
    steps = []
    measure_overview(
        {"candidate": role()}, images, on_measured=lambda done, total: steps.append((done, total))
    )
    assert steps == [(1, 1)]


def test_what_no_overview_has_is_refused():
    sent = as_plain(overview())
    sent["models"][0]["mood"] = "good"
    with pytest.raises(InputError, match=r"a worker's overview.*unknown key 'mood'"):
        read_record(Overview, sent, where="a worker's overview")


def knowing(images, *, reference_models: int) -> PanelPredictions:
    """Predictions of reference models that are all wrong on the first image only."""
    labels = images.labels.numpy()
    mean = np.eye(len(images.classes), dtype=np.float32)[
        np.where(np.arange(len(labels)) == 0, 1 - labels, labels)
    ]
    view = view_of(
        np.where(np.arange(len(labels)) == 0, reference_models, 0), 0.96 * mean + 0.01, labels
    )
    members = tuple(f"{number:064x}" for number in range(reference_models))
    return PanelPredictions(images.sha256, images.classes, members, {repr(IDENTITY): view})


def test_a_sample_has_the_label_errors_of_the_whole_split(images):
    facts = {
        "panel_predictions": knowing(images, reference_models=20),
        "labels": images.labels.numpy(),
    }
    sample = images.take(torch.arange(0, 400, 4))
    found = [
        measure_overview({"candidate": role()}, some, **facts).label_errors
        for some in (images, sample)
    ]
    assert [row.index for row in found[0].rows] == [0]
    assert found[1].rows == found[0].rows


def test_two_reference_models_have_errors_but_no_suspect_labels(images):
    some = measure_overview(
        {"candidate": role()}, images, panel_predictions=knowing(images, reference_models=2)
    )
    assert some.label_errors is None
    assert "at least 3 reference models; this panel has 2" in some.label_errors_missing
    assert UNIQUE_CONFIDENT in {each.kind for each in some.models[0].failures}
    assert sent_and_read(some) == some
