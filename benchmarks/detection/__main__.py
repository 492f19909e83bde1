"""Run the command line: `python -m benchmarks.detection`."""

import sys

from benchmarks.detection.cli import main
from benchmarks.smoke import run

sys.exit(
    run(
        main,
        "train --again --only healthy-seed-101",
        "train --again --only backdoor-1-seed-201",
        "train --again --only weight-noise-1-seed-201",
        "measure --quick --only healthy-seed-101",
        "flip",
        "parents",
        "backdoors",
        "colour",
        "shares",
        "report",
    )
)
