"""Mistakes that a page has: which of them, and what stands beside each."""

from dataclasses import replace

import numpy as np
import pytest
from zoo import images_of, network

from harness.inference import Classifier
from harness.measures.panel.predictions import PanelPredictions, PanelView
from harness.run import side_by_side as module
from harness.run.overview import Mistake, Reference
from harness.run.side_by_side import mistakes_of


@pytest.fixture(scope="module")
def predictions():
    return Classifier(network(jitter=4.0), workers=1).predict(images_of(400))


def test_mistakes_are_the_most_confident_of_each_confusion(predictions, monkeypatch):
    monkeypatch.setattr(module, "OF_CONFUSION", 2)
    found = mistakes_of(predictions, None)
    by_confusion: dict[tuple[str, str], list[Mistake]] = {}
    for each in found:
        by_confusion.setdefault((each.true, each.predicted), []).append(each)
    assert len(by_confusion) > 1
    confidence = predictions.confidence_of_errors()
    for (true, predicted), some in by_confusion.items():
        labels, others = (predictions.classes.index(name) for name in (true, predicted))
        of_it = (predictions.labels == labels) & (predictions.predicted == others)
        assert len(some) == min(2, of_it.sum())
        assert some[0].confidence == pytest.approx(confidence[of_it].max())
    monkeypatch.setattr(module, "SHOWN", len(by_confusion))
    assert {(each.true, each.predicted) for each in mistakes_of(predictions, None)} == set(
        by_confusion
    )


def test_reference_models_stand_beside_a_mistake(predictions):
    n = len(predictions.labels)
    view = PanelView(
        wrong=np.full(n, 2, np.int16),
        of_label=np.full(n, 0.7, np.float32),
        likeliest=np.tile(np.arange(3, dtype=np.int32), (n, 1)),
        shares=np.tile(np.array([0.7, 0.2, 0.1], np.float32), (n, 1)),
    )
    panel = PanelPredictions(
        predictions.images.sha256,
        predictions.classes,
        ("a", "b", "c"),
        {repr(predictions.perturbation): view},
    )
    (first, *_) = mistakes_of(predictions, panel)
    assert first.reference == Reference(3, 2, predictions.classes[0], pytest.approx(0.7))
    assert mistakes_of(predictions, replace(panel, excluded="a"))[0].reference is None
