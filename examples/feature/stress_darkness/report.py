"""The section of the report: changed predictions by light."""

from harness.report.page import Section, paragraphs, table


def section(outcome):
    """Return the section; None for a run without such checks."""
    measured = [
        verdict
        for verdict in outcome.results.verdicts
        if verdict.check.family == "darkness" and verdict.value is not None
    ]
    if not measured:
        return None
    measured.sort(key=lambda verdict: -verdict.check.keys["light"])
    rows = [
        (f"{verdict.check.keys['light']:.0%}", f"{verdict.value:.1%}", verdict.status)
        for verdict in measured
    ]
    body = paragraphs("The same images in less light, from the brightest to the darkest.")
    body += table(("light", "changed predictions", "status"), rows, numbers=True)
    return Section("darkness", "Images in the dark", body, before="checks")
