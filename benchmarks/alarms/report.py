"""The tables of the page, from the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.alarms.rates import Rate, Setting
from benchmarks.runner import table
from harness.checks.families import family_in_words

Results = Mapping[str, Sequence[Setting]]
"""The settings of each source, by its title."""
_HEAD = (
    "images",
    "reference models",
    "panels (refused)",
    "runs",
    "checks that judge",
    "promised",
    "runs with any alarm",
    "candidates with an alarm in some run",
)


def tables(results: Results) -> str:
    """Return all tables: false alarms, detection, families, and families above their share."""
    parts = []
    for title, settings in results.items():
        parts += [f"### {title}", alarms_table(settings)]
        if settings[0].power:
            parts += ["Broken networks that the gate fails:", power_table(settings)]
        largest = settings[-1].images
        parts += [
            f"False alarms by family, with {largest:,} images:",
            families_table([setting for setting in settings if setting.images == largest]),
        ]
    return "\n\n".join([*parts, "### Above the share", exceeding(results)])


def alarms_table(settings: Sequence[Setting]) -> str:
    """Return the table of runs with any alarm, a line for each setting."""
    rows = [
        (
            f"{setting.images:,}",
            setting.reference_models,
            f"{setting.panels} ({setting.refused})",
            f"{setting.runs:,}",
            f"{setting.judging:.0%}",
            f"{setting.promised:.2%}",
            in_words(setting.alarms),
            f"{setting.networks_with_alarms:,} of {setting.candidates:,}",
        )
        for setting in settings
    ]
    return table(_HEAD, rows)


def power_table(settings: Sequence[Setting]) -> str:
    """Return the table of broken networks, a line for each setting."""
    kinds = list(settings[0].power)
    rows = [
        (
            f"{setting.images:,}",
            setting.reference_models,
            *(f"{setting.power[kind]:.1%}" for kind in kinds),
        )
        for setting in settings
    ]
    return table(("images", "reference models", *(kind.replace("-", " ") for kind in kinds)), rows)


def families_table(settings: Sequence[Setting]) -> str:
    """Return the table of false alarms by family, a column for each number of reference models."""
    names = list(dict.fromkeys(name for setting in settings for name in setting.families))
    rows = []
    for name in names:
        share = next(
            setting.families[name].share for setting in settings if name in setting.families
        )
        cells = [_family_cell(setting, name) for setting in settings]
        share_text = "by hand" if share is None else f"{share:.3%}"
        rows.append((family_in_words(name), share_text, *cells))
    heads = (f"K = {setting.reference_models}" for setting in settings)
    return table(("family", "share", *heads), rows)


def _family_cell(setting: Setting, name: str) -> str:
    family = setting.families.get(name)
    if family is None:
        return "no value"
    if family.judging == 0:
        return "informational"
    judging = "" if family.judging in {None, 1.0} else f", {family.judging:.0%} judge"
    mark = "**" if family.exceeds else ""
    return f"{mark}{in_words(family.alarms, decimals=3)}{mark}{judging}"


def in_words(rate: Rate, *, decimals: int = 2) -> str:
    """Return a rate with its interval."""
    return f"{rate.rate:.{decimals}%} ({rate.low:.{decimals}%} to {rate.high:.{decimals}%})"


def exceeding(results: Results) -> str:
    """Return the settings and families whose interval lies above what is promised."""
    rows = []
    for title, settings in results.items():
        for setting in settings:
            place = (title, f"{setting.images:,}", setting.reference_models)
            if setting.alarms.low > setting.promised:
                promised = f"{setting.promised:.2%}"
                rows.append((*place, "**any**", promised, in_words(setting.alarms)))
            for name, family in setting.families.items():
                if family.exceeds:
                    rate = in_words(family.alarms, decimals=3)
                    rows.append((*place, family_in_words(name), f"{family.share:.3%}", rate))
    if not rows:
        return "No rate is above what is promised beyond its interval."
    head = ("domain", "images", "reference models", "family", "promised", "false alarms")
    return table(head, rows)
