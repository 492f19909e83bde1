"""A process that forks one run of the gate for each line of standard input.

Its imports are done once. A line in is JSON with `folder`, `arguments`, `environment`, `limits` and
`output`. A line out is the run's process id, and the next its exit status, negative for the signal
that ended it.
"""

import gc
import json
import os
import resource
import signal
import sys

import hypothesis  # noqa: F401
import matplotlib.backends.backend_svg  # noqa: F401
import pytest

import harness.plugin
import harness.report.html
import harness.run.side_by_side  # noqa: F401


def become(asked):
    """Turn this process into the run: its session, folder, environment, limits and streams."""
    os.setsid()
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path.insert(0, asked["folder"])
    output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(file, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, value in asked["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))


def main():
    gc.freeze()  # Pytest collects garbage at its end, and most of it is of this process.
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            become(asked)
            return int(pytest.main(asked["arguments"]))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return 0


sys.exit(main())
