"""Rows about groups of images, such as those of a camera or site: first ones, and whether the data have the groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.data.groups import groups_in_words, groups_sha256
from harness.errors import InputError, some_of
from harness.gates.rows import GatesError
from harness.gates.starter_row import StarterRow, in_toml, slugs

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.gates.file import GatesFile

SLICE = "slice"
"""The family of these rows."""
LEAST, MOST = 50, 100
"""Images of a group that is compared with others, and groups of a column that have a row each."""
_WHERE = "`groups` in an npz file, groups.csv in a folder of images or beside it, or further columns of a csv file"


def expect_groups_of(gates: GatesFile, images: LabelledImages) -> None:
    """Raise `GatesError` unless the images have the groups that the rows were made for.

    `images` are all of the data's. A file without rows about groups is for any.
    """
    rows = gates.family(SLICE)
    if not rows:
        return
    if not images.groups:
        raise GatesError(
            f"{gates.path}: has {len(rows)} rows of family {SLICE!r}, and the data have no groups: {_WHERE}, a value "
            "for each image; bring them back, or take the rows out"
        )
    found, expected = groups_sha256(images.groups), gates.data.groups_sha256
    if found != expected:
        made = "does not say which groups its rows are for" if expected is None else "was made for other groups"
        raise GatesError(
            f"{gates.path}: {made}; the data have {groups_in_words(images.groups)}. Bring back those groups, or write "
            f'groups_sha256 = "{found}" into its [data] and calibrate --family {SLICE}'
        )
    for row in rows:
        by, group = str(row.keys.get("by")), row.keys.get("group")
        if by not in images.groups:
            raise GatesError(
                f"{gates.path}: gate {row.id!r}: by is {by!r}, the data have groups by {', '.join(images.groups)}"
            )
        if group is not None and group not in (names := sorted(set(images.groups[by].tolist()))):
            raise GatesError(
                f"{gates.path}: gate {row.id!r}: group is {group!r}, the data have by {by}: {some_of(names, shown=20)}"
            )


def slice_rows(images: LabelledImages) -> list[StarterRow]:
    """Return first rows about the groups of these images: of each column the worst group, the gap, and each group.

    Raises `InputError` for images without groups.
    """
    groups = {name: sorted(set(values.tolist())) for name, values in images.groups.items()}
    if not groups:
        raise InputError(f"--families {SLICE}: the data have no groups: {_WHERE}, a value for each image")
    rows = []
    for column, slug in slugs(list(groups), kind="column").items():
        by, least = f"by = {in_toml(column)}", f"least = {LEAST}"
        rows.append(StarterRow(f"worst-{slug}", SLICE, "worst_group_accuracy", (by, least)))
        rows.append(StarterRow(f"gap-{slug}", SLICE, "group_gap", (by, least)))
        if len(groups[column]) <= MOST:  # Of hundreds of batches, the worst says enough.
            rows += [
                StarterRow(f"slice-{slug}-{name}", SLICE, "group_accuracy", (by, f"group = {in_toml(group)}"))
                for group, name in slugs(groups[column], kind="group").items()
            ]
    return rows
