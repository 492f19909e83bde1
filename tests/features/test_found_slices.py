"""Slices that nobody named.

Found again whatever the model, described, and checks of their own once copied.
"""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from panels import check, panel_of
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from zoo import CLEAN, drawn_again, network, without_lines

from harness.base.errors import InputError, NotApplicableError
from harness.calibration.summary import calibration_lines
from harness.calibration.thresholds import thresholds_of
from harness.checks.copied import as_row
from harness.data import LabelledImages
from harness.features.slices import measures
from harness.features.slices.measures import LEAST, find_slices, slice_loss, worst_slice
from harness.inference import Classifier, Predictions
from harness.measures import Unit
from harness.measures.panel.collection import ReferencePredictions, combine
from harness.measures.panel.predictions import read_panel_predictions
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import IDENTITY

TESTS = ("clean",)
CLASSES, N, NAMES = ("ant", "bee", "cat", "dog"), 3_000, tuple("abcdefgh")
LABELS = np.arange(N) % 4
IMAGES = LabelledImages(
    torch.arange(N * 4).remainder(251).to(torch.uint8).reshape(N, 1, 2, 2),
    torch.from_numpy(LABELS), CLASSES, "toys", "test",
)  # fmt: skip
LIKE = np.random.default_rng(7).integers(0, 3, N)
"""Kinds of images: each looks a little like one of three other classes."""


def model_of(seed: int, *, lost=()) -> Predictions:
    """Return a model that is mostly right.

    It gives images that are `lost` to the class that they look like.
    """
    logits = 0.3 * np.random.default_rng(seed).normal(size=(N, 4))
    logits[np.arange(N), LABELS] += 5
    logits[np.arange(N), (LABELS + 1 + LIKE) % 4] += 3
    logits[np.asarray(lost, dtype=int), (LABELS + 1 + LIKE)[np.asarray(lost, dtype=int)] % 4] += 4
    return Predictions(logits.astype(np.float32), IMAGES, IDENTITY)


def predictions_of(models, images=IMAGES, names=NAMES):
    parts = [[ReferencePredictions.of(each)] for each in models]
    return combine(images.sha256, len(images), names[: len(models)], parts)


MODELS = [model_of(seed) for seed in range(8)]
PANEL = predictions_of(MODELS)
KIND = np.flatnonzero((LABELS == 2) & (LIKE == 1))
"""Images of one class that look like another."""


def test_slices_are_as_tight_as_those_of_scikit_learn_and_large_enough():
    seen, points = find_slices(model_of(99), PANEL), PANEL.view().mean.astype(float)
    sizes = np.bincount(seen.of)
    assert len(seen.names) == len(set(seen.names)) == len(sizes)
    assert sizes.min() >= LEAST
    centers = np.stack([points[seen.of == at].mean(axis=0) for at in range(len(sizes))])
    theirs = KMeans(len(sizes), n_init=1, random_state=0).fit(points)
    assert np.square(points - centers[seen.of]).sum() < 1.25 * theirs.inertia_
    far = cdist(points, theirs.cluster_centers_).min(axis=1)
    assert np.square(far).sum() == pytest.approx(theirs.inertia_)


def test_values_are_those_of_a_direct_computation():
    candidate = model_of(99, lost=KIND[::3])
    seen, at = find_slices(candidate, PANEL), np.arange(N)
    usual = np.mean([each.probabilities[at, LABELS] for each in MODELS], axis=0)
    lost = usual - candidate.probabilities[at, LABELS]
    each = [
        lost[some].sum() / np.sqrt(max((usual * (1 - usual))[some].sum(), 1))
        for some in (seen.of == number for number in range(len(seen.names)))
    ]
    found = worst_slice(seen)
    assert found.value == pytest.approx(max(each), rel=1e-4)
    some = seen.of == np.argmax(each)
    assert (found.n, found.counted) == (N, some.sum())
    assert (lost[found.failures] > 0).all()
    assert lost[found.failures[0]] == pytest.approx(lost[some].max(), abs=1e-5)
    assert found.interval[0] < found.value < found.interval[1]
    own = slice_loss(seen, seen.names[seen.worst])
    assert own.value == pytest.approx(lost[some].mean(), abs=1e-5)
    assert own.each.mean() == pytest.approx(own.value)
    assert own.n == some.sum()
    assert own.detail == found.detail


def test_a_kind_of_images_that_is_lost_is_the_worst_slice_and_described():
    sound, broken = (
        worst_slice(find_slices(model_of(99, lost=lost), PANEL)) for lost in ((), KIND[::3])
    )
    assert 5 * sound.value < 5 < broken.value
    assert np.isin(broken.failures, KIND).mean() > 0.9
    label, usual, own = broken.detail.split("; ")[1:]
    assert label == "labels cat 100.0%"
    assert usual.startswith("reference models cat 8")
    assert float(own.partition("cat ")[2].partition("%")[0]) < 75


def test_a_model_of_the_panel_is_left_out_of_its_own_reference():
    seen = find_slices(MODELS[0], PANEL.without("a"))
    usual = np.mean([each.probabilities for each in MODELS[1:]], axis=0)
    np.testing.assert_allclose(seen.expected, usual, atol=1e-4)
    assert seen.names == find_slices(model_of(99), PANEL).names
    at, whole = np.arange(N), np.mean([each.probabilities for each in MODELS], axis=0)
    lost = whole[at, LABELS] - MODELS[0].probabilities[at, LABELS]
    found = slice_loss(seen, seen.names[0]).value
    assert found == pytest.approx(lost[seen.of == 0].mean(), abs=1e-5), (
        "as a candidate's, against the mean of all"
    )


def test_the_file_of_a_panel_makes_the_same_slices_in_other_processes(tmp_path):
    path = tmp_path / "panel.npz"
    path.write_bytes(PANEL.as_bytes())
    code = (
        "import sys, pathlib\nfrom harness.measures.panel.predictions import "
        "read_panel_predictions\nfrom harness.features.slices.measures import _slices_of\n"
        "print(*_slices_of(read_panel_predictions(pathlib.Path(sys.argv[1])).view())[0])"
    )
    names = find_slices(model_of(99), read_panel_predictions(path)).names
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        env={"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [*names]


def test_a_sample_has_the_slices_of_all_images():
    seen = find_slices(model_of(99), PANEL)
    at = torch.from_numpy(np.flatnonzero(seen.of != 0)[::2])
    part = find_slices(
        replace(model_of(99), answers=model_of(99).answers[at], images=IMAGES.take(at)), PANEL
    )
    assert part.names == seen.names
    assert part.of.tolist() == seen.of[at].tolist()
    with pytest.raises(
        NotApplicableError, match=f"none of the {len(at)} measured images is of slice"
    ):
        slice_loss(part, seen.names[0])
    one = np.flatnonzero(seen.of == 1)[:1]
    alone = find_slices(
        replace(
            model_of(99),
            answers=model_of(99).answers[one],
            images=IMAGES.take(torch.from_numpy(one)),
        ),
        PANEL,
    )
    assert slice_loss(alone, seen.names[1]).interval == measures.SLICE_LOSS.range, (
        "one image has no spread"
    )


def test_a_slice_of_another_panel_is_refused():
    seen = find_slices(model_of(99), predictions_of(MODELS[:7]))
    gone = next(name for name in find_slices(model_of(99), PANEL).names if name not in seen.names)
    with pytest.raises(
        InputError, match=f"slice '{gone}'.*none of the .*copy the row of a new report"
    ):
        slice_loss(seen, gone)
    new = find_slices(MODELS[0], predictions_of(MODELS[:7]).without("a"))
    with pytest.raises(
        NotApplicableError, match="copy the row of a new report"
    ):  # It does not stop a calibration.
        slice_loss(new, gone)


@pytest.mark.parametrize("count", [1, 30, 45])
def test_images_that_make_no_two_slices_have_none(count):
    few = IMAGES.take(torch.zeros(count, dtype=int))  # All alike.
    few = replace(few, indices=None) if count > 1 else few
    models = [Predictions(np.zeros((count, 4), np.float32), few, IDENTITY)] * 3
    with pytest.raises(NotApplicableError, match=f"{count} images make no two slices"):
        find_slices(models[0], predictions_of(models, few))


def test_many_classes_have_no_slices(monkeypatch):
    monkeypatch.setattr("harness.measures.panel.collection.MANY", 3)
    monkeypatch.setattr("harness.measures.panel.predictions.MANY", 3)
    monkeypatch.setattr(measures, "MANY", 3)
    with pytest.raises(NotApplicableError, match="more than 3 classes"):
        find_slices(model_of(99), predictions_of(MODELS))


def test_the_worst_slice_never_judges_and_moves_no_threshold():
    rng = np.random.default_rng(0)
    families = [check(f"f{at}", family=f"family-{at}") for at in range(16)]
    shown = PanelCheck("worst", "slices", "worst_slice", Unit.SCORE, "at_most", N)
    one = PanelCheck("one", "slices", "slice_loss", Unit.DIFFERENCE, "at_most", 100)
    values = np.hstack(
        [
            rng.normal(0.9, 0.01, (20, 16)),
            rng.normal(1, 0.5, (20, 1)),
            rng.normal(0, 0.005, (20, 1)),
        ]
    )

    def written(columns, checks):
        found = thresholds_of(panel_of(values[:, :columns], checks))
        return found, {each.check.id: each.written for each in found}

    _, before = written(16, families)
    found, beside = written(17, [*families, shown])
    assert {name: beside[name] for name in before} == before
    assert found[-1].informational == measures.WORST_SLICE.informational
    said = "\n".join(calibration_lines(panel_of(values[:, :17], [*families, shown]), found, {}))
    assert "1 with a metric that never has a threshold" in said
    again, judged = written(18, [*families, shown, one])
    assert not again[-1].informational
    assert judged["f0"]["k"] > before["f0"]["k"], "a check that judges shares the false alarms"


# In a gate.


WORST = '[[check]]\nid = "slices-worst"\nfamily = "slices"\nmetric = "worst_slice"\n'


@pytest.fixture(scope="module")
def gate(shared):
    """Return the repository with the predictions of five reference models."""
    models = [
        Classifier(network(jitter=0.1, seed=seed), workers=1).predict(shared.images)
        for seed in range(1, 6)
    ]
    (shared.root / "panel.npz").write_bytes(predictions_of(models, shared.images).as_bytes())
    shared.save("odd.safetensors", jitter=0.5, seed=4)
    return shared


def rows_of(gate, *rows: str) -> str:
    sha256 = read_panel_predictions(gate.root / "panel.npz").sha256
    return "\n".join(
        [
            f'[recipe]\npanel_predictions = "../panel.npz"\npanel_predictions_sha256 = "{sha256}"',
            CLEAN,
            *rows,
        ]
    )


def test_the_report_shows_the_worst_slice_and_its_row_is_a_check(gate):
    ran = gate.once("--candidate=odd.safetensors", rows=rows_of(gate, WORST), page=True)
    assert ran.statuses == {
        "clean": "pass",
        "class": "informational",
        "slices-worst": "informational",
    }
    with without_lines():
        assert drawn_again(gate.root / "reports") == []
    shown, found = ran.report["slices"], ran.checks["slices-worst"]
    name, *facts = shown["facts"]
    assert found["detail"] == f"slice {name} of {shown['sentence'].split()[1]}; {'; '.join(facts)}"
    assert len(shown["faces"]) == min(24, found["counted"])
    assert shown["faces"][0]["about"].endswith(f"image {found['failures'][0]}")
    row = as_row({"id": f"slice-{name}", "family": "slices", "metric": "slice_loss", "slice": name})
    assert row.replace("\n", "&#10;").replace('"', "&#34;") in ran.page
    again = gate.once("--candidate=odd.safetensors", rows=rows_of(gate, WORST, row))
    copied = again.checks[f"slice-{name}"]
    assert (copied["status"], copied["n"], copied["failures"]) == (
        "informational", found["counted"], found["failures"],
    )  # fmt: skip
    hand = 'hand = { threshold = 0.01, reason = "it was lost" }\n'
    judged = gate.once("--candidate=odd.safetensors", rows=rows_of(gate, row + hand))
    assert judged.ending == (1, "fail")
    assert (
        judged.self_checks["slices-moved"]
        == judged.self_checks["checks-follow-the-candidate"]
        == "pass"
    )
    other = gate.once(
        rows=rows_of(gate, row.replace(f'slice = "{name}"', 'slice = "000000000000"'))
    )
    assert other.ending == (4, "error")
    assert "copy the row of a new report" in other.why


def test_without_panel_predictions_there_is_no_slice(gate):
    ran = gate.once(rows=f"{CLEAN}{WORST}")
    assert ran.statuses["slices-worst"] == "not_applicable"
    assert ran.report["slices"] is None
