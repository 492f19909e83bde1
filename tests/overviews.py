"""An overview of two models, made up, for tests of what is drawn and said of it."""

from harness.measures.failures import Answer, Comparison
from harness.measures.worst_poses import PersistentFailure, PersistentFailures
from harness.run.overview import (
    Changes,
    KindChange,
    KindCount,
    ModelOverview,
    Overview,
    Rate,
    ReliabilityBin,
)

CLASSES = ("top", "shirt", "shoe")


def rate(value: float, *, n: int = 300) -> Rate:
    return Rate(value, max(value - 0.02, 0.0), min(value + 0.02, 1.0), n)


def model(name: str = "candidate", *, right: float = 0.9, **facts) -> ModelOverview:
    """Return a model of this accuracy; `facts` are other fields of it."""
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
        "corners": rate(right - 0.1),
        "failures": (
            KindCount("any error", 3 * wrong, 0.2),
            KindCount("top↔shirt", 2 * wrong, 0.125),
        ),
        "persistent": PersistentFailures(
            300,
            9,
            (
                PersistentFailure(17, "top", 9, "shirt", 0.6),
                PersistentFailure(4, "top", 6, "shirt", 0.8),
            ),
        ),
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
    facts = {"roles": (name,), "path": f"models/{name}.safetensors", **known, **facts}
    return ModelOverview(name, **facts)


CHANGES = Changes(
    "baseline",
    (KindChange("any error", 5, 7, 25), KindChange("top↔shirt", 2, 3, 18)),
    (
        Comparison(
            Answer(17, "top", "shirt", 0.96, (0.02, 0.96, 0.02)),
            Answer(17, "top", "top", 0.7, (0.7, 0.2, 0.1)),
        ),
    ),
    (
        Comparison(
            Answer(9, "shoe", "shoe", 0.6, (0.2, 0.2, 0.6)),
            Answer(9, "shoe", "top", 0.88, (0.88, 0.02, 0.1)),
        ),
    ),
)


def overview(*models: ModelOverview, **facts) -> Overview:
    known = {"data": "shop", "n": 300, "sample": 300, "classes": CLASSES}
    return Overview(
        **{**known, "models": models or (model(), model("baseline", right=0.8)), **facts}
    )
