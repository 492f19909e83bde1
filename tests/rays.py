"""Clusters of Ray's on this machine, and which processes a command has left behind."""

import contextlib
import os
import time
from contextlib import contextmanager
from pathlib import Path

MARK = "STRESS_HARNESS_TEST_MARK"
SYSTEM = {
    # Ray's 15 would leave workers a thirtieth of a core beside the other tests.
    "worker_niceness": 0,
    # A lost node refuses connections at once; by default, Ray concludes from that after 15 s.
    "health_check_period_ms": 500,
}
"""Configuration of clusters."""


@contextmanager
def ray_cluster(*, nodes: int):
    """Yield a cluster of a node without cores, where drivers are, and of nodes of one core each."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SYSTEM}
    found = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes):
            found.add_node(num_cpus=1)
        yield found
    finally:
        found.shutdown()


def workers() -> list[int]:
    """Return the processes of workers that are at work."""
    return named("ray::call_on_node")


def named(begin: str) -> list[int]:
    """Return the processes whose command line begins like this."""
    return [pid for pid in _processes() if _read(pid, "cmdline").startswith(begin)]


def marked(mark: str) -> list[str]:
    """Return what runs of whatever was started with this mark in its environment."""
    found = [pid for pid in _processes() if f"{MARK}={mark}\0" in _read(pid, "environ")]
    return [f"{pid} {_read(pid, 'cmdline')[:80]}" for pid in found if pid != os.getpid()]


def nothing_is_left(mark: str, *, seconds: float):
    """Wait until nothing runs of what was started with this mark.

    Fails, and says what does, when it is not in time.
    """
    end = time.monotonic() + seconds
    while left := marked(mark):
        assert time.monotonic() < end, f"after {seconds} s there are {left}"
        time.sleep(0.2)


def wait_until(condition, *, seconds: float, every: float = 0.2, state=str):
    """Return the first true result of the condition.

    Fail after so many seconds, with the `state()` in the message.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s {state()}"
        time.sleep(every)
    return result


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text("utf-8", errors="replace")
    return ""
