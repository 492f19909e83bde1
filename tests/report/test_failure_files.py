"""Failures as CSV and Markdown: which probabilities stand there, of few classes and of many."""

import csv
import io

import numpy as np
import pytest
import torch

from harness.data import LabelledImages
from harness.inference import Predictions
from harness.measures.accuracy import classification_report
from harness.measures.failures import LISTED, failure_table
from harness.measures.worst_poses import persistent_failures
from harness.perturb import IDENTITY
from harness.report.exports import changes_csv, failures_csv, failures_markdown


def answers(shares, labels) -> Predictions:
    """Answer of a model with this confidence in each class, c0, c1, …"""
    shares = np.asarray(shares, dtype=np.float32)
    classes = tuple(f"c{number}" for number in range(shares.shape[1]))
    pixels = torch.arange(len(shares), dtype=torch.uint8)[:, None, None, None]
    images = LabelledImages(pixels, torch.tensor(labels), classes, "some", "test")
    return Predictions(np.log(shares + 1e-9), images, IDENTITY)


def of_many(count: int, *, taken: int = 7) -> Predictions:
    """Two images, of classes 3 and 5, both predicted as another, then as 1, 2 and the true one."""
    shares = np.zeros((2, count))
    shares[:, [taken, 1, 2]] = 0.5, 0.25, 0.125
    shares[[0, 1], [3, 5]] = 0.0625
    return answers(shares, [3, 5])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def then(predictions: Predictions) -> list[str]:
    table = failure_table(predictions)
    never = persistent_failures(predictions.images, predictions.labels[:, None])
    text = failures_markdown("some", classification_report(predictions), [table], never)
    _, found = text.split("| image | true | predicted as | confidence | then |\n")
    return [
        line.split(" | ")[-1].removesuffix(" |")
        for line in found.splitlines()[1:]
        if line.startswith("|")
    ]


def test_up_to_a_hundred_classes_each_has_its_probability():
    titles = set(rows_of(failures_csv([failure_table(of_many(LISTED))]))[0])
    assert {f"P(c{number})" for number in range(LISTED)} <= titles
    assert "P(true)" not in titles


def test_of_more_classes_the_true_one_has_and_the_next_are_named():
    predictions = of_many(LISTED + 1)
    table = failure_table(predictions)
    rows = rows_of(failures_csv([table]))
    assert [name for name in rows[0] if name.startswith("P(")] == ["P(true)"]
    share = 0.0625 / 0.9375
    assert [float(row["P(true)"]) for row in rows] == pytest.approx([share, share], abs=1e-4)
    assert then(predictions) == ["c1 26.7%, c2 13.3%"] * 2
    assert [len(row.probabilities) for row in table.rows] == [4, 4], (
        "which is what a table keeps in memory"
    )


def test_changes_of_many_classes_have_the_probability_of_the_true_one():
    after, before = of_many(LISTED + 1), of_many(LISTED + 1)
    before = Predictions(before.answers * 0.5, after.images, IDENTITY)
    (first, *_) = rows_of(changes_csv(after, before))
    assert [name for name in first if "P(" in name] == ["P(true)", "before P(true)"]
    assert float(first["before P(true)"]) == pytest.approx(
        float(before.probabilities[0, 3]), abs=1e-4
    )


def test_what_comes_then_is_never_the_answer_itself():
    predictions = answers([[0.4, 0.4, 0.2]], [2])
    assert predictions.predicted.tolist() == [0]
    assert then(predictions) == ["c1 40.0%, c2 20.0%"]
