"""The setting that states whether a candidate has the recipe of the reference models."""

from __future__ import annotations

from typing import Literal

from harness.base.groups import Settings, setting


class RecipeSettings(Settings):
    """The setting for the recipe."""

    recipe: Literal["same", "open"] | None = setting(
        "Whether a candidate must be trained by the recipe of the reference models: same, or open "
        "for a recipe that may change. With open, thresholds from reference models in the family "
        "fingerprint are informational (default: same, which judges from eight reference models "
        "on).",
    )
