"""Arguments of stress tests: what each one is, and how the session of a run gives it."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from harness.base.errors import NotApplicableError, NotRecordedError
from harness.base.features import families_of_features
from harness.checks.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.measures.panel.predictions import PanelPredictions
    from harness.run.session import StressSession


def _panel_predictions(session: StressSession) -> PanelPredictions:
    if session.panel_predictions is None:
        raise NotRecordedError(
            "there are no panel predictions; `stress-harness calibrate` records them"
        )
    return session.panel_predictions


def of_role(role: str) -> tuple[str, Callable[[StressSession], object]]:
    """Return the entry of a role: its model.

    A test does not apply without one, or if it is the candidate.
    """
    about = ROLES[role].about
    return f"{about[0].lower()}{about[1:]}", lambda session: session.role(role)


def _images_of(family: str) -> Callable[[StressSession], object]:
    def images(session: StressSession) -> object:
        if family not in session.other_images.of_rows:
            raise NotApplicableError(f"the run has no images for rows of family {family!r}")
        return session.other_images.of_rows[family]

    return images


ARGUMENTS: dict[str, tuple[str, Callable[[StressSession], object]]] = {
    "images": ("the labeled test images", attrgetter("images")),
    "search_images": (
        "the fixed sample that grids of poses are searched on",
        attrgetter("search_images"),
    ),
    "panel_images": (
        "the fixed sample for what a panel of reference models is asked in many ways, which no "
        "profile enlarges",
        attrgetter("panel_images"),
    ),
    "probe_images": (
        "the fixed, smaller sample for searches that draw their poses",
        attrgetter("probe_images"),
    ),
    "unknown_images": (
        "the images from elsewhere, of no class, that the setting `unknown` names; None without it",
        attrgetter("other_images.elsewhere"),
    ),
    **{role: of_role(role) for role in ROLES},
    "panel_predictions": (
        "the panel predictions; a test that needs them does not apply where none are recorded",
        _panel_predictions,
    ),
    "paired_incumbent": (
        "the incumbent's correct predictions, those of another reference model while a panel is "
        "measured",
        attrgetter("paired_incumbent"),
    ),
    **{
        f"{name}_images": (
            f"the images that the rows of family {name} are about, in their order",
            _images_of(name),
        )
        for name, family in families_of_features().items()
        if family.images
    },
}
"""Each argument as text, and how a session gives it.

The plugin adds `stress_session`, `stress_check`, `evidence`.
"""


def argument(name: str) -> tuple[str, Callable[[StressSession], object]]:
    """Return the entry of an argument, also that of a role which was added later."""
    return ARGUMENTS.get(name) or of_role(name)
