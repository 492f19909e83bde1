"""The gate and calibration on a cluster: the same verdict and panel; what is lost ends in 4 and leaves no process."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest
from rays import MARK, marked, nothing_is_left, ray_cluster, wait_until, workers
from zoo import ROWS, TRAINING, Zoo, kept_predictions

pytestmark = pytest.mark.cluster

SLOW = """
import time

from harness.measures import accuracy
from harness.plugin import check


class Slow:
    def __call__(self, pixels):
        time.sleep({seconds})
        return pixels


@check("slow")
def test_slow(candidate, images, evidence, stress_check):
    verdict = stress_check.judge(accuracy(candidate.predict(images, Slow())))
    evidence.show(verdict)
    assert verdict.passed, verdict.explain()
"""
ROW = """
[[check]]
id = "slow"
family = "slow"
metric = "accuracy"
hand = { threshold = 0.5 }
"""


@pytest.fixture
def zoo(tmp_path):
    place = Zoo(tmp_path)
    place.slow = lambda seconds: (place.tests / "test_slow.py").write_text(SLOW.format(seconds=seconds))
    place.bind(ROWS + ROW)
    place.slow(0)
    place.started = []
    yield place
    for process in place.started:
        if process.poll() is None:  # From a test that failed; its workers would pass as another's.
            process.kill()


def started(zoo, *arguments, cache="cache", address=None, command=("-m", "pytest", "stress_tests", "-p", "no:html")):
    """Start the gate, or another command, in a process of its own, and return it."""
    zoo.mark = uuid.uuid4().hex
    environment = {**os.environ, "XDG_CACHE_HOME": str(zoo.root / cache), MARK: zoo.mark}
    environment.pop("RAY_ADDRESS", None)
    if address:
        environment["RAY_ADDRESS"] = address
    options = ("--stress-set", f"data={zoo.data}") if "pytest" in command else ()
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


def report(zoo, folder="reports"):
    return json.loads((zoo.root / folder / "stress.json").read_text())


RAY = ("--stress-backend", "ray")


def test_the_gate_finds_the_same_as_one_process_and_leaves_nothing(zoo):
    plain = started(zoo, "--stress-reports", "plain", cache="plain")
    said, _ = plain.communicate(timeout=200)
    assert plain.returncode == 0, said
    on_ray = started(zoo, *RAY, "--stress-set", "ray_workers=2", "--stress-reports", "ray", cache="ray")
    said, _ = on_ray.communicate(timeout=200)
    assert on_ray.returncode == 0, said
    assert "cluster: 2 workers" in said
    assert "raylet" not in said, "Ray's own logs are silent"
    mine, theirs = report(zoo, "plain"), report(zoo, "ray")
    for name in ("verdict", "checks", "errors", "omissions", "self_checks"):
        assert mine[name] == theirs[name]
    assert len(mine["checks"]) == 5
    assert kept_predictions(zoo.root / "plain") == kept_predictions(zoo.root / "ray")
    nothing_is_left(zoo.mark, seconds=30)


@pytest.fixture(scope="module")
def killed():
    """Return the marks of killed drivers. Nothing of these may run when all tests are done.

    Ray's agents look for the head of such a cluster for a minute before they end, in which the other tests run.
    """
    marks = []
    yield marks
    for mark in marks:
        nothing_is_left(mark, seconds=100)


@pytest.mark.usefixtures("interruptible")
def test_drivers_that_end_leave_no_process(zoo, killed):
    zoo.slow(20)
    drivers = {}
    for ending in (signal.SIGKILL, signal.SIGINT):
        reports = ("--stress-reports", ending.name)
        process = started(zoo, *RAY, "--stress-set", "ray_workers=2", "-k", "slow", *reports, cache=ending.name)
        drivers[ending] = process, zoo.mark

    def at_work(mark):
        return len([each for each in marked(mark) if "ray::call_on_node" in each]) == 2

    wait_until(lambda: all(at_work(mark) for _, mark in drivers.values()), seconds=150)
    time.sleep(1)
    for ending, (process, _) in drivers.items():
        process.send_signal(ending)
    for ending, (process, mark) in drivers.items():
        process.communicate(timeout=60)
        assert process.returncode == (2 if ending == signal.SIGINT else -9)
        if ending == signal.SIGINT:
            nothing_is_left(mark, seconds=45)
        else:
            killed.append(mark)
            wait_until(lambda mark=mark: not at_work(mark), seconds=60)


def test_what_dies_on_a_cluster_changes_nothing_until_no_node_is_left(zoo):
    for seed in range(1, 4):
        training = {**TRAINING, "seed": seed}
        zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=0.1, training=training)
    zoo.bind(f'{ROWS + ROW}\n[gate]\ndata = "{zoo.data}"\n')
    calibrate = ("-m", "harness", "calibrate", "--checkpoints", *(f"seed-{seed}.safetensors" for seed in range(1, 4)))
    checks = zoo.checks.read_text()
    plain = started(zoo, "--panel", "panel-0.json", cache="plain", command=calibrate)
    said, _ = plain.communicate(timeout=250)
    assert plain.returncode == 0, said
    zoo.checks.write_text(checks)
    with ray_cluster(nodes=3) as nodes:

        def lose_a_node():
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)

        # A node dies while a panel is measured.
        zoo.slow(1)
        options = [option.replace("--stress-", "--") for option in RAY]
        process = started(zoo, *options, "--panel", "panel-1.json", address=nodes.address, command=calibrate)
        wait_until(workers, seconds=100)
        time.sleep(2)
        lose_a_node()
        said, _ = process.communicate(timeout=250)
        assert process.returncode == 0, said
        assert said.count(".safetensors: ") >= 3, "a line for each member"
        mine, theirs = (
            [member["values"] for member in json.loads((zoo.root / f"panel-{number}.json").read_text())["models"]]
            for number in range(2)
        )
        assert mine == theirs
        assert np.isfinite(list(mine[0].values())).all()

        # Workers and a node die during a gate.
        zoo.checks.write_text(checks)
        zoo.slow(2)
        options = (*RAY, "--stress-no-cache")
        process = started(zoo, *options, address=nodes.address)
        wait_until(lambda: len(workers()) == 2, seconds=100)
        for _ in range(2):
            time.sleep(1)
            os.kill(wait_until(workers, seconds=30)[0], signal.SIGKILL)
        lose_a_node()
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said
        assert report(zoo)["verdict"] == "pass"

        # All nodes do. Another test holds that a run waits for half a minute at most.
        (zoo.root / "conftest.py").write_text("from harness.inference.cluster import nodes\n\nnodes.PATIENCE = 5.0\n")
        zoo.slow(20)
        process = started(zoo, *options, "-k", "slow", address=nodes.address)
        wait_until(workers, seconds=100)
        time.sleep(1)
        began = time.monotonic()
        lose_a_node()
        said, _ = process.communicate(timeout=100)
        assert time.monotonic() - began < 35
        assert process.returncode == 4, said
        assert report(zoo)["verdict"] == "error"
        assert "no node is left" in " ".join(report(zoo)["errors"])
