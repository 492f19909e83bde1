"""Run `python -m benchmarks.speed` on an idle machine; see the README beside this file."""

from benchmarks.smoke import run
from benchmarks.speed.run import main

if __name__ == "__main__":
    raise SystemExit(run(main))
