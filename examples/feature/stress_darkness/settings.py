"""The setting of a run that adds an informational check in some light."""

from harness.base.groups import Settings, setting


class DarknessSettings(Settings):
    """The setting for one more check in the dark."""

    light: float | None = setting(
        "Also measure changed predictions in this share of the light, such as 0.3; the check has "
        "no threshold (default: none).",
        metavar="SHARE",
        ge=0,
        le=1,
    )


def rows(request):
    """Return the check that the setting asks for."""
    if request.light is None:
        return []
    from harness.checks import Check

    name = f"darkness-{request.light:g}".replace(".", "-")
    return [Check(name, "darkness", "changed_in_the_dark", keys={"light": request.light})]
