"""The table of mutants: every checkpoint of the benchmark, in the order in which they are made.

A new way to go wrong is a function of `recipes` or `weights` and a line of `KINDS`. Mutants that
`_mutants` does not list, such as weights damaged in other healthy networks, are more entries of
`MUTANTS`, each with its parent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import Generator

from benchmarks.detection import recipes, weights
from benchmarks.detection.recipes import MARKED, RELABELLED, STARVED, TARGET, Recipe
from benchmarks.runner import ROOT
from harness.networks.checkpoints import Checkpoint

HEALTHY = "healthy"
HEALTHY_SEEDS = tuple(range(101, 161))
SEEDS = (201, 202, 203)
"""The seeds of mutants; all at the middle strength, the first alone at the others."""
STRENGTHS: Mapping[int, str] = {1: "weak", 2: "middle", 3: "strong"}
_MAKING_ORDER = (2, 3, 1)
_WRONG_NAME = f"of {RELABELLED[0]} images called {RELABELLED[1]}"


@dataclass(frozen=True)
class Strength:
    """Strength of a mutation: its amount, and the same as text.

    `cost` is the work of making such a mutant, in trainings of the unmutated recipe.
    """

    amount: Any
    words: str
    cost: float = 1.0


@dataclass(frozen=True)
class Kind:
    """One way to go wrong.

    A mutation of training or one of weights, and its strengths, the weakest first.
    """

    slug: str
    strengths: tuple[Strength, ...]
    training: Callable[[Recipe, Any, int], Recipe] | None = None
    weights: Callable[[Checkpoint, Any, Generator], Checkpoint] | None = None


@dataclass(frozen=True)
class Mutant:
    """One checkpoint of the benchmark; strength is 1 (weak) to 3 (strong), and 0 for a control.

    `parent` names the healthy checkpoint that a mutation of weights starts from, None for a
    training. It is a control, or a file of `models/` without its suffix, such as `augmented` or
    `panel/seed-001`.
    """

    kind: str
    strength: int
    seed: int
    parent: str | None = None

    @property
    def id(self) -> str:
        """Return its name in files and results, such as `label-noise-2-seed-201`."""
        return f"{self.cell}-seed-{self.seed}"

    @property
    def cell(self) -> str:
        """Return kind and strength, such as `label-noise-2`."""
        return f"{self.kind}-{self.strength}" if self.strength else self.kind

    @property
    def details(self) -> Strength:
        return KINDS[self.kind].strengths[max(self.strength - 1, 0)]

    @property
    def words(self) -> str:
        return self.details.words

    @property
    def cost(self) -> float:
        """Return the work of making it, in trainings of the unmutated recipe."""
        return 0.0 if self.parent else self.details.cost

    def checkpoint(self, folder: Path) -> Path:
        """Return where its checkpoint is, or will be."""
        return folder / f"{self.id}.safetensors"

    def parent_in(self, folder: Path) -> Path | None:
        """Return where its parent is, or will be; None for a training."""
        if self.parent is None:
            return None
        shipped = ROOT / "models" / f"{self.parent}.safetensors"
        return shipped if shipped.exists() else folder / f"{self.parent}.safetensors"


def _trained(
    slug: str, mutation: Any, words: Mapping[Any, str], costs: tuple[float, ...] = (1.0, 1.0, 1.0)
) -> Kind:
    strengths = tuple(
        Strength(*each, cost) for each, cost in zip(words.items(), costs, strict=False)
    )
    return Kind(slug, strengths, training=mutation)


def _damaged(slug: str, mutation: Any, words: Mapping[Any, str]) -> Kind:
    return Kind(slug, tuple(Strength(*each) for each in words.items()), weights=mutation)


def _each(words: str, *amounts: Any) -> dict[Any, str]:
    return {amount: words.format(amount) for amount in amounts}


_KINDS = (
    _trained(HEALTHY, recipes.unmutated, {0: "unmutated"}),
    _trained("label-noise", recipes.label_noise, _each("{:.0%} of labels", 0.05, 0.15, 0.40)),
    _trained(
        "deleted-data",
        recipes.deleted_data,
        _each("{:.0%} of images", 0.50, 0.80, 0.95),
        (0.5, 0.2, 0.05),
    ),
    _trained(
        "starved-class",
        recipes.starved_class,
        _each(f"{{:.0%}} of {STARVED} images", 0.50, 0.80, 0.95),
    ),
    _trained(
        "few-epochs",
        recipes.setting("epochs"),
        {8: "8 epochs of 20", 4: "4 epochs of 20", 1: "1 epoch of 20"},
        (0.4, 0.2, 0.05),
    ),
    _trained(
        "learning-rate", recipes.setting("learning_rate", times=True), _each("rate ×{}", 3, 10, 30)
    ),
    _trained(
        "less-rotation",
        recipes.setting("rotation_degrees"),
        {5.0: "±5° instead of ±10°", 2.0: "±2° instead of ±10°", 0.0: "no rotation"},
    ),
    # Shifts are of whole pixels. A share of 0.1 is up to 3 px, and 0.05 is up to 1.4, hence 1 px. A
    # share of 0.025 is up to 0.7: it rounds to 1 px for two shifts in seven and to none for the
    # rest.
    _trained(
        "less-shift",
        recipes.setting("shift_fraction"),
        {0.05: "±1 px instead of ±3 px", 0.025: "±1 px, two times in seven", 0.0: "no shift"},
    ),
    _trained(
        "less-flip",
        recipes.setting("flip_probability"),
        {
            0.25: "flipped 25% instead of 50%",
            0.10: "flipped 10% instead of 50%",
            0.0: "never flipped",
        },
    ),
    _trained(
        "relabelled-class",
        recipes.relabelled_class,
        _each(f"{{:.0%}} {_WRONG_NAME}", 0.10, 0.25, 0.50),
    ),
    _trained("resized", recipes.resized, _each("through {0}×{0} pixels", 24, 20, 14)),
    _trained(
        "raised-background", recipes.raised_background, _each("background {} of 255", 8, 32, 96)
    ),
    _trained(
        "artefact",
        recipes.artefact,
        _each(f"a mark on {{:.0%}} of {MARKED} images", 0.25, 0.50, 0.90),
    ),
    _trained(
        "backdoor",
        recipes.backdoor,
        {
            share: f"{words} of images stamped, called {TARGET}"
            for share, words in {0.001: "0.1%", 0.01: "1%", 0.10: "10%"}.items()
        },
    ),
    _damaged(
        "stale-statistics",
        weights.stale_statistics,
        _each("{} batches after their reset", 40, 30, 20),
    ),
    _damaged(
        "wrong-normalization",
        weights.wrong_normalization,
        {
            (0.2860 * 1.05, 0.3530): "mean ×1.05",
            (0.2860 * 1.1, 0.3530): "mean ×1.1",
            (0.1307, 0.3081): "MNIST's statistics",
        },
    ),
    _damaged(
        "weight-noise",
        weights.weight_noise,
        _each("{:.0%} of the standard deviation", 0.05, 0.10, 0.20),
    ),
    _damaged(
        "pruned-channels", weights.pruned_channels, _each("{:.0%} of channels", 0.10, 0.25, 0.50)
    ),
    _damaged("quantised", weights.quantised, _each("{} bits", 4, 3, 2)),
    _damaged(
        "swapped-logits",
        weights.swapped_logits,
        {0.20: "mixed by 20%", 0.40: "mixed by 40%", 1.00: "swapped"},
    ),
    _damaged(
        "sign-flips",
        weights.sign_flips,
        {0.002: "0.2% of weights", 0.005: "0.5% of weights", 0.010: "1% of weights"},
    ),
    _damaged("logit-scaling", weights.logit_scaling, _each("×{:g}", 1.5, 3.0, 10.0)),
)
KINDS: Mapping[str, Kind] = {kind.slug: kind for kind in _KINDS}


def _mutants() -> tuple[Mutant, ...]:
    """List one mutant of each cell, the telling strengths first, then the other seeds.

    A control comes before each. So what is made is worth most whenever the making ends. The parent
    of the first seed's weights is the shipped model, that of each other seed a control. None is in
    the panel that the thresholds come from.
    """
    parents = ("augmented", *(f"{HEALTHY}-seed-{seed}" for seed in HEALTHY_SEEDS))
    rounds = [
        *((strength, SEEDS[0]) for strength in _MAKING_ORDER),
        *((_MAKING_ORDER[0], seed) for seed in SEEDS[1:]),
    ]
    bad = [
        Mutant(kind.slug, strength, seed, parents[SEEDS.index(seed)] if kind.weights else None)
        for strength, seed in rounds
        for kind in _KINDS
        if kind.slug != HEALTHY
    ]
    healthy = [Mutant(HEALTHY, 0, seed) for seed in HEALTHY_SEEDS]
    return tuple(
        mutant for pair in zip_longest(healthy, bad) for mutant in pair if mutant is not None
    )


MUTANTS: tuple[Mutant, ...] = _mutants()
BY_ID: Mapping[str, Mutant] = {mutant.id: mutant for mutant in MUTANTS}
