"""The protocol of predictors, their identity, and the kind of their answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from harness.base.codes import Code
from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


Scores = Literal["logits", "probabilities", "labels", "scores"]


NO_CLASSES = "the predictor gives a score for each image and no class"
"""The reason why checks do not apply to a predictor of scores."""


class PredictorError(InputError):
    """A predictor gave no valid answer: it crashed, hung, vanished, or broke its declaration."""

    code = Code.PREDICTOR


class UnknownPixelsError(PredictorError):
    """Pixels without a recorded prediction."""

    code = Code.ANSWERS


@dataclass(frozen=True)
class Provides:
    """The answers that a predictor gives.

    Attributes:
        scores: The kind of values per class, "labels" for predicted classes only, or "scores" for
            one number in [0, 1] per image, such as a Dice coefficient, where more is better.
        top: The number of largest probabilities that alone are known; None for all.
        network: Whether it is a network of PyTorch, which runs in this process and may normalize
            pixels itself.
        layers: Whether attention and gradients are possible.
        live: Whether it answers any pixels; otherwise only those recorded before the run.
        calls: The most calls of `predict` at a time, each in a thread of its own.
        classes: The names of its classes in its own order, empty if unknown.
        note: A note on the kind of answers, for the report; empty if it was declared.
        batch: The only batch size for which the answers hold; None for any.
        dynamic: Whether images of a batch share the ranges of its activations (dynamic
            quantization).
    """

    scores: Scores = "logits"
    top: int | None = None
    network: bool = False
    layers: bool = False
    live: bool = True
    calls: int = 1
    classes: tuple[str, ...] = ()
    note: str = ""
    batch: int | None = None
    dynamic: bool = False

    @property
    def holds_for(self) -> str:
        """Return the batches for which a verdict on these answers holds; empty for any batches."""
        if self.batch is None:
            return ""
        why = "dynamic ranges: " if self.dynamic else ""
        return f"{why}holds for batches of {self.batch}"

    @property
    def batch_advice(self) -> str:
        """Return what to do if the prediction for an image depends on the others in its batch."""
        cause = "With dynamic quantization, images that share a batch share its ranges"
        if self.dynamic:
            return (
                f"{cause}. Quantize with static ranges, or judge and serve batches of 1 "
                "(predictor_batch=1; export again if the file fixes another size)"
            )
        if self.network:
            return f"{cause}: quantize with static ranges"
        return (
            f"{cause}: quantize with static ranges, "
            "or judge and serve batches of 1 (predictor_batch=1)"
        )

    @property
    def known(self) -> int | None:
        """Return the number of leading classes with a known probability.

        It is 0 for labels only, and None for every class.
        """
        if self.scores == "labels" or self.scored:
            return 0
        return self.top

    @property
    def scored(self) -> bool:
        """Return whether the predictor gives a score for each image, and no class."""
        return self.scores == "scores"

    @property
    def limits(self) -> tuple[str, ...]:
        """Return the limits of the answers as text, for the report."""
        limits = []
        if self.scores == "labels":
            limits.append("the predictor returns labels only: no check of confidence applies")
        elif self.scored:
            limits.append(f"{NO_CLASSES}: no check of classes or of confidence applies")
        elif self.top is not None:
            limits.append(
                f"the predictor returns the top {self.top} classes only: "
                "no probability beyond them is known"
            )
        if not self.layers:
            limits.append("the predictor has no layers: no check of attention applies")
        return tuple(limits)


OF_NETWORKS = Provides(network=True, layers=True)
"""The kind of answers of a network in this process."""


@dataclass(frozen=True)
class Identity:
    """Everything that determines a predictor's answers.

    Attributes:
        kind: The kind of predictor.
        facts: Facts by name, such as a file's SHA-256, a URL or a version.
        lasting: Whether the facts determine the answers. They do not for a server without a
            version; its answers are then stored for this run only.
        runtime: Versions of libraries, which affect the last bits of answers and are not in the
            hash.
    """

    kind: str
    facts: Mapping[str, str]
    lasting: bool = True
    runtime: str = ""

    @property
    def sha256(self) -> str:
        """Return a hash over the kind and all facts."""
        content = repr((self.kind, sorted(self.facts.items())))
        return hashlib.sha256(content.encode()).hexdigest()


class Predictor(Protocol):
    """Anything that maps images to answers.

    One on another machine, where each answer has a cost, may have two more functions.
    `keep_in(cache)` stores answers beside a cache from then on, one by one. `confirm()` verifies
    some answers since the last call, and raises `BackendLostError`, which ends the run, for wrong
    ones.
    """

    @property
    def identity(self) -> Identity:
        """Return the identity, which is equal in every process and known before any answer."""

    @property
    def provides(self) -> Provides:
        """Return the kind of answers, constant while the predictor is open."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the answers for pixels (N, C, H, W), float32 in [0, 1].

        Logits or probabilities are (N, classes) float32, with NaN for unknown probabilities. Labels
        are (N,) int64.

        Raises:
            PredictorError: There is no answer.
            UnknownPixelsError: The predictor is not live, and has no recorded prediction for the
                pixels.
        """

    def close(self) -> None:
        """End processes and connections; it may be called twice."""
