"""The consensus set and a model's errors on it: by hand, and as a file that is read or refused."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from panels import view_of

from harness.base.errors import InputError, NotApplicableError, NotRecordedError
from harness.checks import Check
from harness.data import LabelledImages
from harness.features.consensus.measures import (
    consensus_set_errors,
    find_consensus_set_errors,
    worst_class_consensus_set_errors,
)
from harness.inference import Predictions
from harness.measures.panel.label_errors import owners
from harness.measures.panel.predictions import (
    NOT_ASKED,
    PanelPredictions,
    PanelView,
    read_panel_predictions,
)
from harness.perturb import IDENTITY, HorizontalFlip

CLASSES = ("cat", "dog", "fox")
LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
IMAGES = LabelledImages(
    torch.arange(32, dtype=torch.uint8).reshape(8, 1, 2, 2),
    LABELS,
    CLASSES,
    "hand",
    "test",
    torch.arange(8),
)
MEMBERS = ("a", "b", "c")
#                   0  1  2  3  4  5  6  7
AT_REST = np.array([0, 0, 1, 0, 3, 0, 0, 2])
MIRRORED = np.array([0, 1, 1, 0, 3, 0, NOT_ASKED, NOT_ASKED])
"""Number of three reference models that are wrong about each image."""


def view(wrong, sureness=0.9) -> PanelView:
    mean = np.full((8, 3), (1 - sureness) / 2, dtype=np.float32)
    mean[np.arange(8), LABELS] = sureness
    return view_of(wrong, mean, LABELS)


@pytest.fixture
def panel_predictions() -> PanelPredictions:
    views = {repr(IDENTITY): view(AT_REST), repr(HorizontalFlip()): view(MIRRORED, 0.6)}
    return PanelPredictions(IMAGES.sha256, CLASSES, MEMBERS, views)


def answers(predicted, confidence=0.8, *, of=IMAGES, under=IDENTITY) -> Predictions:
    """Predictions that give each image this class with this confidence, the rest shared equally."""
    confidence = np.broadcast_to(confidence, len(predicted))
    shares = np.repeat((1 - confidence)[:, None] / 2, 3, axis=1)
    shares[np.arange(len(predicted)), predicted] = confidence
    return Predictions(np.log(shares).astype(np.float32), of, under)


def test_lost_is_what_everyone_gets_right_and_the_model_does_not(panel_predictions):
    """The consensus set is 0, 1, 3, 5 and 6. Some reference model gets 2, 4 and 7 wrong, too."""
    measured = consensus_set_errors(
        find_consensus_set_errors([answers([0, 1, 1, 1, 0, 1, 0, 0])], panel_predictions)
    )
    assert (measured.value, measured.n) == (2, 8)
    assert sorted(measured.failures.tolist()) == [1, 6]
    assert (
        measured.detail
        == "of 5 that each of 3 reference models predicts correctly; most often cat→dog, 1"
    )
    lost = find_consensus_set_errors(
        [answers([1, 2, 0, 0, 1, 1, 2, 2], [0.7, *[0.8] * 7])], panel_predictions
    )
    measured = worst_class_consensus_set_errors(lost)
    assert (measured.value, measured.n, measured.failures.tolist()) == (2, 3, [1, 0]), (
        "of three, as are of a class"
    )
    assert measured.detail == "of cat, of 3 of all classes"
    of_foxes = find_consensus_set_errors([answers([0, 0, 0, 1, 1, 1, 0, 2])], panel_predictions)
    measured = worst_class_consensus_set_errors(of_foxes)
    assert (measured.n, measured.counted) == (3, 2), (
        "n is that of the largest class for every model; foxes are two"
    )
    verdict = Check("worst", "consensus", "worst_class_consensus_set_errors", "at_most").judge(
        measured
    )
    assert "(n=2, 95% CI" in verdict.explain()
    nothing = find_consensus_set_errors([answers(LABELS.tolist())], panel_predictions)
    assert worst_class_consensus_set_errors(nothing).value == 0


def test_several_perturbations_add_up_and_each_image_is_shown_once(panel_predictions):
    """Image 0 is lost twice: clean, where reference models are surest, and flipped.

    Image 3 is lost flipped alone.
    """
    sample = IMAGES.take(torch.tensor([0, 3, 5]))
    mirrored = answers([2, 0, 1], 0.9, of=sample, under=HorizontalFlip())
    lost = find_consensus_set_errors(
        [answers([1, 0, 0, 1, 1, 1, 2, 2]), mirrored], panel_predictions
    )
    measured = consensus_set_errors(lost)
    assert (measured.value, measured.n, lost.known) == (3, 11, 8)
    assert measured.failures.tolist() == [0, 3], "0.9 * 0.8 at rest against 0.6 * 0.9"
    assert measured.each.tolist() == [2, 0, 0, 1, 0, 0, 0, 0]
    assert worst_class_consensus_set_errors(lost).each.tolist() == [2, 0, 0, 0, 0, 0, 0, 0], (
        "of the cats"
    )
    once = find_consensus_set_errors([mirrored], panel_predictions)
    assert consensus_set_errors(once).each is None, "to which no image adds twice"
    assert [lost.perturbation_of(at) for at in (0, 3)] == [IDENTITY, HorizontalFlip()]


def test_a_member_is_held_against_the_others(panel_predictions):
    """The others' set is larger than that of all K.

    With K = 3 its one error counts 2/3; with K = 8 it counts 1.
    """
    member = answers([0, 0, 1, 1, 0, 1, 2, 0])
    assert find_consensus_set_errors([member], panel_predictions).pairs.sum() == 0, (
        "all know what each of them does"
    )
    lost = find_consensus_set_errors([member], panel_predictions.without("b"))
    assert (lost.pairs.sum(), lost.known, lost.reference_models, lost.positions.tolist()) == (
        1,
        6,
        2,
        [2],
    )
    assert (
        find_consensus_set_errors([member], panel_predictions.without("another")).pairs.sum() == 0
    )
    assert consensus_set_errors(lost).value == pytest.approx(2 / 3)
    assert worst_class_consensus_set_errors(lost).value == 1
    many = replace(panel_predictions, models=tuple("abcdefgh"))
    assert [
        replace(panel_predictions, models=tuple("abcdefgh"[:count]), excluded=excluded).correction
        for count, excluded in ((2, "a"), (3, "a"), (3, None), (7, "a"), (8, "a"))
    ] == pytest.approx([1, 2 / 3, 1, 6 / 7, 1])
    assert consensus_set_errors(find_consensus_set_errors([member], many.without("b"))).value == 1
    alone = replace(
        panel_predictions, models=("a",), views={repr(IDENTITY): view(np.minimum(AT_REST, 1))}
    )
    assert (
        find_consensus_set_errors([answers([1] * 8)], alone.without("another")).reference_models
        == 1
    )
    for ask in (
        lambda known: find_consensus_set_errors([answers([1] * 8)], known),
        lambda known: owners(answers([1] * 8), known),
    ):
        with pytest.raises(
            NotApplicableError, match="the model itself is the only reference model"
        ):
            ask(alone.without("a"))


def test_what_was_not_asked_is_not_judged(panel_predictions):
    with pytest.raises(
        NotApplicableError, match=r"of 2 of 8 images \(flipped left to right\): the panel"
    ):
        find_consensus_set_errors([answers([0] * 8, under=HorizontalFlip())], panel_predictions)
    other = replace(panel_predictions, views={"other": panel_predictions.view()})
    with pytest.raises(
        NotApplicableError, match=r"no panel predictions of these images \(clean\); .*calibrate"
    ):
        find_consensus_set_errors([answers([0] * 8)], other)
    with pytest.raises(InputError, match="the check names no perturbation; add some"):
        find_consensus_set_errors([], panel_predictions)
    nothing = replace(panel_predictions, views={repr(IDENTITY): view(np.maximum(AT_REST, 1))})
    with pytest.raises(NotRecordedError, match="the 3 reference models agree on no image"):
        find_consensus_set_errors([answers([0] * 8)], nothing)


def test_what_is_written_is_read(panel_predictions, tmp_path):
    (tmp_path / "k.npz").write_bytes(panel_predictions.as_bytes())
    read = read_panel_predictions(tmp_path / "k.npz")
    assert (read.data_sha256, read.classes, read.models) == (IMAGES.sha256, CLASSES, MEMBERS)
    for name, view in panel_predictions.views.items():
        assert read.views[name].wrong.tolist() == view.wrong.tolist()
        assert read.views[name].likeliest.tolist() == view.likeliest.tolist()
        np.testing.assert_allclose(read.views[name].of_label, view.of_label, atol=1e-4)
        np.testing.assert_allclose(read.views[name].shares, view.shares, atol=1e-4)
    assert read.as_bytes() == (tmp_path / "k.npz").read_bytes(), "written again it is the same"
    tiny = np.geomspace(1e-7, 1e-2, 8).astype(np.float32)
    mean = np.stack([tiny, tiny[::-1], 1 - tiny - tiny[::-1]], axis=1)
    (tmp_path / "k.npz").write_bytes(
        replace(
            panel_predictions, views={repr(IDENTITY): view_of(AT_REST, mean, [0] * 8)}
        ).as_bytes()
    )
    read = read_panel_predictions(tmp_path / "k.npz").view()
    np.testing.assert_allclose(read.of_label, tiny, rtol=0.1)
    np.testing.assert_allclose(read.shares, -np.sort(-mean, axis=1), rtol=0.1)


def spoiled(**facts):
    def spoil(tables):
        head = {**json.loads(tables["panel_predictions"].tobytes()), **facts}
        return {**tables, "panel_predictions": np.frombuffer(json.dumps(head).encode(), np.uint8)}

    return spoil


def with_table(name, values, dtype="<u2"):
    return lambda tables: {**tables, f"0.{name}": np.array(values, dtype=dtype)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoiled(schema=2), "schema 2, and this version reads schema 4"),
        (spoiled(protocol=9), "protocol 9, this is 1"),
        (spoiled(models=["a"]), "not predictions of 1 models for 8 images"),
        (
            spoiled(classes=list(CLASSES[:2])),
            r"expected a table likeliest of 16-bit numbers, \(8, 2\)",
        ),
        (spoiled(n=9), r"expected a table wrong of 16-bit numbers, \(9,\)"),
        (spoiled(views=[]), "views"),
        (spoiled(views=["a", "b", "c"]), "c: expected a table wrong"),
        (spoiled(more=1), "unknown key 'more'"),
        (with_table("wrong", [0] * 8, "int64"), "expected a table wrong of 16-bit numbers"),
        (with_table("wrong", [None] * 8, object), "never unpickled"),
        (with_table("likeliest", [[3] * 3] * 8), "not predictions of 3 models for 8 images"),
        (with_table("shares", [[65_535] * 3] * 8), "not predictions of 3 models for 8 images"),
        (with_table("mean", [[0] * 3] * 8), "expected tables of mean probabilities of 3 classes"),
        (with_table("soft", [0.0], "<f4"), "expected tables of mean probabilities of 3 classes"),
        (lambda _: {"images": np.zeros(3)}, "not panel predictions"),
    ],
)
def test_a_spoiled_file_is_refused_with_what_to_do(panel_predictions, tmp_path, spoil, message):
    path = tmp_path / "k.npz"
    np.savez(path, **spoil(dict(np.load(io.BytesIO(panel_predictions.as_bytes())))))
    with pytest.raises(InputError, match=message) as refused:
        read_panel_predictions(path)
    assert "k.npz" in str(refused.value)
    assert "harness calibrate" in str(refused.value)


@pytest.mark.parametrize("name", ["nothing.npz", ".", "cut.npz"])
def test_a_file_that_cannot_be_read_is_refused(panel_predictions, tmp_path, name):
    (tmp_path / "cut.npz").write_bytes(panel_predictions.as_bytes()[:-20])
    with pytest.raises(InputError, match="harness calibrate"):
        read_panel_predictions(tmp_path / name)
