"""The arguments of a stress test, and how each is made for a session: that of a run, of a self-check or of a plan."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from harness.base.errors import NotRecordedError
from harness.checks.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.measures.panel.predictions import PanelPredictions
    from harness.run.session import StressSession


def _panel_predictions(session: StressSession) -> PanelPredictions:
    if session.panel_predictions is None:
        raise NotRecordedError("there are no panel predictions; `stress-harness calibrate` records them")
    return session.panel_predictions


def of_role(role: str) -> tuple[str, Callable[[StressSession], object]]:
    """Return the entry of a role: its model. A test does not apply without one, or if it is the candidate."""
    about = ROLES[role].about
    return f"{about[0].lower()}{about[1:]}", lambda session: session.role(role)


ARGUMENTS: dict[str, tuple[str, Callable[[StressSession], object]]] = {
    "images": ("the labeled test images", attrgetter("images")),
    "search_images": ("the fixed sample that grids of poses are searched on", attrgetter("search_images")),
    "panel_images": (
        "the fixed sample for what a panel of reference models is asked in many ways, which no profile enlarges",
        attrgetter("panel_images"),
    ),
    "probe_images": ("the fixed, smaller sample for searches that draw their poses", attrgetter("probe_images")),
    "golden_images": ("the images that must never be wrong again", attrgetter("golden_images")),
    "unknown_images": (
        "the images from elsewhere, of no class, that the setting `unknown` names; None without it",
        attrgetter("elsewhere"),
    ),
    **{role: of_role(role) for role in ROLES},
    "panel_predictions": (
        "the panel predictions; a test that needs them does not apply where none are recorded",
        _panel_predictions,
    ),
    "paired_incumbent": (
        "the incumbent's correct predictions, those of another reference model while a panel is measured",
        attrgetter("paired_incumbent"),
    ),
}
"""Each argument as text, and how a session gives it. The plugin adds `stress_session`, `stress_check`, `evidence`."""
