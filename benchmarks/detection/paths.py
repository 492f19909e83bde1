"""Where the benchmark keeps what: checkpoints under the git-ignored `runs/`, results beside this file."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""
CHECKS = ROOT / "stress_tests/checks.toml"
QUICK_CHECKS = ROOT / "stress_tests/checks-quick.toml"
PANEL = ROOT / "models/panel.json"
BASELINE = ROOT / "models/baseline.safetensors"
AUGMENTED = ROOT / "models/augmented.safetensors"
CHECKPOINTS = ROOT / "runs/detection"
RESULTS = Path(__file__).parent / "results"
QUICK_RESULTS = RESULTS / "quick"
FLIPPED = RESULTS / "flipped.json"
PARENTS = RESULTS / "parents.json"
BACKDOORS = RESULTS / "backdoors.json"
COLOUR = RESULTS / "colour.json"
DIGITS = ROOT / "examples/digits_on_photos"
README = Path(__file__).parent / "README.md"
PROJECT_README = ROOT / "README.md"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
