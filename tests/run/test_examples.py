"""From a verdict to the images to show.

Which, in which order, in which pose, and as which model sees them.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from panels import view_of
from torch import nn

from harness.checks import Check, Threshold, Verdict
from harness.data import LabelledImages
from harness.features.consensus.measures import consensus_set_errors, find_consensus_set_errors
from harness.inference import Classifier, RoleModel
from harness.inference.search import first_failures
from harness.measures import accuracy, pair_failures, robust_accuracy
from harness.measures.panel.predictions import PanelPredictions
from harness.perturb import IDENTITY, HorizontalFlip, Pose
from harness.perturb.backgrounds import with_background
from harness.perturb.grids import most_dangerous_first
from harness.run.evidence import Evidence
from harness.run.examples import SHOWN, TILES, held_against
from harness.run.session import StressSession

CLASSES = ("dark", "bright")


class Mean(nn.Module):
    """Says bright or dark, with `certainty`; it has no layer to look at."""

    def __init__(self, certainty: float, *, threshold: float = 0.4) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(certainty))
        self.threshold = threshold

    def forward(self, pixels):
        brightness = (pixels.mean((1, 2, 3)) - self.threshold) * self.scale
        return torch.stack([-brightness, brightness], dim=1)


class Convolved(nn.Module):
    """Says bright or dark by the mean of a convolution that passes pixels on.

    Grad-CAM can look at the convolution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.look.weight, 1.0)

    def forward(self, pixels):
        brightness = self.look(pixels).mean((1, 2, 3))
        return torch.stack([0.4 - brightness, brightness - 0.4], dim=1)


def role(name: str, model: nn.Module) -> RoleModel:
    return RoleModel(name, Path(name), name, name, "user", None, Classifier(model, workers=1))


def session_of(levels, labels, *, candidate=None, baseline=None) -> StressSession:
    """A run on plain images of these levels of gray, 8 x 8.

    Their numbers in the full split start at 100.
    """
    pixels = (
        torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    )
    numbers = torch.arange(len(levels)) + 100
    images = LabelledImages(pixels, torch.tensor(labels), CLASSES, "toy", "test", numbers)
    roles = {"candidate": role("candidate", candidate or Mean(5.0))}
    if baseline is not None:
        roles["baseline"] = role("baseline", baseline)
    return StressSession(images, None, roles)


@pytest.fixture
def session() -> StressSession:
    """Six images: 102, dark, is predicted as bright, and 105, bright, as dark.

    The baseline says the opposite.
    """
    return session_of([20, 21, 240, 241, 242, 22], [0, 0, 0, 1, 1, 1], baseline=Mean(-5.0))


def judged(measurement, *, threshold: float | None = 0.99, **keys) -> Verdict:
    hand = None if threshold is None else Threshold(threshold)
    return Check("row", "family", measurement.metric.name, hand=hand, keys=keys).judge(measurement)


def evidence_of(verdict: Verdict, seen) -> Evidence:
    evidence = Evidence()
    evidence.show(verdict, seen)
    return evidence


def predicted(session: StressSession, perturbation=IDENTITY):
    return session.roles["candidate"].predict(session.images, perturbation)


# Pictures.


def beside(metric, **roles) -> str:
    """The name of the model beside the candidate, for networks told apart by their sign."""
    some = session_of([20, 240], [1, 0])
    some.roles.update({name: role(name, Mean(sign)) for name, sign in roles.items()})
    for name, sign in roles.items():
        some.roles[name] = replace(some.roles[name], model_sha256=f"{sign}")
    some.roles["candidate"] = replace(some.roles["candidate"], model_sha256="5.0")
    found = held_against(some, metric)
    return found.role if found else ""


@pytest.mark.parametrize(
    ("roles", "metric", "name"),
    [
        ({"baseline": -5.0, "incumbent": 3.0}, "accuracy", "incumbent"),
        ({"baseline": -5.0, "incumbent": 5.0}, "accuracy", "baseline"),
        ({"baseline": -5.0, "incumbent": 3.0}, "accuracy_gain", "baseline"),
        ({"baseline": -5.0}, "accuracy", "baseline"),
        ({"baseline": 5.0, "incumbent": 5.0}, "accuracy", ""),
        ({}, "accuracy", ""),
    ],
    ids=["incumbent", "is-the-incumbent", "gain", "no-incumbent", "all-the-same", "alone"],
)
def test_the_candidate_stands_beside_an_incumbent_that_differs(roles, metric, name):
    assert beside(metric, **roles) == name


def test_cases_name_the_model_that_they_show_beside_the_candidate(session):
    session.roles["incumbent"] = role("incumbent", Mean(-4.0))
    predictions = predicted(session)
    first, _ = evidence_of(judged(accuracy(predictions)), predictions).examples(session)
    assert (first.name, first.against) == ("candidate", "incumbent")


def test_a_changed_image_comes_with_the_answer_to_the_image_as_it_is(session):
    predictions = predicted(session, Pose(dx=4))
    for shown in evidence_of(judged(accuracy(predictions)), predictions).examples(session):
        at_rest = int(np.flatnonzero(session.images.positions.numpy() == shown.index)[0])
        assert shown.at_rest.predicted == CLASSES[predicted(session).predicted[at_rest]]
        assert shown.at_rest.index == shown.index
    clean = predicted(session)
    assert {
        shown.at_rest for shown in evidence_of(judged(accuracy(clean)), clean).examples(session)
    } == {None}


def test_the_evidence_of_a_failure_are_its_images_as_both_models_see_them(session):
    predictions = predicted(session, Pose(dx=2))
    cases = evidence_of(judged(accuracy(predictions)), predictions).examples(session)
    assert [shown.index for shown in cases] == [105, 102], "the more confident first"
    first = cases[1]
    assert (first.true, first.candidate.answer.predicted, first.other.answer.predicted) == (
        "dark",
        "bright",
        "dark",
    )
    assert first.candidate.answer.confidence == pytest.approx(first.other.answer.confidence)
    assert sum(first.candidate.answer.probabilities) == pytest.approx(1)
    assert (first.classes, first.pose) == (CLASSES, "shifted 2 px right")
    assert first.original.tolist() == np.full((8, 8, 1), 240).tolist()
    assert first.seen[:, :2].max() == 0, "shifted right by two pixels"
    assert first.seen[:, 2:].tolist() == np.full((8, 6, 1), 240).tolist()


@pytest.mark.parametrize(
    ("perturbation", "words"),
    [(IDENTITY, ""), (HorizontalFlip(), "flipped left to right")],
    ids=["clean", "mirrored"],
)
def test_a_case_says_how_its_image_was_changed(session, perturbation, words):
    predictions = predicted(session, perturbation)
    cases = evidence_of(judged(accuracy(predictions)), predictions).examples(session)
    assert {shown.pose for shown in cases} == {words}


@pytest.mark.parametrize("threshold", [0.1, None], ids=["passed", "not-gated"])
def test_an_accuracy_that_holds_shows_no_pictures(session, threshold):
    predictions = predicted(session)
    assert (
        evidence_of(judged(accuracy(predictions), threshold=threshold), predictions).examples(
            session
        )
        == []
    )


def test_counts_of_failures_show_pictures_even_where_they_hold(session):
    predictions = predicted(session)
    measured = pair_failures(predictions, pair=CLASSES)
    verdict = judged(measured, threshold=5)
    assert verdict.passed
    assert len(evidence_of(verdict, predictions).examples(session)) == 2


def test_without_another_model_its_view_is_left_out(session):
    alone = replace(session, roles={"candidate": session.roles["candidate"]})
    predictions = predicted(alone)
    cases = evidence_of(judged(accuracy(predictions)), predictions).examples(alone)
    assert [shown.other for shown in cases] == [None, None]


def test_cases_of_the_consensus_show_the_mean_of_the_panel(session):
    """They predict all but 105 correctly.

    The candidate loses 102, flipped and clean, where they are surer.
    """
    wrong = np.zeros(106, dtype=np.int16)
    wrong[105] = 1
    views = {}
    for perturbation, sureness in ((IDENTITY, 0.9), (HorizontalFlip(), 0.6)):
        mean = np.full((106, 2), 1 - sureness, dtype=np.float32)
        mean[np.arange(100, 106), session.images.labels] = sureness
        views[repr(perturbation)] = view_of(wrong, mean, mean.argmax(axis=1))
    session = replace(
        session, panel_predictions=PanelPredictions("", CLASSES, ("a", "b", "c"), views)
    )
    lost = find_consensus_set_errors(
        [predicted(session), predicted(session, HorizontalFlip())], session.panel_predictions
    )
    (shown,) = evidence_of(judged(consensus_set_errors(lost), threshold=0), lost).examples(session)
    assert (shown.index, shown.pose) == (102, "")
    reference_models, answer = shown.reference
    assert (reference_models, answer.predicted, answer.true) == (3, "dark", "dark")
    assert answer.confidence == pytest.approx(0.9)


def test_a_candidate_of_the_panel_is_shown_with_the_other_model(session):
    """Both others get 102 right, and are unsure.

    The mean of the three, with its own, disagrees.
    """
    wrong, mean = np.zeros(106, dtype=np.int16), np.full((106, 2), 0.5, dtype=np.float32)
    wrong[102], mean[102] = 1, (0.4, 0.6)
    view = view_of(wrong, mean, np.zeros(106, dtype=int))
    panel_predictions = PanelPredictions(
        "", CLASSES, ("a", "b", "c"), {repr(IDENTITY): view}
    ).without("a")
    session = replace(session, panel_predictions=panel_predictions)
    lost = find_consensus_set_errors([predicted(session)], session.panel_predictions)
    shown = next(
        each
        for each in evidence_of(judged(consensus_set_errors(lost), threshold=0), lost).examples(
            session
        )
        if each.index == 102
    )
    assert shown.reference is None
    assert (shown.against, shown.other.answer.predicted) == ("baseline", "dark")


def test_cleared_evidence_shows_nothing(session):
    predictions = predicted(session)
    evidence = evidence_of(judged(accuracy(predictions)), predictions)
    evidence.clear()
    assert evidence.verdict is None
    assert evidence.examples(session) == []
    assert evidence.gallery(session) == ([], 0)


def test_new_failures_come_before_shared_ones_then_the_most_confident():
    # All are dark; the candidate takes them for bright from 102 on, the baseline from 204 on.
    levels = [255, 120, 210, 190, 180, 130]
    session = session_of(levels, [0] * 6, baseline=Mean(5.0, threshold=0.8))
    predictions = predicted(session)
    cases = evidence_of(judged(accuracy(predictions)), predictions).examples(session)
    assert len(cases) == SHOWN
    assert [shown.index for shown in cases] == [103, 104, 105], (
        "190, 180 and 130 are new, 255 and 210 are not"
    )


def test_a_pose_that_breaks_nothing_shows_what_is_wrong_anyway(session):
    predictions = predicted(session)
    verdict = judged(accuracy(predictions, clean=predictions))
    assert verdict.failures == ()
    assert [shown.index for shown in evidence_of(verdict, predictions).examples(session)] == [
        102,
        105,
    ]


# Attention.


def test_a_model_with_a_layer_shows_where_it_looks(session):
    seeing = session_of([20, 240], [1, 0], candidate=Convolved(), baseline=Mean(5.0))
    predictions = predicted(seeing)
    (bright,) = evidence_of(judged(accuracy(predictions, of_class="dark")), predictions).examples(
        seeing
    )
    assert bright.index == 101
    assert bright.candidate.attention.shape == (8, 8)
    assert bright.candidate.attention.min() > 0
    assert bright.other.attention is None, "it has no layer"
    assert bright.other.answer.predicted == "bright"


# Searches.


POSES = most_dangerous_first([Pose(dx=float(step)) for step in range(-7, 8)])


def test_a_search_shows_the_images_that_flip_first_in_their_pose():
    # Bright images lose 1/8 of their light per pixel, and are dark below 102.
    session = session_of([130, 200, 255, 110, 230], [1, 1, 1, 1, 1])
    found = first_failures(session.roles["candidate"].classifier, session.images, POSES)
    cases = evidence_of(judged(robust_accuracy(found)), found).examples(session)
    assert [shown.index for shown in cases] == [103, 100, 101]
    assert {shown.pose for shown in cases} <= {
        f"shifted {n} px {side}" for n in (1, 2, 4) for side in ("left", "right")
    }
    shifted = [int(shown.pose.split()[1]) for shown in cases]
    assert shifted == [1, 2, 4]
    assert all(
        (shown.seen == 0).all(axis=0).sum() == shift
        for shown, shift in zip(cases, shifted, strict=True)
    )
    assert {shown.candidate.answer.predicted for shown in cases} == {"dark"}


def test_a_search_shows_images_that_are_right_as_they_are_if_there_are_any():
    # 110 with the label dark is wrong when clean, then correct; 200 with the label bright is
    # correct, then wrong.
    session = session_of([110, 200], [0, 1])
    found = first_failures(session.roles["candidate"].classifier, session.images, POSES)
    cases = evidence_of(judged(robust_accuracy(found)), found).examples(session)
    assert [shown.index for shown in cases] == [101]


def test_where_no_image_is_right_as_it_is_a_search_shows_the_poses_found():
    session = session_of([20, 30], [1, 1])
    found = first_failures(session.roles["candidate"].classifier, session.images, POSES)
    cases = evidence_of(judged(robust_accuracy(found)), found).examples(session)
    assert [(shown.index, shown.pose) for shown in cases] == [
        (100, POSES[0].in_words()),
        (101, POSES[0].in_words()),
    ]


def test_a_search_that_breaks_nothing_shows_nothing():
    session = session_of([255], [1])
    found = first_failures(session.roles["candidate"].classifier, session.images, [Pose(dx=1.0)])
    assert evidence_of(judged(robust_accuracy(found), threshold=1.0), found).examples(session) == []


# Interventions.


def test_an_intervention_shows_each_image_beside_its_own_changed_one(session):
    masks = np.zeros((6, 8, 8), dtype=bool)
    masks[:, :4] = True
    shown = with_background(session.images, masks, "noise")
    measured = replace(accuracy(predicted(session)), failures=np.array([4, 2, 0]))
    cases = evidence_of(judged(measured), shown).examples(session)
    assert [shown.index for shown in cases] == [104, 102, 100]
    for case, position in zip(cases, (4, 2, 0), strict=True):
        assert case.original.tolist() == session.images.pixels[position].permute(1, 2, 0).tolist()
        assert case.seen.tolist() == shown.changed.pixels[position].permute(1, 2, 0).tolist()
        assert case.pose == "background noise"


# Galleries.


def test_a_gallery_shows_a_pairs_failures_the_new_ones_first():
    levels = [255, 120, 210, 190, 20]
    session = session_of(levels, [0, 0, 0, 0, 1], baseline=Mean(5.0, threshold=0.8))
    predictions = predicted(session, Pose(dx=1.0))
    verdict = judged(pair_failures(predictions, pair=CLASSES), threshold=4, pair=CLASSES)
    tiles, count = evidence_of(verdict, predictions).gallery(session)
    assert count == 5
    found = [
        (tile.answer.index, tile.answer.true, tile.answer.predicted, tile.new) for tile in tiles
    ]
    assert found == [
        (102, "dark", "bright", True),
        (103, "dark", "bright", True),
        (101, "dark", "bright", True),
        (100, "dark", "bright", False),
        (104, "bright", "dark", False),
    ]
    assert tiles[0].pixels[0, :, 0].tolist() == [0, *[210] * 7], "as seen in the pose"


def test_a_gallery_has_no_more_than_its_tiles_and_says_how_many_there_are():
    session = session_of([200] * 30, [0] * 29 + [1])
    predictions = predicted(session)
    verdict = judged(pair_failures(predictions, pair=CLASSES), threshold=5, pair=CLASSES)
    tiles, count = evidence_of(verdict, predictions).gallery(session)
    assert (len(tiles), count) == (TILES, 29)
    assert {tile.new for tile in tiles} == {None}, "there is no baseline"


@pytest.mark.parametrize("labels", [[0, 1], [0, 0]], ids=["no-failures", "no-pair"])
def test_no_failures_of_a_pair_no_gallery(labels):
    session = session_of([20, 240], labels)
    predictions = predicted(session)
    verdict = judged(accuracy(predictions), pair=CLASSES if labels == [0, 1] else None)
    assert evidence_of(verdict, predictions).gallery(session) == ([], 0)
