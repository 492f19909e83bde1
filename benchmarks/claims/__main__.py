"""Run the command line: `python -m benchmarks.claims`."""

import sys

from benchmarks.claims.cli import main
from benchmarks.smoke import run

sys.exit(run(main))
