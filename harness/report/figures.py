"""Figures as Matplotlib objects, for files and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from harness.search import Breaking
    from harness.training import Epoch


def survival_curves(curves: Sequence[Breaking]) -> Figure:
    """Plot, for each path, the share of images still right against the severity; median and lower decile are marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(curves), 3.6), layout="constrained")
    for axes, curve in zip(figure.subplots(1, len(curves), sharey=True, squeeze=False)[0], curves, strict=True):
        severities, surviving = curve.survival()
        axes.plot(severities, surviving, marker=".")
        for share, name in ((0.1, "one in ten fails by"), (0.5, "half fail by")):
            at = curve.quantile(share)
            axes.plot([at], [1 - share], "o", fillstyle="none", label=f"{name} {at:.3g}")
        axes.set(xlabel=f"{curve.path.name}, {curve.path.unit}", ylim=(0, 1.02))
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="lower left")
    figure.axes[0].set_ylabel("share of images still right")
    return figure


def training_curves(history: Sequence[Epoch]) -> Figure:
    """Plot loss and accuracy of training and validation images against the epoch; the kept epoch is marked."""
    from matplotlib.figure import Figure

    from harness.training import best_epoch

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [epoch.epoch for epoch in history]
    best = best_epoch(tuple(history)).epoch
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, style in (("training", "--"), ("validation", "-")):
            axes.plot(epochs, [getattr(epoch, f"{split}_{quantity}") for epoch in history], style, label=split)
        axes.axvline(best, color="0.6", linewidth=1, label=f"kept: epoch {best}")
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    return figure
