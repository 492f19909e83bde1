"""The setting of a run that names images without labels."""

from __future__ import annotations

from harness.base.groups import Settings, Text, setting


class UnlabeledSettings(Settings):
    """The setting for images without labels."""

    unlabeled: Text | None = setting(
        "Images without labels, for checks of the family unlabeled: a folder of pictures, folder:PATH, or a SPEC of "
        "data. Labels do not count. The weights of the reference models must exist (default: none).",
        metavar="SPEC",
        line=True,
        reads=True,
    )
