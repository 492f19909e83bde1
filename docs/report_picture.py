"""The picture of a report for the README: `python docs/report_picture.py` writes docs/report.webp.

It is the top of the page of the model `mixed-classes`, which `python -m docs.broken_models` leaves
in runs/gallery/. Needs Chromium, as tests of the report in a browser do.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from harness.base.files import write_atomically

DOCS = Path(__file__).parent
PAGE = DOCS.parent / "runs/gallery/mixed-classes/stress.html"
WIDTH, HEIGHT = 1262, 1640
"""Pixels of the part that is shown: a verdict, what fails, and the first image."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)


def main() -> int:
    """Photograph the page; returns 0, or 2 without a browser or a page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--page", type=Path, default=PAGE, metavar="HTML", help=f"the report (default: {PAGE})"
    )
    parser.add_argument(
        "--height", type=int, default=HEIGHT, metavar="PX", help=f"(default: {HEIGHT})"
    )
    parser.add_argument("--to", type=Path, default=DOCS / "report.webp", metavar="WEBP")
    options = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium: apt-get install chromium", file=sys.stderr)
        return 2
    if not options.page.is_file():
        print(
            f"{options.page}: no such report; run python -m docs.broken_models first",
            file=sys.stderr,
        )
        return 2

    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "report.png")
        size = f"--window-size={WIDTH},{options.height}"
        command = [browser, *FLAGS, size, f"--screenshot={shot}", options.page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  Its arguments are from above.
        picture = Image.open(shot).convert("RGB")

    content = io.BytesIO()
    picture.save(content, "WEBP", quality=60, method=6)
    write_atomically(options.to, content.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main())
