"""A model in its role in a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import NotApplicableError
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference.attention import Attention
    from harness.inference.classifier import Classifier
    from harness.inference.predictions import Predictions
    from harness.networks.checkpoints import Record
    from harness.perturb import Perturbation


@dataclass(frozen=True, eq=False)
class RoleModel:
    """A checkpoint in a role, of `harness.gates.roles.ROLES`, or in none."""

    role: str
    path: Path
    sha256: str
    model_sha256: str = field(repr=False)
    architecture: str
    record: Record | None = field(repr=False)
    classifier: Classifier = field(repr=False)
    note: str = field(default="", repr=False)
    """Which of its file's tensors it was filled with, where there was a choice."""
    layer: str | None = None
    """The layer whose attention is looked at; None for the default, see `harness.inference.layers`."""

    def predict(self, images: LabelledImages, perturbation: Perturbation | None = None) -> Predictions:
        """Predict every image under the perturbation (default: none); see `Classifier.predict`."""
        return self.classifier.predict(images, perturbation or IDENTITY)

    def attend(self, images: LabelledImages, perturbation: Perturbation | None = None) -> Attention:
        """Predict every image under the perturbation (default: none) and say where the model looks; see `attend`."""
        from harness.inference.attention import attend

        if self.architecture == "onnx":
            raise NotApplicableError(
                "attention: a network in an ONNX file gives predictions only; to see where the model looks, gate the "
                "checkpoint that it was exported from"
            )
        return attend(self.classifier, images, perturbation or IDENTITY, layer=self.layer)

    def as_json(self) -> dict[str, str]:
        """Return the model's entry in `stress.json`; of a user's network also what was declared of it."""
        entry = {"path": str(self.path), "sha256": self.sha256, "architecture": self.architecture}
        if self.note:
            entry["loaded"] = self.note
        return entry | getattr(self.classifier.plain, "declared", {})
