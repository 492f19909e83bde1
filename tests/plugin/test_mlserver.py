"""The gate on a real server.

MLServer with a small scikit-learn model, killed and started again now and then.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from zoo import images_of

from harness.base.cache import Store
from harness.base.errors import InputError
from harness.features.served_models import exchange
from harness.inference import open_model
from harness.inference.engine import BackendLostError
from harness.networks import NetworkOptions
from harness.perturb import Pose

pytestmark = pytest.mark.server
OUTPUTS = {"predict": ("INT64", [-1]), "predict_proba": ("FP32", [-1, 4])}


class MLServer:
    """A server of one model, as a process that can be killed and started again."""

    def __init__(self, folder: Path, model, output: str, *, version: str | None = "v1") -> None:
        beside = shutil.which("mlserver", path=str(Path(sys.executable).parent))
        self.command = os.environ.get("STRESS_MLSERVER") or beside
        if not self.command:
            pytest.fail(
                "no mlserver: pip install 'stress-harness[server]', or name one in STRESS_MLSERVER"
            )
        self.folder = folder
        (folder / "clf").mkdir(parents=True)
        joblib.dump(model, folder / "clf" / "model.joblib")
        datatype, shape = OUTPUTS[output]
        settings = {
            "name": "clf",
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.joblib"} | ({"version": version} if version else {}),
            "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 256]}],
            "outputs": [{"name": output, "datatype": datatype, "shape": shape}],
        }
        (folder / "clf" / "model-settings.json").write_text(json.dumps(settings))
        ports = [_free_port() for _ in range(3)]
        names = ("http_port", "grpc_port", "metrics_port")
        more = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
        (folder / "settings.json").write_text(
            json.dumps(more | dict(zip(names, ports, strict=True)))
        )
        self.url = f"http://127.0.0.1:{ports[0]}/v2/models/clf"
        self.process = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.command, "start", "."],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_ready(self) -> None:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/ready", timeout=5):
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def fitted():
    images = images_of(2_000, seed=1)
    return LogisticRegression(max_iter=50).fit(flat(images), images.labels.numpy())


def flat(images):
    return (images.pixels.numpy().astype(np.float32) / 255).reshape(len(images), -1)


@pytest.fixture
def serving(tmp_path, fitted):
    started = []

    def start(output, **facts):
        server = MLServer(tmp_path / f"served-{len(started)}", fitted, output, **facts)
        started.append(server)
        server.start()
        server.await_ready()
        return server

    yield start
    for server in started:
        server.kill()


def test_probabilities_are_gated(zoo, serving, fitted):
    server = serving("predict_proba")
    declared = (
        "--stress-set",
        "model_outputs=probabilities",
        "--baseline",
        "none",
        "--incumbent",
        "none",
    )
    ran = zoo.run("--candidate", server.url, *declared)
    report = zoo.report()
    assert (ran.ret, report["verdict"]) == (0, "pass")
    clean = next(each["value"] for each in report["checks"] if each["id"] == "clean")
    right = fitted.predict(flat(zoo.images)) == zoo.images.labels.numpy()
    assert clean == pytest.approx(right.mean(), abs=1e-9)
    assert report["candidate"]["version"] == "v1"


def test_labels_are_gated_but_for_confidence(zoo, serving):
    server = serving("predict")
    assert zoo.run("--candidate", server.url, "--baseline", "none", "--incumbent", "none").ret == 0
    assert zoo.statuses["clean"] == "pass"
    assert zoo.statuses["confident-errors"] == "not_applicable"


def test_without_a_version_nothing_is_kept(serving, tmp_path):
    server = serving("predict", version=None)
    images = images_of(50)
    cache = Store(tmp_path / "predictions")
    model = open_model(server.url, images, cache=cache)
    assert model.as_json()["version"] == "unknown"
    assert not list(cache.folder.rglob("*.*"))


def test_killed_at_any_moment_it_never_gives_a_wrong_answer(serving, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_FIRST_WAIT", 0.02)
    server, chance = serving("predict_proba"), random.Random(0)
    images = images_of(1_500)
    network = NetworkOptions(model_outputs="probabilities")
    cache = Store(tmp_path / "predictions")
    expected, losses = fitted.predict_proba(flat(images)), []

    def kill_soon():
        time.sleep(chance.uniform(0.1, 1.5))
        server.kill()

    for attempt in range(8):
        killer = threading.Thread(target=kill_soon) if attempt < 6 else None
        if killer:
            killer.start()
        try:
            model = open_model(server.url, images, network=network, cache=cache)
            for degrees in range(3 * attempt + 3):
                model.predict(images, Pose(degrees / 2, 0, 0))
            np.testing.assert_allclose(model.predict(images).probabilities, expected, atol=1e-5)
        except (BackendLostError, InputError) as error:
            losses.append(str(error))
        if killer:
            killer.join()
            server.start()
            server.await_ready()
        elif losses:
            break
    plain = open_model(server.url, images, network=network)
    for degrees in range(3 * attempt + 3):
        moved = Pose(degrees / 2, 0, 0)
        kept, fresh = (each.predict(images, moved).predicted for each in (model, plain))
        np.testing.assert_array_equal(kept, fresh)
    assert losses
    assert all("no answer in 6 attempts" in each for each in losses)
