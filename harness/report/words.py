"""What behaviours and words mean, a sentence each, for a reader of the page who is offline and has not seen docs/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.page import Section, render
from harness.report.wording import family

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.outcome import Outcome


@dataclass(frozen=True)
class About:
    """What a family of gates measures, what a failure means, and the page of docs/ that says more."""

    what: str
    then: str
    page: str


ABOUT: Mapping[str, About] = {
    "clean": About(
        "The share of right answers on untouched test images.",
        "All classes fall a little: the training was cut short, or preprocessing differs from that of the training.",
        "behaviours/clean",
    ),
    "class": About(
        "The share of right answers on untouched images of a single class, since the mean hides one that is given up.",
        "Look at the labels of the class and at its share of the training data.",
        "behaviours/clean",
    ),
    "consensus": About(
        "How many images, none of them hard, the model loses of what every retrained reference model gets right.",
        "Losses in all classes mean damaged weights, another precision or preprocessing; in one, its labels.",
        "behaviours/consensus",
    ),
    "pairs": About(
        "How many images of two classes that look alike are taken for each other.",
        "One way rises and the other falls: the boundary moved. Both rise: the detail that tells them apart is lost.",
        "behaviours/confusion-pairs",
    ),
    "confidence": About(
        "Whether confidence means something: wrong answers over 90% confidence, and its distance from accuracy.",
        "Accuracy as before: trained longer, without weight decay or label smoothing, or with scaled logits.",
        "behaviours/calibration",
    ),
    "rotation": About(
        "Accuracy on images turned by one angle about their centre.",
        "Both ways fail alike: rotation is missing from the augmentation. One way fails: it turns one way only.",
        "behaviours/rotation",
    ),
    "shift": About(
        "Accuracy on images moved by whole pixels; what comes in is black.",
        "All directions fail: shifts are missing from the augmentation. One fails: something is cropped on one side.",
        "behaviours/shift",
    ),
    "pose": About(
        "Accuracy at the corners of the trained range, where images are turned and moved at once.",
        "Only the corners fail: the augmentation draws a turn or a shift, not both.",
        "behaviours/pose",
    ),
    "search": About(
        "Whether an image is right at every turn and shift of a grid, and how far it can go until it is wrong.",
        "Only the search fails: the augmentation has gaps, few angles or none between them.",
        "behaviours/worst-pose",
    ),
    "flip": About(
        "Accuracy on images mirrored left to right, and the share of images with the same answer after mirroring.",
        "Mirroring is missing from the augmentation, or the training data all point one way.",
        "behaviours/flip",
    ),
    "gain": About(
        "Accuracy of the candidate less that of the plain model (baseline), on the same images in the same pose.",
        "Rotation or shift fails, too: the candidate is worse. Neither does: the baseline is better than it was.",
        "behaviours/gain-over-baseline",
    ),
    "baseline": About(
        "Whether the plain model (baseline) is what it should be; if not, nothing can be judged against it.",
        "Look whether the file is the one that you mean.",
        "behaviours/gain-over-baseline",
    ),
    "flips": About(
        "Images that the currently shipped model (incumbent) gets right and the candidate gets wrong.",
        "Flips among what every retrain gets right are damage; many over all, with the same accuracy, another recipe.",
        "behaviours/flips",
    ),
    "regression": About(
        "The net loss against the currently shipped model (incumbent), image by image, and whether chance explains it.",
        "Look at what is new, not at the sum: a class that got worse is often another that got better.",
        "behaviours/regression",
    ),
    "golden": About(
        "Images of an incident or a complaint, each of which must be right.",
        "Retrains get it right: look at what else was lost among such images. They do not: the training data lack it.",
        "behaviours/golden",
    ),
    "attention": About(
        "Whether the model looks at the object (Grad-CAM), and whether its answer stays without the background.",
        "A map on one edge of all images points at padding or a watermark; an answer that goes with the background, at "
        "what should vary in training.",
        "behaviours/attention",
    ),
    "corruption": About(
        "Accuracy on images damaged by noise, blur, light, compression, warps and missing parts, severity 1 to 5.",
        "One kind fails: augmentation no longer does what looks like it. Noise and blur: it relies on fine texture.",
        "behaviours/corruption",
    ),
    "slice": About(
        "Accuracy on the images of one camera, site or batch, the worst of these, and the gap between best and worst.",
        "One group falls: look at what is special about its images, and at its share of the training data.",
        "slices",
    ),
}
"""By family. Families of a user's own, and what is added here, go without."""

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
    return f"about-{name}" if name in ABOUT else ""


def words(outcome: Outcome) -> Section:
    """Return what the behaviours of a run and the words of its page mean, folded; links open it."""
    families = dict.fromkeys(verdict.gate.family for verdict in outcome.verdicts)
    behaviours = [(explained(name), family(name), ABOUT[name]) for name in families if name in ABOUT]
    return Section(
        "words", "What behaviours and words mean", render("words", behaviours=behaviours, words=WORDS.items())
    )
