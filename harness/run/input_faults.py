"""Faults of the input.

A candidate fails on clean images, and has other classes or is correct from other pixels.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.base.codes import Code, coded
from harness.base.errors import InputError, NotApplicableError
from harness.data.pipeline import Pipeline
from harness.data.serving import Serving
from harness.data.skews import SKEWS, Pictured
from harness.data.stages import Color, Normalise, Scale
from harness.inference.predictors.answers import other_order
from harness.inference.serving import normalization_of, served_predictions
from harness.measures.statistics import mcnemar_p
from harness.run.budget import extent_of
from harness.run.findings import InputFaults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.inference import Predictions, RoleModel
    from harness.run.session import StressSession

ON_CLEAN_IMAGES = frozenset({"clean", "consensus"})
"""Families with a failure on clean images."""
_MOST = 1_000
"""Images on which the best fault is measured, at most."""
_LEVELS = {
    "levels 0 to 255": Scale(divisor=1.0),
    "levels -1 to 1": Scale(divisor=127.5, offset=-1.0),
    "inverted levels": Scale(divisor=-255.0, offset=1.0),
}


def other_order_of(session: StressSession) -> str:
    """Return an error if the candidate has its classes in another order than the data.

    Empty if not.
    """
    candidate = session.roles["candidate"]
    if (found := other_order(candidate.predict(session.of_family("clean").images))) is None:
        return ""
    return coded(
        Code.MODEL,
        f"candidate {candidate.path}: its classes are in another order than those of the data: "
        f"{found[1]}. Give the data the order of its training, for example by the names of "
        "folders or the numbers of labels.",
    )


def input_faults(session: StressSession) -> InputFaults | None:
    """Return what the best input fault mends of the candidate's errors on clean images.

    None if none can be tried.
    """
    candidate = session.roles["candidate"]
    clean = candidate.predict(session.of_family("clean").images)
    known = None
    if session.panel_predictions is not None:
        known = session.panel_predictions.consensus_sets([clean])[0].consensus
    others = {
        f"the normalization of the {model.role}": normalization_of(model)
        for model in session.roles.values()
    }
    found = best_fault(
        candidate, clean, few=extent_of(session).few, known=known, normalizations=others
    )
    return None if found is None else found[0]


def best_fault(
    model: RoleModel,
    clean: Predictions,
    *,
    few: int,
    known: np.ndarray | None = None,
    normalizations: Mapping[str, Normalise] = {},
) -> tuple[InputFaults, Pipeline] | None:
    """Return what the best input fault mends of a model's errors, and the pipeline with it.

    None if none can be tried.

    `few` images that are predicted correctly, and as many others, choose the fault. More images
    measure it, all among those that are `known`, (N,) bool. Further `normalizations` are tried, by
    their words.
    """
    positions = np.arange(len(clean.labels)) if known is None else np.flatnonzero(known)
    order = np.random.default_rng(0).permutation(positions)
    chosen = np.concatenate([order[clean.correct[order] == which][:few] for which in (True, False)])
    channels: Any
    channels, height, width = clean.images.pixels.shape[1:]
    pixels = Pipeline(color=Color(channels), normalise=normalization_of(model), encoded=False)

    # Different pipelines that the model may have been made for, by their words.
    named = {}
    for skew in SKEWS.values():
        if skew.stage in ("color", "normalise"):  # They need no picture, only pixels.
            with suppress(NotApplicableError):
                fault = skew.of(pixels, Pictured(channels, (height, width)))
                named[fault.words[skew.stage]] = fault
    for words, normalise in normalizations.items():
        named[words] = replace(pixels, normalise=normalise)
    for name, scale in _LEVELS.items():
        named[f"{name}, not normalized"] = replace(pixels, scale=scale, normalise=Normalise())
        named[name] = replace(pixels, scale=scale)
    faults = {fault: name for name, fault in named.items() if fault != pixels}

    def correct(fault: Pipeline, positions: np.ndarray) -> np.ndarray:
        images = clean.images.take(torch.from_numpy(positions))
        return served_predictions(model, Serving(images, pixels, None), fault).correct

    scores = {}
    for fault in faults:
        with suppress(InputError):  # The model may refuse such pixels.
            scores[fault] = int(correct(fault, chosen).sum())
    if not scores:
        return None
    best, most = max(scores, key=lambda fault: scores[fault]), order[:_MOST]
    before, after = clean.correct[most], correct(best, most)
    p = mcnemar_p(int((before & ~after).sum()), int((after & ~before).sum()))
    return InputFaults(
        len(scores), faults[best], len(most), int(before.sum()), int(after.sum()), p
    ), best
