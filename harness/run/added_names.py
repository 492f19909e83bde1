"""Names that features of installed packages add: each must be new, and its entry usable."""

from __future__ import annotations

from harness.base.features import features


def expect_new_names() -> None:
    """Raise `FeatureError` for a feature of an installed package with a name that is there already.

    Without such features nothing is imported.
    """
    if not any(feature.entry_point for feature in features()):
        return
    from harness.checks.families import FAMILIES
    from harness.checks.roles import ROLES
    from harness.data.skews import SKEWS
    from harness.data.sources import SOURCES
    from harness.inference.predictors.kinds import KINDS
    from harness.measures import METRICS
    from harness.perturb.corruptions import CORRUPTIONS

    for table in (FAMILIES, METRICS, CORRUPTIONS, SOURCES, KINDS, ROLES, SKEWS):
        list(table)  # Listing a table makes its entries, and compares their names.
