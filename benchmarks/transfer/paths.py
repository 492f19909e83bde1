"""Where the benchmark keeps its files."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""
README = Path(__file__).parent / "README.md"
MEASURED = Path(__file__).parent / "measured"
"""Measurements of the networks; part of the repository."""
WORK = ROOT / "runs/transfer"
"""Pictures, features, networks and the gate; no part of the repository."""
TRAIN, KEPT, PROJECT = WORK / "train.npz", WORK / "kept", WORK / "project"
TEST, NETWORKS = PROJECT / "data/test", PROJECT / "runs"
HEALTHY_FILE, OTHERS, ANSWERS = (MEASURED / f"{name}.json" for name in ("healthy", "others", "answers"))
