"""Darkness: a model keeps its predictions when images are darker.

Every process of the harness imports this module, so heavy imports stand inside the functions.
"""

from harness.base.features import Command, Family


def stress_families():
    return [
        Family(
            "darkness",
            "Images in the dark",
            measures="Share of images with another prediction when they are darkened.",
            failure="Add darker images to the training, or correct the exposure before the model.",
            page="https://github.com/you/stress-darkness",
            area="light",
            starter_checks=first_checks,
            needs_row=True,
        )
    ]


def first_checks(data):  # noqa: ARG001  They are the same for all data.
    """Return the rows of a first checks file: id, metric and further keys."""
    return [("darkness-080", "changed_in_the_dark", {"light": 0.8})]


def stress_metrics():
    from stress_darkness.measures import CHANGED_IN_THE_DARK

    return [CHANGED_IN_THE_DARK]


def stress_settings():
    from stress_darkness.settings import DarknessSettings

    return {DarknessSettings: "Scope"}


def stress_rows(request):
    from stress_darkness.settings import rows

    return rows(request)


def stress_commands():
    return {
        "darkness": Command(
            "Inspect", "stress_darkness.command", "Print a model's accuracy in less and less light."
        )
    }


def stress_self_checks(session, judge):
    from stress_darkness.self_check import darkness_is_noticed

    return {"lost-in-the-dark": darkness_is_noticed(session, judge)}


def stress_sections(outcome):
    from stress_darkness.report import section

    return [section(outcome)]
