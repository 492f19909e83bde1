"""Records of features: what a feature found in a run, under a key of its own in `stress.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.base.features import results
from harness.base.records import as_plain, read_record, record
from harness.run.shown import Face

if TYPE_CHECKING:
    from collections.abc import Mapping


class FeatureRecord:
    """Base of the record that a feature leaves of a run.

    The record of each feature is a frozen class of its own. Its fields are the value of the
    feature's key in `stress.json`. An image stands in a field `image`, as an address with its
    content; the file has its name instead. The feature draws its sections of the report from the
    record.
    """

    @property
    def summary_lines(self) -> tuple[str, ...]:
        """Return what every summary of the run says of the record; by default nothing."""
        return ()

    @property
    def headline_caution(self) -> str:
        """Return why a pass is worth little, for the headline; empty by default."""
        return ""


GroupCounts = tuple[str, str, int, int, int, int]
"""Name of a class or a group, what groups the images, and four counts of images."""


@record
class PicturedRecord(FeatureRecord):
    """Record of a feature that shows images, in one schema for all such features.

    `sentence` is the result. `caution` is the reason why it is worth little, or empty. `faces` are
    images under a `title`, the most telling first. `pairs` are changes from class to class with
    their counts. `groups` are rows of a table of classes and groups. `facts` are further sentences.
    A feature leaves empty what it does not show.
    """

    sentence: str
    caution: str
    title: str = ""
    faces: tuple[Face, ...] = ()
    pairs: tuple[tuple[str, int], ...] = ()
    groups: tuple[GroupCounts, ...] = ()
    facts: tuple[str, ...] = ()

    @property
    def summary_lines(self) -> tuple[str, ...]:
        """Return the sentence."""
        return (self.sentence,)


def record_types() -> dict[str, type[FeatureRecord]]:
    """Return the types of the records that features leave, by their keys in `stress.json`."""
    return {
        key: record_type()
        for types in results("stress_record_types")
        for key, record_type in types.items()
    }


def plain_records(parts: Mapping[str, FeatureRecord]) -> dict[str, Any]:
    """Return the keys of all features with their records in plain types, null without a record."""
    plain: dict[str, Any] = dict.fromkeys(record_types())
    for key, part in parts.items():
        plain[key] = as_plain(part)
    return plain


def read_records(plain: Mapping[str, Any], *, where: str) -> dict[str, FeatureRecord]:
    """Return the records of features in the content of `stress.json`.

    Raises `InputError` for an invalid one. A key that an earlier version did not write is a record
    that the run does not have.
    """
    parts = {}
    for key, kind in record_types().items():
        value = plain.get(key)
        if value is not None:
            parts[key] = read_record(kind, value, where=f"{where}: {key}")
    return parts
