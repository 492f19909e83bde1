"""Checks of groups of images, and of images of no class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError, some_of
from harness.checks.first_checks import ELSEWHERE, slugs
from harness.checks.rows import ChecksError
from harness.data.groups import groups_in_words, groups_sha256

if TYPE_CHECKING:
    from harness.checks.file import ChecksFile
    from harness.checks.first_checks import Row
    from harness.data import LabelledImages
    from harness.data.groups import Groups


UNKNOWN = "unknown"
"""The family of these checks, and the key that names their images."""


def expect_elsewhere_of(
    checks: ChecksFile, elsewhere: LabelledImages | None, *, recording: bool
) -> None:
    """Raise `InputError` for images from elsewhere that no check measures, or that a check's SHA-256 does not match.

    A check with a panel threshold must name its images by their SHA-256. While a panel is recorded, every check must.
    """
    if elsewhere is None:
        return
    about = [check for check in checks.family(UNKNOWN) if check.keys.get(UNKNOWN) == ELSEWHERE]
    if not about:
        by_command = (
            "" if checks.family(UNKNOWN) else f"run `stress-harness init --families {UNKNOWN}`, or "
        )
        raise InputError(
            f"names images, but no check of {checks.path} measures them; {by_command}add a check of family "
            f'"{UNKNOWN}" with {UNKNOWN} = "{ELSEWHERE}"',
            setting=UNKNOWN,
        )
    for check in about:
        named, where, sha256 = (
            check.keys.get("sha256"),
            f"{checks.path}: check {check.id!r}",
            elsewhere.sha256,
        )
        if named is None and (recording or check.binding is check.panel is not None):
            raise ChecksError(
                f'{where}: its threshold is for certain images, but it names none; add sha256 = "{sha256}" for the '
                f"images {elsewhere.name}, and calibrate"
            )
        if named not in {None, sha256}:
            raise ChecksError(
                f"{where}: sha256 is {str(named)[:12]}…, the images {elsewhere.name} have {sha256[:12]}…; name the "
                "images of its calibration, or calibrate it for these"
            )


SLICE, CLASS_DIFFERENCE = "slice", "class-difference"
"""The families of these checks, of those that compare a class with the others, and of serving pipelines."""
LEAST, MOST = 50, 100
"""Least images of a group that is compared with others, and most groups of a column that get a check each."""
PAIR = "pair"
"""Column that says which images show the same thing; it has no checks of its own."""
_WHERE = (
    "`groups` in an npz file, groups.csv in a folder of images or beside it, or further columns of a csv or "
    "Parquet file"
)


def expect_groups_of(checks: ChecksFile, images: LabelledImages) -> None:
    """Raise `ChecksError` unless the images have the groups that the checks were made for.

    `images` are all images of the data. A file without checks of groups accepts any.
    """
    sliced = checks.family(SLICE)
    if not sliced:
        return
    if not images.groups:
        raise ChecksError(
            f"{checks.path}: has {len(sliced)} checks of family {SLICE!r}, and the data have no groups. Add a value "
            f"for each image ({_WHERE}), or remove the checks"
        )
    found, expected = groups_sha256(images.groups), checks.data.groups_sha256
    if found != expected:
        made = (
            "does not say which groups its checks are for"
            if expected is None
            else "was made for other groups"
        )
        raise ChecksError(
            f"{checks.path}: {made}; the data have {groups_in_words(images.groups)}. Bring back those groups, or write "
            f'groups_sha256 = "{found}" into its [data] and calibrate --family {SLICE}'
        )
    for check in sliced:
        by, group, pair = (
            str(check.keys.get("by")),
            check.keys.get("group"),
            check.keys.get("paired_by"),
        )
        where, columns = f"{checks.path}: check {check.id!r}", ", ".join(images.groups)
        if by not in images.groups:
            raise ChecksError(f"{where}: by is {by!r}, the data have groups by {columns}")
        if pair is not None and pair not in images.groups:
            raise ChecksError(
                f"{where}: paired_by is {pair!r}, the data have the columns {columns}"
            )
        if group is not None and group not in (names := sorted(set(images.groups[by].tolist()))):
            raise ChecksError(
                f"{where}: group is {group!r}, the data have by {by}: {some_of(names, shown=20)}"
            )


def compared_columns(groups: Groups) -> list[str]:
    """Return the columns that a first gate compares: from two groups with `LEAST` images up to `MOST` groups."""
    sizes = {
        name: np.unique(values, return_counts=True)[1]
        for name, values in groups.items()
        if name != PAIR
    }
    return [
        name for name, found in sizes.items() if len(found) <= MOST and (found >= LEAST).sum() > 1
    ]


def slice_checks(images: LabelledImages) -> list[Row]:
    """Return first checks of the groups of these images: for each column the worst group, the gap, and each group.

    Each group has a check of its accuracy and one of its difference to the others, by pairs where the data have some.
    Raises `InputError` for images without groups.
    """
    groups = {
        name: sorted(set(values.tolist())) for name, values in images.groups.items() if name != PAIR
    }
    if not groups:
        raise InputError(
            f"--families {SLICE}: the data have no groups; add a value for each image ({_WHERE})"
        )
    checks: list[Row] = []
    for column, slug in slugs(list(groups), kind="column").items():
        by: dict[str, object] = {"by": column}
        checks.append((f"worst-{slug}", "worst_group_accuracy", {**by, "least": LEAST}))
        checks.append((f"gap-{slug}", "group_gap", {**by, "least": LEAST}))
        if len(groups[column]) <= MOST:  # Among hundreds of groups, the worst one is enough.
            named = {
                name: {**by, "group": group}
                for group, name in slugs(groups[column], kind="group").items()
            }
            checks += [(f"slice-{slug}-{name}", "group_accuracy", of) for name, of in named.items()]
            pair = {"paired_by": PAIR} if _has_pairs(images.groups, column) else {}
            if len(named) > 1:
                checks += [
                    (f"difference-{slug}-{name}", "group_difference", of | pair)
                    for name, of in named.items()
                ]
    return checks


def _has_pairs(groups: Groups, column: str) -> bool:
    """Return whether some pair of each group of the column crosses groups."""
    if PAIR not in groups:
        return False
    crossing: dict[str, set[str]] = {}
    for pair, group in zip(groups[PAIR].tolist(), groups[column].tolist(), strict=True):
        crossing.setdefault(pair, set()).add(group)
    return set[str]().union(*(each for each in crossing.values() if len(each) > 1)) == set(
        groups[column].tolist()
    )
