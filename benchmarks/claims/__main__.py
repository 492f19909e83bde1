"""Run the command line: `python -m benchmarks.claims`."""

import sys

from benchmarks.claims.cli import main

sys.exit(main())
