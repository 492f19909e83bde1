"""A comparison fits into a time: it is planned first, samples or leaves out the rest, and never stands still."""

import re
from dataclasses import replace

import pytest
import torch
from zoo import images_of, network, role_model

from harness.base.errors import InputError
from harness.base.progress import Progress
from harness.data import stratified_sample
from harness.features.comparison import comparing as comparison
from harness.features.comparison.comparing import plan_comparison
from harness.inference.devices import in_batches, watched
from harness.perturb import IDENTITY, augmentation_range_corners
from harness.run.budget import Costs, duration
from harness.run.side_by_side import measure_overview


@pytest.fixture
def images():
    return images_of(1_200)


@pytest.fixture
def models(monkeypatch):
    """Two models that need a hundredth of a second for an image."""
    monkeypatch.setattr(comparison, "costs_of", lambda *_, **__: Costs(0.01, 0.03, 0))
    return {"new": role_model(), "old": replace(role_model("old", network(jitter=0.5)), model_sha256="o" * 64)}


def test_all_is_measured_where_all_fits(models, images):
    plan = plan_comparison(models, images, budget=1e6)
    assert (plan.images, plan.corners, plan.confidences) == (images, 300, 1_200)
    assert plan.seconds == plan.whole
    assert len(plan.lines) == 1


@pytest.mark.parametrize(
    ("budget", "kept", "lines"),
    [(120.0, (300, 1_200), 1), (85.0, (200, 1_200), 1), (62.0, (200, 0), 2), (30.0, (0, 0), 2)],
)
def test_what_does_not_fit_is_left_out_the_most_telling_last(models, images, budget, kept, lines):
    whole = plan_comparison(models, images, budget=None)
    assert (whole.corners, whole.confidences) == (300, 1_200)
    plan = plan_comparison(models, images, budget=budget)
    assert plan.seconds <= budget
    assert (plan.corners, plan.confidences) == kept
    assert len(plan.lines) == lines
    assert plan.lines[0].startswith("plan: at most ")
    assert "1,200 images" in plan.lines[0]
    if lines > 1:
        assert f"--full: at most {duration(plan.whole)};" in plan.lines[1]


def test_the_plan_counts_what_is_then_asked(models, images):
    """Every input is counted once, whoever asks first, but for the confidence of errors, which nobody can know."""
    plan = plan_comparison(models, images, budget=120.0)
    done = []
    with watched(done.append):
        measure_overview(models, plan.images, corners=plan.corners, confidences=plan.confidences)
    sample = stratified_sample(images, plan.corners)
    views = [(images, IDENTITY), *((sample, pose) for pose in (IDENTITY, *augmentation_range_corners()))]
    wrong = sum((~model.predict(*view).correct).sum() for model in models.values() for view in views)
    assert plan.poses + wrong == pytest.approx(sum(done), rel=0.15)


def test_of_too_many_clean_images_a_sample_is_compared(models, images, monkeypatch):
    monkeypatch.setattr(comparison, "_SIZES", (1_000,))
    plan = plan_comparison(models, images, budget=41.0)
    assert len(plan.images) == 1_000
    assert "clean on 1,000 of 1,200 images" in plan.lines[0]


def test_cached_predictions_cost_nothing(images, tmp_path, monkeypatch):
    from harness.base.cache import Store

    monkeypatch.setattr(comparison, "costs_of", lambda *_, **__: Costs(0.01, 0.03, 0))
    models = {"new": role_model(cache=Store(tmp_path))}
    before = plan_comparison(models, images, budget=None)
    measure_overview(models, images)
    after = plan_comparison(models, images, budget=None)
    assert before.seconds > 0.9 * 0.01 * (1_200 + 300 * 9)
    assert after.seconds < 0.1 * before.seconds


def test_a_batch_that_is_done_is_told_to_who_watches():
    told = []
    with watched(told.append):
        in_batches(torch.tensor, torch.arange(10).numpy(), size=4, workers=2)
    assert sorted(told) == [2, 4, 4]
    in_batches(torch.tensor, torch.arange(10).numpy(), size=4, workers=2)
    assert len(told) == 3


def test_progress_in_a_log_breaks_a_silence(capsys, monkeypatch):
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr("harness.base.progress.time.monotonic", lambda: next(clock))
    with Progress(total=1_000, desc="comparing", silence=8.0) as bar:
        for _ in range(12):
            bar.update(1)
            bar.refresh()
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) >= 3, lines
    assert all(re.match(r"comparing: ", line) for line in lines)


def test_start_and_page_are_part_of_the_time(models, images):
    alone = plan_comparison(models, images, budget=120.0)
    after = plan_comparison(models, images, budget=120.0, besides=60.0)
    assert after.seconds <= 120.0
    assert after.seconds - 60.0 < alone.seconds
    assert (alone.corners, after.corners) == (300, 200)


def test_a_full_comparison_needs_no_costs(models, images, monkeypatch):
    def slow(*_, **__):
        raise InputError("its first batches took longer than 120 s")

    monkeypatch.setattr(comparison, "costs_of", slow)
    plan = plan_comparison(models, images, budget=None)
    assert (plan.images, plan.corners) == (images, 300)
    (line,) = plan.lines
    assert line.startswith("plan: an unknown time on ")
    with pytest.raises(InputError, match=r"longer than 120 s Or compare without a plan \(--full\)"):
        plan_comparison(models, images, budget=60.0)
