"""The first checks file for a user's data: checks of the families wanted, without thresholds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.checks.families import FAMILIES
from harness.checks.file import SCHEMA
from harness.checks.first_checks import StarterData
from harness.checks.slices import CLASS_DIFFERENCE, MOST, PAIR, SLICE, compared_columns
from harness.checks.starter_check import StarterCheck, in_toml, with_ids_apart
from harness.data.groups import groups_sha256
from harness.perturb import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks.first_checks import Row
    from harness.data import LabelledImages

DEFAULT = (
    *("clean", "class", CLASS_DIFFERENCE, "consensus", "rotation", "shift"),
    *("confidence", "regression", "flips", "pairs"),
)
"""The families of a first checks file by default; data with groups have those of `slice`, too."""
_OF_FEW_CLASSES = {CLASS_DIFFERENCE, "flips"}
"""Families with further checks of each class; by default only up to `MOST` classes, as for groups."""


def starter_checks(
    images: LabelledImages,
    families: Sequence[str] | None = None,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    min_accuracy: float | None = None,
) -> tuple[StarterCheck, ...]:
    """Return the checks of these families for these images; those of family `pairs` are for the given class pairs.

    None stands for the default families: `DEFAULT`, and `slice` for columns with some groups of enough images.
    `min_accuracy` is a threshold by hand on clean accuracy, a share. Raises `InputError` for a threshold that is no
    share, or that has no check.
    """
    if families is None:
        many = len(images.classes) > MOST
        families = tuple(name for name in DEFAULT if not (many and name in _OF_FEW_CLASSES))
        if columns := compared_columns(images.groups):
            groups = {name: values for name, values in images.groups.items() if name in {*columns, PAIR}}
            images, families = replace(images, groups=groups), (*families, SLICE)
    if min_accuracy is not None and not ("clean" in families and 0 < min_accuracy <= 1):
        raise InputError(
            f"--min-accuracy {min_accuracy:g}: expected a share above 0 and at most 1, such as 0.9, and the family "
            "clean"
        )
    about = StarterData(images, tuple(pairs), min_accuracy)
    return with_ids_apart(
        StarterCheck(name, family, metric, more)
        for family, rows in offered().items()
        if family in families
        for name, metric, more in rows(about)
    )


def offered() -> dict[str, Callable[[StarterData], list[Row]]]:
    """Return the families that a first checks file may have, each with the function that makes its checks."""
    return {family.name: family.starter_checks for family in FAMILIES.values() if family.starter_checks is not None}


def families_of(names: str) -> tuple[str, ...]:
    """Return the families in text such as `clean,rotation`; raises `InputError` for a family that is not offered."""
    families = tuple(filter(None, (name.strip() for name in names.split(","))))
    if not families or (unknown := [name for name in families if name not in offered()]):
        wrong = unknown[0] if families else ""
        raise InputError(f"--families {wrong}: no stress test of it ships; expected some of {','.join(offered())}")
    return families


def starter(images: LabelledImages, checks: Sequence[StarterCheck]) -> str:
    """Return the text of a checks file for these images, with these checks."""
    data = {
        "name": images.name,
        "split": images.split,
        "sha256": images.sha256,
        "n": len(images),
        "classes": list(images.classes),
    }
    if any(check.family == SLICE for check in checks):
        data["groups_sha256"] = groups_sha256(images.groups)
    lines = [
        "# `stress-harness calibrate` writes the thresholds, from reference models of your recipe. Until then, a check",
        '# has one by hand, `hand = { threshold = 0.9, reason = "..." }`, or is informational. It runs in the stress '
        "test",
        "# that is marked with its family. The page docs/reference/checks.md of the harness explains the keys.",
        f"\nschema = {SCHEMA}\nprotocol = {PROTOCOL}\n\n[data]",
        *(f"{key} = {in_toml(value)}" for key, value in data.items()),
        *(f"\n{check.as_toml()}" for check in checks),
    ]
    return "\n".join(lines) + "\n"
