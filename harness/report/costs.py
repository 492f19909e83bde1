"""What a run would cost, as the terminal shows it: a table of the plan, and samples as lines of a gates file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.run.budget import noticeable_loss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.inference.planning import Asked
    from harness.run.plan import Plan


def samples_in_toml(samples: Mapping[str, int]) -> list[str]:
    """Return samples as lines of a gates file, each with the loss that its family then notices."""
    if not samples:
        return ["all images fit into the time"]
    width = max(map(len, samples))
    return [
        "to fit, calibrate anew with these lines in the gates file:",
        "[data.samples]",
        *(
            f"{name:{width}} = {size}  # notices {100 * noticeable_loss(size):.1f} points of 90% with 95% power"
            for name, size in samples.items()
        ),
    ]


def plan_lines(plan: Plan) -> list[str]:
    """Return the plan as the terminal shows it: a row for each family, self-checks and overview, and all of them."""
    from harness.run.plan import in_words

    head = ("", "tests", "passes", "image-poses", "maps", "cached", "time", "notices")

    def cells(name: str, asked: Asked) -> tuple[str, ...]:
        counts = (asked.passes, asked.poses, asked.maps, asked.cached)
        tests, power = "", ""
        if name in plan.rows:
            tests, power = str(plan.rows[name]), f"{100 * noticeable_loss(plan.sizes[name]):.1f}"
        return (name, tests, *(f"{each:,}" for each in counts), in_words(plan.seconds(asked)), power)

    table = [head, *(cells(name, asked) for name, asked in plan.asked.items())]
    table.append(cells("all", plan.total))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    costs = plan.costs
    memory = f"; memory so far {costs.peak_bytes / 1e9:.1f} GB" if costs.peak_bytes else ""
    return [
        *lines,
        f"{plan.images:,} images; {costs.seconds * 1000:.2g} ms an image and pose, {costs.map_seconds * 1000:.2g} ms a "
        f"map, measured on one batch each, of one core{memory}",
        "notices: the loss of accuracy, in points of 90%, noticed with 95% power if chance alone made the spread",
        "searches end early, so that theirs is an upper bound; nothing was judged",
    ]
