"""The incumbent of a run.

While a panel is measured, it is the reference model after the measured one.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from panels import view_of
from zoo import images_of, network, role_model

from harness.base.errors import NotApplicableError
from harness.checks.file import ChecksFile, DataFingerprint
from harness.measures.panel.predictions import PanelPredictions
from harness.perturb import IDENTITY
from harness.run.session import RunScope, StressSession

IMAGES = images_of(200)


def member(seed: int, role: str = "candidate"):
    return replace(role_model(role, network(jitter=1.0, seed=seed)), model_sha256=f"{seed:064x}")


def session_of(*models, **facts) -> StressSession:
    data = DataFingerprint(IMAGES.name, IMAGES.split, IMAGES.sha256, len(IMAGES))
    checks = ChecksFile(None, "0" * 64, data, {}, {}, ())
    return StressSession(IMAGES, checks, {model.role: model for model in models}, **facts)


PANEL = [member(seed) for seed in range(4)]
CORRECT = np.stack([model.predict(IMAGES).correct for model in PANEL])
PANEL_PREDICTIONS = PanelPredictions(
    IMAGES.sha256,
    IMAGES.classes,
    tuple(model.model_sha256 for model in PANEL),
    {repr(IDENTITY): view_of((~CORRECT).sum(0), np.full((200, 4), 0.25), IMAGES.labels, ~CORRECT)},
)


def measuring(at, known=PANEL_PREDICTIONS):
    """Return the incumbent of a reference model while the panel is measured."""
    asked = known.without(PANEL[at].model_sha256)
    return session_of(
        PANEL[at], scope=RunScope(recording=True), panel_predictions=asked
    ).paired_incumbent


def test_in_a_run_it_is_the_incumbent_if_there_is_another_one():
    other = member(9, "incumbent")
    predictions = PANEL[0].predict(IMAGES)
    incumbent = session_of(
        PANEL[0], other, panel_predictions=PANEL_PREDICTIONS.without("")
    ).paired_incumbent
    assert np.array_equal(incumbent.right(predictions), other.predict(IMAGES).correct)
    assert incumbent.consensus(predictions, None) is None
    assert np.array_equal(incumbent.consensus(predictions, "consensus"), CORRECT.all(axis=0))
    with pytest.raises(NotApplicableError, match="no last accepted model"):
        session_of(PANEL[0]).paired_incumbent.right(predictions)
    with pytest.raises(NotApplicableError, match="the candidate is the last accepted model"):
        session_of(PANEL[0], replace(PANEL[0], role="incumbent")).paired_incumbent.right(
            predictions
        )
    with pytest.raises(NotApplicableError, match="no panel predictions"):
        session_of(PANEL[0]).paired_incumbent.consensus(predictions, "consensus")


@pytest.mark.parametrize("at", range(4))
def test_a_measured_panel_compares_each_model_with_the_next(at):
    sample = IMAGES.take(torch.arange(0, 200, 3))
    incumbent = measuring(at)
    predictions = PANEL[at].predict(sample)
    others = [number for number in range(4) if number not in {at, (at + 1) % 4}]
    assert np.array_equal(incumbent.right(predictions), CORRECT[(at + 1) % 4, ::3])
    assert np.array_equal(
        incumbent.consensus(predictions, "consensus"), CORRECT[others, ::3].all(axis=0)
    )


def test_flips_of_few_are_those_expected_among_what_all_of_them_get_right():
    """A panel's shares are (K - 1) / (K + 1) of a run's.

    Of a pair of the panel K - 1 models are right; of a run the incumbent and K are.
    """
    measured = measuring(0)
    assert measured.correction("consensus") == pytest.approx(3 / 5)
    assert measured.correction(None) == 1
    run = session_of(
        PANEL[0], member(9, "incumbent"), panel_predictions=PANEL_PREDICTIONS.without("")
    )
    assert run.paired_incumbent.correction("consensus") == 1
    (view,) = PANEL_PREDICTIONS.views.values()
    old = replace(PANEL_PREDICTIONS, views={repr(IDENTITY): replace(view, each=None)})
    with pytest.raises(NotApplicableError, match="calibrate again"):
        measuring(0, old).right(PANEL[0].predict(IMAGES))


@pytest.mark.parametrize(
    ("count", "said"), [(1, "the only reference model"), (2, "no reference model besides")]
)
def test_too_few_members_make_no_pair_or_leave_nobody_to_decide(count, said):
    (view,) = PANEL_PREDICTIONS.views.values()
    asked = replace(view, wrong=(~CORRECT[:count]).sum(0).astype(np.int16), each=~CORRECT[:count])
    few = replace(
        PANEL_PREDICTIONS, models=PANEL_PREDICTIONS.models[:count], views={repr(IDENTITY): asked}
    )
    with pytest.raises(NotApplicableError, match=said):
        measuring(0, few).consensus(PANEL[0].predict(IMAGES), "consensus")
