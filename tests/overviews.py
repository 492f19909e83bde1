"""An overview of two models, made up, for tests of what is drawn and said of it."""

from dataclasses import fields

from harness.measures.failures import Answer, Comparison
from harness.measures.worst_poses import PersistentFailure, PersistentFailures
from harness.run.overview import (
    PARTS,
    Changes,
    KindChange,
    KindCount,
    ModelOverview,
    OnObject,
    Overview,
    Rate,
    ReliabilityBin,
    Survival,
)

CLASSES = ("top", "shirt", "shoe")
DEGREES, SHIFTS = (-10.0, 0.0, 10.0), (-2.0, 0.0, 2.0)


def rate(value: float, *, n: int = 300) -> Rate:
    return Rate(value, max(value - 0.02, 0.0), min(value + 0.02, 1.0), n)


def model(name: str = "candidate", *, right: float = 0.9, **facts) -> ModelOverview:
    """Return a model of this accuracy; `facts` are fields of its parts, by name, and its `roles`."""
    wrong = round(100 * (1 - right))
    known = {
        "accuracy": rate(right),
        "per_class": (rate(right), rate(right), rate(right)),
        "confusion": ((100 - wrong, wrong, 0), (wrong, 100 - wrong, 0), (0, wrong, 100 - wrong)),
        "confident_errors": 12,
        "calibration_error": 0.04,
        "reliability": (
            *(ReliabilityBin(0, None, None),) * 8,
            ReliabilityBin(50, 0.85, 0.8),
            ReliabilityBin(250, 0.99, 0.95),
        ),
        "rotation": (rate(right - 0.1), rate(right), rate(right - 0.1)),
        "shift": ((rate(right - 0.2),) * 3, (rate(right),) * 3, (rate(right - 0.1),) * 3),
        "corners": rate(right - 0.1),
        "covered": {"left": 0.3, "right": 0.3, "upper": 0.3, "lower": 0.3},
        "failures": (KindCount("any error", 3 * wrong, 0.2), KindCount("top↔shirt", 2 * wrong, 0.125)),
        "without_label_errors": None,
        "persistent": PersistentFailures(
            300, 9, (PersistentFailure(17, "top", 9, "shirt", 0.6), PersistentFailure(4, "top", 6, "shirt", 0.8))
        ),
        "robust_accuracy": rate(0.7),
        "survival": (Survival("rotation", "degrees", 200, (0.0, 1.0, 2.0), (1.0, 0.9, 0.5)),),
        "on_object": (OnObject(0.6, 0.5, 1.2, 100), OnObject(0.6, 0.5, 1.2, 100), None),
        "on_object_overall": OnObject(0.6, 0.5, 1.2, 200),
        "history": tuple(
            {
                "epoch": float(epoch),
                "training_loss": 1 / epoch,
                "training_accuracy": 0.8,
                "validation_loss": 1.1 / epoch,
                "validation_accuracy": 0.7,
            }
            for epoch in (1, 2, 3)
        ),
    }
    roles = facts.pop("roles", (name,))
    known |= facts
    parts = [part.record(**{at.name: known.pop(at.name) for at in fields(part.record)}) for part in PARTS]
    assert not known, f"no part of an overview has {sorted(known)}"
    return ModelOverview(name, roles, f"models/{name}.safetensors", tuple(parts))


CHANGES = Changes(
    "baseline",
    (KindChange("any error", 5, 7, 25), KindChange("top↔shirt", 2, 3, 18)),
    (Comparison(Answer(17, "top", "shirt", 0.96, (0.02, 0.96, 0.02)), Answer(17, "top", "top", 0.7, (0.7, 0.2, 0.1))),),
    (Comparison(Answer(9, "shoe", "shoe", 0.6, (0.2, 0.2, 0.6)), Answer(9, "shoe", "top", 0.88, (0.88, 0.02, 0.1))),),
)


def overview(*models: ModelOverview, **facts) -> Overview:
    known = {"data": "shop", "n": 300, "sample": 300, "classes": CLASSES, "degrees": DEGREES, "shifts": SHIFTS}
    return Overview(**{**known, "models": models or (model(), model("baseline", right=0.8)), **facts})
