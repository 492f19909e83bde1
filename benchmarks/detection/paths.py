"""Where the benchmark keeps what: checkpoints under the git-ignored `runs/`, results beside this file."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""
GATES = ROOT / "stress_tests/gates.toml"
QUICK_GATES = ROOT / "stress_tests/gates-quick.toml"
PANEL = ROOT / "models/panel.json"
BASELINE = ROOT / "models/baseline.safetensors"
AUGMENTED = ROOT / "models/augmented.safetensors"
CHECKPOINTS = ROOT / "runs/detection"
RESULTS = Path(__file__).parent / "results"
QUICK_RESULTS = RESULTS / "quick"
FLIPPED = RESULTS / "flipped.json"
PARENTS = RESULTS / "parents.json"
README = Path(__file__).parent / "README.md"
PROJECT_README = ROOT / "README.md"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
