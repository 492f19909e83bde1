"""Checks of groups of images, and of images of no class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError, some_of
from harness.checks.first_checks import ELSEWHERE, slugs
from harness.checks.rows import ChecksError
from harness.data.groups import groups_in_words, groups_sha256

if TYPE_CHECKING:
    from harness.checks.check import Check
    from harness.checks.file import ChecksFile
    from harness.checks.first_checks import Row
    from harness.data import LabelledImages
    from harness.data.groups import Groups


UNKNOWN = "unknown"
"""The family of these checks, and the key that names their images."""


def expect_elsewhere_of(
    checks: ChecksFile, elsewhere: LabelledImages | None, *, recording: bool
) -> None:
    """Raise `InputError` unless checks measure these images from elsewhere, and name no others.

    A check with a panel threshold must name its images by their SHA-256. While a panel is recorded
    (`recording`), every check must.
    """
    if elsewhere is None:
        return
    checks_of_images = [
        check for check in checks.family(UNKNOWN) if check.keys.get(UNKNOWN) == ELSEWHERE
    ]
    if not checks_of_images:
        raise InputError(
            f"names images, but no check of {checks.path} measures them; {_way_to_check(checks)}",
            setting=UNKNOWN,
        )
    for check in checks_of_images:
        sha256 = check.keys.get("sha256")
        where = f"{checks.path}: check {check.id!r}"
        is_for_certain_images = check.panel is not None and check.binding is check.panel
        if sha256 is None and (recording or is_for_certain_images):
            raise ChecksError(
                f"{where}: its threshold is for certain images, but it names none; add "
                f'sha256 = "{elsewhere.sha256}" for the images {elsewhere.name}, and calibrate'
            )
        if sha256 not in {None, elsewhere.sha256}:
            raise ChecksError(
                f"{where}: sha256 is {str(sha256)[:12]}…, the images {elsewhere.name} have "
                f"{elsewhere.sha256[:12]}…; name the images of its calibration, or calibrate it "
                "for these"
            )


def _way_to_check(checks: ChecksFile) -> str:
    """Return how to get checks of images from elsewhere."""
    row = f'add a check of family "{UNKNOWN}" with {UNKNOWN} = "{ELSEWHERE}"'
    if checks.family(UNKNOWN):
        return row
    return f"run `stress-harness init --families {UNKNOWN}`, or {row}"


SLICE = "slice"
"""The family of checks of groups."""
CLASS_DIFFERENCE = "class-difference"
"""The family of checks that compare a class with the others."""
LEAST, MOST = 50, 100
"""Fewest images of a group that is compared, and most groups of a column that get checks each."""
PAIR = "pair"
"""Column that says which images show the same thing; it has no checks of its own."""
_WHERE = (
    "`groups` in an npz file, groups.csv in a folder of images or beside it, or further columns of "
    "a csv or Parquet file"
)


def expect_groups_of(checks: ChecksFile, images: LabelledImages) -> None:
    """Raise `ChecksError` unless the images have the groups that the checks were made for.

    `images` are all images of the data. A file without checks of groups accepts any.
    """
    slice_rows = checks.family(SLICE)
    if not slice_rows:
        return
    if not images.groups:
        raise ChecksError(
            f"{checks.path}: has {len(slice_rows)} checks of family {SLICE!r}, and the data have "
            f"no groups. Add a value for each image ({_WHERE}), or remove the checks"
        )
    _expect_same_groups(checks, images.groups)
    for check in slice_rows:
        _expect_columns(check, images.groups, where=f"{checks.path}: check {check.id!r}")


def _expect_same_groups(checks: ChecksFile, groups: Groups) -> None:
    sha256 = groups_sha256(groups)
    expected = checks.data.groups_sha256
    if sha256 == expected:
        return
    fact = "was made for other groups"
    if expected is None:
        fact = "does not say which groups its checks are for"
    raise ChecksError(
        f"{checks.path}: {fact}; the data have {groups_in_words(groups)}. Bring back those groups, "
        f'or write groups_sha256 = "{sha256}" into its [data] and calibrate --family {SLICE}'
    )


def _expect_columns(check: Check, groups: Groups, *, where: str) -> None:
    """Raise `ChecksError` for a column or a group of a check that the data do not have."""
    column = str(check.keys.get("by"))
    columns = ", ".join(groups)
    if column not in groups:
        raise ChecksError(f"{where}: by is {column!r}, the data have groups by {columns}")
    pair = check.keys.get("paired_by")
    if pair is not None and pair not in groups:
        raise ChecksError(f"{where}: paired_by is {pair!r}, the data have the columns {columns}")
    group = check.keys.get("group")
    names = sorted(set(groups[column].tolist()))
    if group is not None and group not in names:
        raise ChecksError(
            f"{where}: group is {group!r}, the data have by {column}: {some_of(names, shown=20)}"
        )


def compared_columns(groups: Groups) -> list[str]:
    """Return the columns that a first gate compares.

    They have two groups or more with `LEAST` images, and at most `MOST` groups.
    """
    columns: list[str] = []
    for name, values in groups.items():
        sizes = np.unique(values, return_counts=True)[1]
        large_groups = (sizes >= LEAST).sum()
        if name != PAIR and len(sizes) <= MOST and large_groups > 1:
            columns.append(name)
    return columns


def slice_checks(images: LabelledImages) -> list[Row]:
    """Return first checks of the groups of these images, column by column.

    They are of the worst group, of the gap, and of the accuracy of each group and its difference to
    the others, by pairs where the data have some. Raises `InputError` for images without groups.
    """
    columns = [name for name in images.groups if name != PAIR]
    if not columns:
        raise InputError(
            f"--families {SLICE}: the data have no groups; add a value for each image ({_WHERE})"
        )
    rows: list[Row] = []
    for column, slug in slugs(columns, kind="column").items():
        entries = {"by": column, "least": LEAST}
        rows.append((f"worst-{slug}", "worst_group_accuracy", entries))
        rows.append((f"gap-{slug}", "group_gap", entries))
        rows += _rows_of_groups(images.groups, column, slug)
    return rows


def _rows_of_groups(groups: Groups, column: str, slug: str) -> list[Row]:
    """Return checks of each group of a column; among hundreds of groups, the worst is enough."""
    names = sorted(set(groups[column].tolist()))
    if len(names) > MOST:
        return []
    entries = {
        f"{slug}-{group_slug}": {"by": column, "group": name}
        for name, group_slug in slugs(names, kind="group").items()
    }
    rows: list[Row] = [
        (f"slice-{end}", "group_accuracy", of_group) for end, of_group in entries.items()
    ]
    if len(names) > 1:
        pair = {"paired_by": PAIR} if _has_pairs(groups, column) else {}
        rows += [
            (f"difference-{end}", "group_difference", of_group | pair)
            for end, of_group in entries.items()
        ]
    return rows


def _has_pairs(groups: Groups, column: str) -> bool:
    """Return whether each group of the column has a pair that crosses groups."""
    if PAIR not in groups:
        return False
    groups_of_pair: dict[str, set[str]] = {}
    for pair, group in zip(groups[PAIR].tolist(), groups[column].tolist(), strict=True):
        groups_of_pair.setdefault(pair, set()).add(group)

    crossed: set[str] = set()
    for crossing in groups_of_pair.values():
        if len(crossing) > 1:
            crossed |= crossing
    return crossed == set(groups[column].tolist())
