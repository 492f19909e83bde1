"""Run the command line: `python -m benchmarks.detection`."""

import sys

from benchmarks.detection.cli import main

sys.exit(main())
