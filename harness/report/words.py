"""What behaviours and words mean, a sentence each, for a reader of the page who is offline and has not seen docs/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.gates.families import FAMILIES
from harness.report.page import Section, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.outcome import Outcome


WORDS: Mapping[str, tuple[str, str]] = {
    "gate": ("gate", "A measurement with a bound that it must keep; one that misses its bound fails the model."),
    "must-be": ("must be", "The bound: a floor (at least) or a ceiling (at most)."),
    "retrains": (
        "retrained reference models",
        "Networks of the candidate's recipe, trained anew with other seeds and known to be sound. Beside a gate stand "
        "their mean and standard deviation; bounds are set so that one in a hundred of them fails any gate.",
    ),
    "detects": (
        "smallest loss detected",
        "The smallest loss that the gate detects with a probability of 95%; a smaller one may go unnoticed.",
    ),
    "trained-range": ("trained range", "Turns and shifts within those that the model was trained for: ±10° and ±2 px."),
    "by-chance": ("by chance", "What a map would have on the object that looks everywhere alike."),
    "candidate": ("candidate", "The checkpoint under test."),
    "baseline": ("baseline", "The plain model, trained without augmentation, that the candidate is compared with."),
    "incumbent": (
        "currently shipped model (incumbent)",
        "The last accepted checkpoint, which the next must not lose to.",
    ),
    "confidence": ("confidence", "The probability that a model gives its answer."),
    "reported": ("reported", "Measured without a bound: it says how the model is, and fails nothing."),
    "n": ("n", "On how many images it was measured."),
}
"""The words of the page that are not everybody's, with what they mean, by their anchor: `word-` and the name."""


def explained(name: str) -> str:
    """Return the anchor of what is said about a family of gates; empty where nothing is."""
    return f"about-{name}" if name in FAMILIES else ""


def words(outcome: Outcome) -> Section:
    """Return what the behaviours of a run and the words of its page mean, folded; links open it."""
    families = dict.fromkeys(verdict.gate.family for verdict in outcome.verdicts)
    behaviours = [FAMILIES[name] for name in families if name in FAMILIES]
    return Section(
        "words", "What behaviours and words mean", render("words", behaviours=behaviours, words=WORDS.items())
    )
