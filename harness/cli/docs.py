"""The command `docs`: pages of the documentation, which an installed package has, too."""

from __future__ import annotations

import click

from harness.cli import options


@click.command(
    "docs",
    cls=options.CommandWithExample,
    example="docs troubleshooting#data",
    help="Print a page of the documentation, or a section of it, as Markdown. Without PAGE, print "
    "the names and titles of all pages.",
)
@click.argument("page", required=False, metavar="[PAGE[#SECTION]]")
def docs_command(page: str | None) -> int:
    """Print a page."""
    from harness.base import documentation
    from harness.report.page import aligned

    if page is None:
        rows = [("page", "title"), *documentation.pages().items()]
        options.tell(*aligned(rows, text=(0, 1)))
    else:
        print(documentation.page(page), end="")
    return options.OK
