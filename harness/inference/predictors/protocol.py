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
    """A predictor without a valid answer: it crashed, hung, disappeared, or broke its declaration."""

    code = Code.PREDICTOR


class UnknownPixelsError(PredictorError):
    """Pixels without a recorded prediction."""

    code = Code.ANSWERS


@dataclass(frozen=True)
class Provides:
    """The answers that a predictor gives.

    `scores` is the kind of values per class, "labels" for predicted classes only, or "scores" for one number in [0, 1]
    per image, such as a Dice coefficient, where more is better. With `top`, only the K largest
    probabilities are known. A `network` of PyTorch runs in this process, and may normalize pixels itself. `layers`
    allows attention and gradients. A `live` predictor answers any pixels; another only those recorded before the run.
    Up to `calls` calls of `predict` run at a time, each in a thread of its own.
    """

    scores: Scores = "logits"
    top: int | None = None
    network: bool = False
    layers: bool = False
    live: bool = True
    calls: int = 1
    classes: tuple[str, ...] = ()
    """The names of its classes in its own order, empty if unknown."""
    note: str = ""
    """A note on the kind of answers, for the report; empty if it was declared."""
    batch: int | None = None
    """The only batch size for which the answers hold; None for any."""
    dynamic: bool = False
    """Images of a batch share the ranges of its activations (dynamic quantization)."""

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
        return f"{cause}: quantize with static ranges, or judge and serve batches of 1 (predictor_batch=1)"

    @property
    def known(self) -> int | None:
        """Return the number of leading classes with a known probability; 0 for labels only, None for every class."""
        return 0 if self.scores == "labels" or self.scored else self.top

    @property
    def scored(self) -> bool:
        """Return whether the predictor gives a score for each image, and no class."""
        return self.scores == "scores"

    @property
    def limits(self) -> tuple[str, ...]:
        """Return the limits of the answers as text, for the report."""
        found = []
        if self.scores == "labels":
            found.append("the predictor returns labels only: no check of confidence applies")
        elif self.scored:
            found.append(f"{NO_CLASSES}: no check of classes or of confidence applies")
        elif self.top is not None:
            found.append(
                f"the predictor returns the top {self.top} classes only: no probability beyond them is known"
            )
        if not self.layers:
            found.append("the predictor has no layers: no check of attention applies")
        return tuple(found)


OF_NETWORKS = Provides(network=True, layers=True)
"""The kind of answers of a network in this process."""


@dataclass(frozen=True)
class Identity:
    """Everything that determines a predictor's answers: `facts` by name, such as a file's SHA-256, a URL, a version.

    If the facts do not determine the answers, as for a server without a version, the identity is not `lasting`. Answers
    are then stored for this run only.
    """

    kind: str
    facts: Mapping[str, str]
    lasting: bool = True
    runtime: str = ""
    """Versions of libraries, which affect the last bits of answers and are not in the hash."""

    @property
    def sha256(self) -> str:
        """Return a hash over the kind and all facts."""
        return hashlib.sha256(repr((self.kind, sorted(self.facts.items()))).encode()).hexdigest()


class Predictor(Protocol):
    """Anything that maps images to answers.

    One on another machine, where each answer has a cost, may have two more functions. `keep_in(cache)` stores answers
    beside a cache from then on, one by one. `confirm()` verifies some answers since the last call, and raises
    `BackendLostError`, which ends the run, for wrong ones.
    """

    @property
    def identity(self) -> Identity:
        """Return the identity; it is equal in every process of a run, and known before the first answer."""

    @property
    def provides(self) -> Provides:
        """Return the kind of answers, constant while the predictor is open."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the answers for pixels (N, C, H, W), float32 in [0, 1].

        Logits or probabilities are (N, classes) float32, with NaN for unknown probabilities. Labels are (N,) int64.
        Raises `PredictorError` without an answer. A predictor that is not live raises `UnknownPixelsError` for pixels
        without a recorded prediction.
        """

    def close(self) -> None:
        """End processes and connections; it may be called twice."""
