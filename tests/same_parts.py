"""The parts of `same_values.py` besides values: output of commands as repeatable text.

Each part runs in a copy of what the gate needs. Hashes stand for long content. Times, dates and
places are left out.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REFERENCE_MODELS, SAMPLES = 3, 500
SHIPPED, OTHER = "models/augmented.safetensors", "models/panel/seed-001.safetensors"
FAMILIES, FEW = "clean,flip,rotation", ("--stress-samples", "300")
VOLATILE = re.compile(r'date = "[^"]*"')
SERVED = r"""
import sys
from pathlib import Path

import torch

from harness.data import load_images
from harness.networks.checkpoints import load_checkpoint

pixels = load_images("fashion-mnist").pixels.float() / 255
shifted = torch.nn.functional.pad(pixels, (1, 0))[..., :28]
model = load_checkpoint(Path(sys.argv[1])).model.eval()
with torch.inference_mode():
    logits = torch.cat([model(part) for part in shifted.split(500)])
rows = [f"{image},{label}" for image, label in enumerate(logits.argmax(1).tolist())]
Path("served.csv").write_text("\n".join(["image,label", *rows]))
"""
"""Predictions of a model behind a pipeline that shifts images by one pixel to the right."""


@contextmanager
def copied():
    """Yield a folder with the shipped gate and its models."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("stress_tests", "models"):
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        for part in ("pyproject.toml", "conftest.py"):
            shutil.copy(ROOT / part, folder / part)
        yield folder


def run(folder, *command):
    """Return the exit status and the output of Python in the folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def calibrated():
    """Return the checks file that a calibration on a few networks of the panel rewrites."""
    with copied() as folder:
        checks = folder / "stress_tests/checks-quick.toml"
        networks = sorted(
            path.relative_to(folder) for path in folder.glob("models/panel/*.safetensors")
        )
        options = ["--checks", checks.relative_to(folder), "--panel", "panel.json", "--checkpoints"]
        status, _ = run(
            folder, "-m", "harness", "calibrate", *options, *networks[:REFERENCE_MODELS]
        )
        lines = VOLATILE.sub('date = "…"', checks.read_text("utf-8")).splitlines()
    return {"exit_status": status, "lines": lines}


def _of_json(folder, *command):
    status, said = run(folder, "-m", "harness", *command, "--samples", str(SAMPLES), "--json")
    return {"exit_status": status, "json": json.loads(said)}


def equal():
    """Return the JSON of `equal` for a copy, and for another network of the same recipe."""
    with copied() as folder:
        return {
            name: _of_json(folder, "equal", artifact, "--original", SHIPPED)
            for name, artifact in (("copy", SHIPPED), ("other", OTHER))
        }


def skew():
    """Return the JSON of `skew` for predictions from shifted images."""
    with copied() as folder:
        run(folder, "-c", SERVED, SHIPPED)
        return _of_json(folder, "skew", SHIPPED, "--served", "served.csv")


def exported():
    """Return the manifest of an export, and the hash of each of its files."""
    with copied() as folder:
        status, _ = run(
            folder, "-m", "harness", "export-inputs", "inputs", "--families", FAMILIES, "--", *FEW
        )
        files = sorted(path for path in (folder / "inputs").rglob("*") if path.is_file())
        manifest = json.loads((folder / "inputs/manifest.json").read_bytes())
        hashes = {
            str(path.relative_to(folder / "inputs")): _hash(path.read_bytes()) for path in files
        }
    return {"exit_status": status, "manifest": manifest, "files": hashes}


def dialog():
    """Return what a server hears and says while a gate judges its model.

    Each form of an exchange once, and the images.

    Batches run side by side, so numbers of requests are left out, and images are sorted.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from inference_servers import inference_server

    forms = set()
    with inference_server() as served, copied() as folder:
        answer = served.answer

        def recorded(number, request, content):
            said, part = answer(number, request, content)
            forms.add(
                json.dumps(
                    [{**request, "id": ""}, len(content), {**said, "id": ""}, len(part)],
                    sort_keys=True,
                )
            )
            return said, part

        served.answer = recorded
        options = [
            "--candidate",
            served.url,
            "--stress-samples",
            "100",
            "-k",
            "clean or flip",
            "--baseline",
            "none",
        ]
        options += ["--incumbent", "none", "--stress-no-cache", "-q", "-p", "no:cacheprovider"]
        status, _ = run(folder, "-m", "pytest", "stress_tests", *options)
        asked = sorted({(method, path) for method, path, _ in served.requests})
        headers = sorted({name for _, _, sent in served.requests for name in sent})
        images = sorted({_hash(image) for image in served.images})
    told = {"images": len(images), "images_hash": _hash("".join(images).encode())}
    exchanges = [json.loads(form) for form in sorted(forms)]
    return {
        "exit_status": status,
        "asked": asked,
        "headers": headers,
        "exchanges": exchanges,
        **told,
    }


def _hash(content):
    return hashlib.sha256(content).hexdigest()[:16]


PARTS = {
    "calibrated checks file": calibrated,
    "equal": equal,
    "skew": skew,
    "export": exported,
    "dialog with a server": dialog,
}
"""Functions that return the parts, by name."""


def differences(before, now, place=""):
    """Return a line for each place where two parts differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [
            (name, before.get(name), now.get(name)) for name in sorted(before.keys() | now.keys())
        ]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(number, *both) for number, both in enumerate(zip(before, now, strict=True))]
    else:
        return [] if before == now else [f"{place}: {before!r}, now {now!r}"]
    return [line for name, *both in pairs for line in differences(*both, f"{place}/{name}")]
