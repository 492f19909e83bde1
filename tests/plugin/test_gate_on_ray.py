"""The gate and calibration on a cluster: the same verdict and panel.

A lost cluster ends the run with 4 and leaves no process.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest
from rays import MARK, named, nothing_is_left, ray_cluster, wait_until, workers
from zoo import ROWS, TRAINING, kept_predictions

from harness.cli import main

pytestmark = pytest.mark.cluster

SLOW = """
import os, time
from pathlib import Path

from harness.measures import accuracy
from harness.plugin import check


class Slow:
    def __init__(self, name):
        self.name = name

    def __call__(self, pixels):
        Path(f"{self.name}-at-work-{os.getpid()}").touch()
        while not Path(f"{self.name}-may-go-on").exists():
            time.sleep(0.05)
        return pixels


@check("slow")
def test_slow(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(accuracy(candidate.predict(images, Slow(stress_check.id))))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
"""
ROW = """
[[check]]
id = "{}"
family = "slow"
metric = "accuracy"
hand = {{ threshold = 0.5 }}
"""
FIRST, LAST = "first", "last"
RAY = ("--stress-backend", "ray")


@pytest.fixture
def zoo(zoo):
    """The repository with two checks whose predictions wait for permission in their workers."""
    (zoo.tests / "test_slow.py").write_text(SLOW)
    zoo.bind(ROWS + ROW.format(FIRST) + ROW.format(LAST))
    zoo.started = []
    yield zoo
    for process in zoo.started:
        if process.poll() is None:  # From a test that failed; its workers would pass as another's.
            process.kill()
            process.communicate()  # Else its pipes are garbage of another test.


def go_on(zoo, *names):
    """Let the predictions of checks go on, those to come too."""
    for name in names:
        (zoo.root / f"{name}-may-go-on").touch()


def at_work(zoo, name=FIRST):
    """Return the processes that predict, or have, for a check."""
    return {int(path.name.rpartition("-")[2]) for path in zoo.root.glob(f"{name}-at-work-*")}


def workers_at_work(zoo, name=FIRST, *, count=1):
    """Wait until so many live workers predict for a check; return their processes."""

    def enough():
        no_driver_has_failed(zoo)
        at_work_now = at_work(zoo, name) & set(workers())
        return at_work_now if len(at_work_now) == count else None

    def state():
        return (
            f"({name} ran in {at_work(zoo, name)}; live workers: {workers()}; all of Ray: "
            f"{named('ray::')})"
        )

    return wait_until(enough, seconds=150, state=state)


def measuring_on_both_nodes(zoo):
    """Wait until both nodes measure a model and a check predicts.

    A worker measures in a process of its own.
    """

    def measuring():
        no_driver_has_failed(zoo)
        return len(workers()) == 2 and at_work(zoo)

    wait_until(measuring, seconds=150)


def no_driver_has_failed(zoo):
    """Fail with the output of a command that ended with an error.

    Its workers never start.
    """
    for process in zoo.started:
        if process.poll() not in (None, 0):
            pytest.fail(f"the command ended with {process.returncode}:\n{process.communicate()[0]}")


def started(
    zoo,
    *arguments,
    cache="cache",
    address=None,
    command=("-m", "pytest", "stress_tests", "-p", "no:html"),
):
    """Start the gate, or another command, in a process of its own, and return it."""
    zoo.mark = uuid.uuid4().hex
    environment = {**os.environ, "XDG_CACHE_HOME": str(zoo.root / cache), MARK: zoo.mark}
    environment.pop("RAY_ADDRESS", None)
    if address:
        environment["RAY_ADDRESS"] = address
    options = (
        ("--stress-set", f"data={zoo.data}", "--stress-set=no_overview=true")
        if "pytest" in command
        else ()
    )
    process = subprocess.Popen(
        (sys.executable, *command, *options, *arguments),
        cwd=zoo.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    zoo.started.append(process)
    return process


@pytest.fixture(scope="module")
def killed():
    """Return the marks of killed drivers. Nothing of these may run when all tests are done.

    Ray's agents look for the head of such a cluster for a minute before they end, in which the
    other tests run.
    """
    marks = []
    yield marks
    for mark in marks:
        nothing_is_left(mark, seconds=100)


@pytest.mark.usefixtures("interruptible")
def test_drivers_that_end_leave_no_process(zoo, killed):
    """The first, since it leaves what takes a minute to end."""
    drivers = {}
    for ending in (signal.SIGKILL, signal.SIGINT):
        reports = ("--stress-reports", ending.name)
        process = started(
            zoo, *RAY, "--stress-set", "ray_workers=1", "-k", FIRST, *reports, cache=ending.name
        )
        drivers[ending] = process, zoo.mark
    priorities = {
        os.getpriority(os.PRIO_PROCESS, worker) for worker in workers_at_work(zoo, count=2)
    }
    assert priorities == {os.getpriority(os.PRIO_PROCESS, 0)}, (
        "workers have the priority of the command"
    )
    for ending, (process, _) in drivers.items():
        process.send_signal(ending)
    for ending, (process, mark) in drivers.items():
        process.communicate(timeout=60)
        assert process.returncode == (2 if ending == signal.SIGINT else -9)
        if ending == signal.SIGINT:
            nothing_is_left(mark, seconds=45)
        else:
            killed.append(mark)
    wait_until(lambda: not at_work(zoo) & set(workers()), seconds=60)


def test_the_gate_finds_the_same_as_one_process_and_leaves_nothing(zoo, monkeypatch):
    go_on(zoo, FIRST, LAST)
    on_ray = started(
        zoo, *RAY, "--stress-set", "ray_workers=2", "--stress-reports", "ray", cache="ray"
    )
    said, _ = on_ray.communicate(timeout=400)
    assert on_ray.returncode == 0, said
    assert "cluster: 2 workers" in said
    assert "raylet" not in said, "Ray's own logs are silent"
    monkeypatch.setenv("XDG_CACHE_HOME", str(zoo.root / "plain"))
    assert zoo.run("--stress-reports", "plain").ret == 0
    mine, theirs = zoo.report("plain"), zoo.report("ray")
    for name in ("verdict", "checks", "errors", "omissions", "self_checks"):
        assert mine[name] == theirs[name]
    assert len(mine["checks"]) == 6
    mine, theirs = (
        # Without what self-checks found, since this process has more code of the user.
        {
            name: content
            for name, content in kept_predictions(zoo.root / folder).items()
            if content[:1] != b"{"
        }
        for folder in ("plain", "ray")
    )
    assert mine
    assert mine == theirs
    nothing_is_left(zoo.mark, seconds=30)


@pytest.fixture(scope="module")
def nodes():
    with ray_cluster(nodes=2) as found:
        yield found


def lose_a_node(nodes):
    nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)


def test_a_node_that_dies_while_a_panel_is_measured_changes_nothing(zoo, nodes, runs):
    seeds = [f"seed-{seed}.safetensors" for seed in range(1, 4)]
    for seed, name in enumerate(seeds, 1):
        zoo.save(name, seed=seed, jitter=0.1, training={**TRAINING, "seed": seed})
    checks = f'{ROWS + ROW.format(FIRST)}\n[gate]\ndata = "{zoo.data}"\n'
    zoo.bind(checks)
    command = (
        "-m",
        "harness",
        "calibrate",
        "--checkpoints",
        *seeds,
        "--panel",
        "ray.json",
        "--backend",
        "ray",
    )
    process = started(zoo, address=nodes.address, command=command)
    measuring_on_both_nodes(zoo)
    lose_a_node(nodes)
    go_on(zoo, FIRST)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert said.count(".safetensors: ") >= 3, "a line for each member"
    zoo.bind(checks)
    assert main(["calibrate", "--checkpoints", *seeds, "--panel", "plain.json"]) == 0
    mine, theirs = (
        [
            member["values"]
            for member in json.loads((zoo.root / f"{name}.json").read_text())["models"]
        ]
        for name in ("plain", "ray")
    )
    assert mine == theirs
    assert np.isfinite(list(mine[0].values())).all()


def test_what_dies_during_a_gate_changes_nothing_until_no_node_is_left(zoo, nodes):
    go_on(zoo, FIRST, LAST)
    assert zoo.run().ret == 0
    expected = zoo.report()["checks"]
    for place in zoo.root.glob("*-may-go-on"):
        place.unlink()
    while len(nodes.worker_nodes) < 2:  # Another test has taken one away.
        nodes.add_node(num_cpus=1)
    # Another test holds that a run waits for half a minute at most.
    (zoo.root / "conftest.py").write_text(
        "from harness.features.cluster import nodes\n\nnodes.PATIENCE = 5.0\n"
    )
    process = started(zoo, *RAY, "--stress-no-cache", address=nodes.address)
    for worker in workers_at_work(zoo, count=2):
        os.kill(worker, signal.SIGKILL)
    workers_at_work(zoo, count=2)
    lose_a_node(nodes)
    go_on(zoo, FIRST)
    workers_at_work(zoo, LAST)
    began = time.monotonic()
    lose_a_node(nodes)
    said, _ = process.communicate(timeout=200)
    assert time.monotonic() - began < 35
    assert process.returncode == 4, said
    report = zoo.report()
    assert report["verdict"] == "error"
    assert "no node is left" in " ".join(report["errors"])
    assert [check for check in report["checks"] if check["id"] == FIRST] == expected[-2:-1]
