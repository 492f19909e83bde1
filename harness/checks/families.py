"""The families of checks: their meaning, their checks in a first checks file, and their mutants.

A new family is an entry of families.toml, its code in the table below, and a test. A feature may
register one, too.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, some_of
from harness.base.features import Family
from harness.base.registry import Registry
from harness.checks import first_checks
from harness.checks.file import SCHEMA
from harness.checks.first_checks import (
    StarterCheck,
    StarterData,
    always,
    of_each_class,
    with_ids_apart,
)
from harness.checks.slices import (
    CLASS_DIFFERENCE,
    MOST,
    PAIR,
    SLICE,
    UNKNOWN,
    compared_columns,
    slice_checks,
)
from harness.checks.tables import in_toml
from harness.data.groups import groups_sha256
from harness.perturb import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.checks.damages import Damage
    from harness.checks.file import ChecksFile
    from harness.checks.first_checks import Row
    from harness.data import LabelledImages
    from harness.data.domain import AugmentationRange
    from harness.inference import RoleModel


_STARTERS: dict[str, Callable[[StarterData], list[Row]]] = {
    "clean": first_checks.clean,
    "class": of_each_class("clean", "accuracy"),
    CLASS_DIFFERENCE: of_each_class("difference", "class_difference", least=2),
    **{name: first_checks.poses(name) for name in ("rotation", "shift", "pose", "gain")},
    "flip": first_checks.flip,
    "confidence": always(
        ("confident-errors", "confident_errors", {"confidence": 0.9}),
        ("calibration-error-clean", "calibration_error"),
        ("log-loss-clean", "negative_log_likelihood"),
        ("confidence-brier-score", "brier_score"),
        ("confidence-confidence-on-errors", "confidence_on_errors"),
        ("confidence-risk-coverage-area", "risk_coverage_area"),
    ),
    "pairs": first_checks.pairs,
    "regression": always(
        (
            "regression-clean",
            "accuracy_change",
            {"significance": 0.001, "hand": {"threshold": -0.01, "reason": "a point of accuracy"}},
        )
    ),
    "flips": lambda about: [
        ("flips", "negative_flips", {}),
        *of_each_class("flips", "negative_flips")(about),
        ("flips-consensus", "negative_flips", {"among": "consensus"}),
    ],
    "search": first_checks.search,
    "attention": always(
        ("attention-ratio", "attention_ratio"),
        ("attention-lift", "attention_lift"),
        ("attention-dead", "dead_maps"),
        ("background-swapped", "prediction_consistency", {"background": "swapped"}),
        ("object-erased", "object_dependence"),
    ),
    "corruption": first_checks.corruption,
    SLICE: lambda about: slice_checks(about.images),
    UNKNOWN: first_checks.unknown,
}
_ENTRIES: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text("utf-8")
)
FAMILIES = Registry(
    "family",
    Family,
    {
        name: Family(name, **entry, starter_checks=_STARTERS.get(name))
        for name, entry in _ENTRIES.items()
    },
    hook="stress_families",
)
"""The families that ship, by name, in the order of a first checks file.

A user's own family has no entry.
"""


def family_title(name: str) -> str:
    """Return the title of a family; for a family that does not ship, its name."""
    family = FAMILIES.get(name)
    if family:
        return family.title
    return name.replace("-", " ").replace("_", " ").capitalize()


def family_in_words(name: str) -> str:
    """Return a family's title within a sentence or a list.

    It is in lower case, without the examples behind a comma.

    >>> family_in_words("slice")
    'groups of images'
    """
    title = family_title(name).partition(", ")[0]
    return title[:1].lower() + title[1:]


def families_in_words(names: Iterable[str], *, shown: int = 5) -> str:
    """Return the titles of the first families as text, each once, and the number of others.

    The form is that of `some_of`.
    """
    titles = [family_in_words(name) for name in dict.fromkeys(names)]
    return some_of(titles, shown=shown)


def damages(checks: ChecksFile) -> dict[str, Damage]:
    """Return by family the mutant that its checks must catch.

    A family whose mutant needs a row has one only if the file has such a row.
    """
    from harness.checks.damages import DAMAGES  # It needs PyTorch.

    mutants = {}
    for name, family in FAMILIES.items():
        if family.needs_row and not checks.family(name):
            continue
        if name in DAMAGES:
            mutants[name] = DAMAGES[name]
        elif family.damage is not None:
            mutants[name] = family.damage()
    return mutants


# The first checks file for a user's data: checks of the families wanted, without thresholds.

DEFAULT = (
    *("clean", "class", CLASS_DIFFERENCE, "consensus", "rotation", "shift"),
    *("confidence", "label_probability", "regression", "flips", "pairs"),
)
"""The families of a first checks file by default; data with groups have those of `slice`, too."""
GEOMETRIC = ("rotation", "shift", "pose", "gain", "flip", "search", "augmentation_gap")
"""Families of rotated, shifted and flipped images.

By default, only a project with an augmentation range has them.
"""
_OF_FEW_CLASSES = {CLASS_DIFFERENCE, "flips"}
"""Families with further checks of each class.

By default, data have them only up to `MOST` classes, as for groups.
"""


def offered() -> dict[str, Callable[[StarterData], list[Row]]]:
    """Return the families that a first checks file may have, with the function for their checks."""
    return {
        family.name: family.starter_checks
        for family in FAMILIES.values()
        if family.starter_checks is not None
    }


def families_of(names: str) -> tuple[str, ...]:
    """Return the families in text such as `clean,rotation`.

    Raises `InputError` for a family that is not offered.
    """
    stripped = [name.strip() for name in names.split(",")]
    families = tuple(filter(None, stripped))
    unknown = [name for name in families if name not in offered()]
    if unknown or not families:
        wrong = unknown[0] if unknown else ""
        raise InputError(
            f"--families {wrong}: no stress test of it ships; "
            f"expected some of {','.join(offered())}"
        )
    return families


def starter_checks(
    images: LabelledImages,
    families: Sequence[str] | None = None,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    min_accuracy: float | None = None,
    augmentation: AugmentationRange | None = None,
    model: RoleModel | None = None,
) -> tuple[StarterCheck, ...]:
    """Return the checks of these families for these images.

    Args:
        images: The images that the checks measure.
        families: None stands for the default families: `DEFAULT`, and `slice` for columns with
            some groups of enough images. Those of geometry are among them only with an
            `augmentation` range.
        pairs: The class pairs that checks of family `pairs` are for.
        min_accuracy: A threshold by hand on clean accuracy, a share.
        augmentation: The range that a project declares, which checks of geometry follow.
        model: Tolerances on skews are those that it keeps; without a model, these checks are
            informational.

    Raises:
        InputError: The threshold is no share, or no check has it.
    """
    if families is None:
        families = _default_families(images, augmentation)
        columns = compared_columns(images.groups)
        if columns:
            compared = {*columns, PAIR}
            groups = {name: values for name, values in images.groups.items() if name in compared}
            images = replace(images, groups=groups)
            families = (*families, SLICE)

    if min_accuracy is not None and not ("clean" in families and 0 < min_accuracy <= 1):
        raise InputError(
            f"--min-accuracy {min_accuracy:g}: expected a share above 0 and at most 1, such as "
            "0.9, and the family clean"
        )

    about = StarterData(images, tuple(pairs), min_accuracy, augmentation, model)
    checks = []
    for family, rows in offered().items():
        if family in families:
            checks += [
                StarterCheck(name, family, metric, more) for name, metric, more in rows(about)
            ]
    return with_ids_apart(checks)


def _default_families(
    images: LabelledImages, augmentation: AugmentationRange | None
) -> tuple[str, ...]:
    families: tuple[str, ...] = DEFAULT
    left_out: set[str] = set()
    if len(images.classes) > MOST:
        left_out |= _OF_FEW_CLASSES
    if augmentation is None:
        left_out |= set(GEOMETRIC)
    else:
        families = (*DEFAULT, "flip", "augmentation_gap")
    return tuple(name for name in families if name not in left_out)


def starter(images: LabelledImages, checks: Sequence[StarterCheck]) -> str:
    """Return the text of a checks file for these images, with these checks."""
    data = {"name": images.name, "split": images.split, "sha256": images.sha256, "n": len(images)}
    data["classes"] = list(images.classes)
    if any(check.family == SLICE for check in checks):
        data["groups_sha256"] = groups_sha256(images.groups)
    data |= images.domain.declared()

    lines = [
        "# `stress-harness calibrate` writes the thresholds, from reference models of your "
        "recipe. Until then, a check",
        '# has one by hand, `hand = { threshold = 0.9, reason = "..." }`, or is informational. '
        "It runs in the stress test",
        "# that is marked with its family. `stress-harness docs reference/checks` explains the "
        "keys.",
        f"\nschema = {SCHEMA}\nprotocol = {PROTOCOL}\n\n[data]",
        *(f"{key} = {in_toml(value)}" for key, value in data.items()),
        *(f"\n{check.as_toml()}" for check in checks),
    ]
    return "\n".join(lines) + "\n"
