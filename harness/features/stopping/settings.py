"""The setting of a run that stops at the first certain failure."""

from __future__ import annotations

from harness.base.groups import Settings, setting


class StopSettings(Settings):
    """The setting for stopping."""

    stop: bool = setting(
        default=False,
        about="Stop at the first certain failure, such as a candidate on a server with more errors "
        "on the hardest images than all images may have. The verdict is then fail, and no other "
        "check is measured (default: measure all).",
        line=True,
    )
