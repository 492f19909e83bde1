"""Where the benchmark keeps what was measured."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""
README = Path(__file__).parent / "README.md"
FASHION = Path(__file__).parent / "measured/fashion.json"
DIGITS = Path(__file__).parent / "measured/digits.json"
PAIRS = Path(__file__).parent / "measured/pairs.json"
FASHION_CHECKS, FASHION_PANEL = ROOT / "stress_tests/checks.toml", ROOT / "models/panel.json"
DIGITS_CHECKS = ROOT / "examples/digits_on_photos/stress_tests/checks.toml"
DIGITS_PANEL = ROOT / "examples/digits_on_photos/panel.json"
ANSWERS = Path(__file__).parent / "measured/answers.json"
EXAMPLE = ROOT / "examples/digits_on_photos"
CHECKPOINTS = ROOT / "runs/few"
MUTANTS = ROOT / "benchmarks/detection/results"
