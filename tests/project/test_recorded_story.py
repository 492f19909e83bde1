"""From an empty folder to a verdict on a predictions file, by the page's commands."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from zoo import CLASSES, images_of, network

PAGE = (Path(__file__).parents[2] / "docs/recorded.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
MODEL = """
WEIGHTS, BIAS = np.load("weights.npy"), np.load("bias.npy")

def predict(pixels):
    features = pixels.reshape(len(pixels), 8, 2, 8, 2).max(axis=(2, 4)).reshape(len(pixels), -1)
    scores = features @ WEIGHTS.T + BIAS
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)
"""


@pytest.mark.processes
def test_three_commands_lead_to_a_verdict_without_a_network(tmp_path):
    start, images = time.monotonic(), images_of()
    pixels = images.pixels[:, 0].numpy()
    np.savez(
        tmp_path / "shop.npz",
        images=pixels,
        labels=images.labels.numpy(),
        classes=np.array(CLASSES),
    )
    layer = network().fc1
    np.save(tmp_path / "weights.npy", layer.weight.detach().numpy())
    np.save(tmp_path / "bias.npy", layer.bias.detach().numpy())
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*command):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def harness(command):
        name, *arguments = command.split()
        assert name == "stress-harness"
        return run(sys.executable, "-m", "harness", *arguments)

    init, export, gate = COMMANDS[:3]
    harness(init)
    exported = harness(export)
    assert "3,600 images of 1x16x16 under 9 perturbations" in exported
    assert "stress-harness gate --candidate predictions:answers.npz" in exported
    script = tmp_path / "inputs/answer.py"
    text = re.sub(
        r"\ndef predict.*?\n\n\n", MODEL + "\n\n", script.read_text("utf-8"), flags=re.DOTALL
    )
    script.write_text(f"{text}\nimport sys\nassert 'torch' not in sys.modules\n", "utf-8")
    run(sys.executable, str(script))
    verdict = harness(gate)
    assert "PASS (no incumbent): 1 of 1 checks pass" in verdict, verdict
    assert time.monotonic() - start < 300
