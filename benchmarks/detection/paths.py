"""Where the benchmark keeps what.

Checkpoints under the git-ignored `runs/`, results beside this file.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.runner import ROOT

CHECKS, QUICK_CHECKS = ROOT / "stress_tests/checks.toml", ROOT / "stress_tests/checks-quick.toml"
PANEL = ROOT / "models/panel.json"
BASELINE, AUGMENTED = ROOT / "models/baseline.safetensors", ROOT / "models/augmented.safetensors"
CHECKPOINTS = ROOT / "runs/detection"
RESULTS = Path(__file__).parent / "results"
QUICK_RESULTS = RESULTS / "quick"
README, PROJECT_README = Path(__file__).parent / "README.md", ROOT / "README.md"
