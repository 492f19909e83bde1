"""The table of mutants: every checkpoint of the benchmark, in the order in which they are made."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from benchmarks.detection import recipes, weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Generator

    from benchmarks.detection.recipes import Recipe
    from harness.networks.checkpoints import Checkpoint

HEALTHY = "healthy"
HEALTHY_SEEDS = tuple(range(101, 161))
SEEDS = (201, 202, 203)
"""The seeds of mutants; all at the middle strength, the first alone at the others."""
STRENGTHS: Mapping[int, str] = {1: "weak", 2: "middle", 3: "strong"}
_MAKING_ORDER = (2, 3, 1)


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
    """One way to go wrong: a mutation of training or one of weights, and its strengths, the weakest first."""

    slug: str
    strengths: tuple[Strength, ...]
    training: Callable[[Recipe, Any, int], Recipe] | None = None
    weights: Callable[[Checkpoint, Any, Generator], Checkpoint] | None = None


@dataclass(frozen=True)
class Mutant:
    """One checkpoint of the benchmark; strength is 1 (weak) to 3 (strong), and 0 for a control."""

    kind: str
    strength: int
    words: str
    seed: int

    @property
    def id(self) -> str:
        """Return its name in files and results, such as `label-noise-2-seed-201`."""
        return f"{self.cell}-seed-{self.seed}"

    @property
    def cell(self) -> str:
        """Return kind and strength, such as `label-noise-2`."""
        return f"{self.kind}-{self.strength}" if self.strength else self.kind

    @property
    def parent(self) -> str | None:
        """Return the sound checkpoint that a mutation of weights starts from, None for a training.

        The first seed starts from `augmented`, the shipped model, and each other from a control. None is in the panel
        that the thresholds come from.
        """
        if KINDS[self.kind].weights is None:
            return None
        which = SEEDS.index(self.seed)
        return f"{HEALTHY}-seed-{HEALTHY_SEEDS[which - 1]}" if which else "augmented"

    @property
    def details(self) -> Strength:
        """Return the entry of the table that it is made from."""
        return KINDS[self.kind].strengths[max(self.strength - 1, 0)]

    @property
    def cost(self) -> float:
        """Return the work of making it, in trainings of the unmutated recipe."""
        return 0.0 if self.parent else self.details.cost


def _trained(slug: str, mutation: Callable[[Recipe, Any, int], Recipe], *strengths: Strength) -> Kind:
    return Kind(slug, strengths, training=mutation)


def _damaged(slug: str, mutation: Callable[[Checkpoint, Any, Generator], Checkpoint], *strengths: Strength) -> Kind:
    return Kind(slug, strengths, weights=mutation)


KINDS: Mapping[str, Kind] = {
    kind.slug: kind
    for kind in (
        _trained(HEALTHY, recipes.unmutated, Strength(0, "unmutated")),
        _trained(
            "label-noise",
            recipes.label_noise,
            Strength(0.05, "5% of labels"),
            Strength(0.15, "15% of labels"),
            Strength(0.40, "40% of labels"),
        ),
        _trained(
            "deleted-data",
            recipes.deleted_data,
            Strength(0.50, "50% of images", cost=0.5),
            Strength(0.80, "80% of images", cost=0.2),
            Strength(0.95, "95% of images", cost=0.05),
        ),
        _trained(
            "starved-class",
            recipes.starved_class,
            Strength(0.50, f"50% of {recipes.STARVED} images"),
            Strength(0.80, f"80% of {recipes.STARVED} images"),
            Strength(0.95, f"95% of {recipes.STARVED} images"),
        ),
        _trained(
            "few-epochs",
            recipes.few_epochs,
            Strength(8, "8 epochs of 20", cost=0.4),
            Strength(4, "4 epochs of 20", cost=0.2),
            Strength(1, "1 epoch of 20", cost=0.05),
        ),
        _trained(
            "learning-rate",
            recipes.learning_rate,
            Strength(3, "rate ×3"),
            Strength(10, "rate ×10"),
            Strength(30, "rate ×30"),
        ),
        _trained(
            "less-rotation",
            recipes.less_rotation,
            Strength(5.0, "±5° instead of ±10°"),
            Strength(2.0, "±2° instead of ±10°"),
            Strength(0.0, "no rotation"),
        ),
        # Shifts are of whole pixels. A share of 0.1 is up to 3 px, and 0.05 is up to 1.4, hence 1 px. A share of
        # 0.025 is up to 0.7: it rounds to 1 px for two shifts in seven and to none for the rest.
        _trained(
            "less-shift",
            recipes.less_shift,
            Strength(0.05, "±1 px instead of ±3 px"),
            Strength(0.025, "±1 px, two times in seven"),
            Strength(0.0, "no shift"),
        ),
        _trained(
            "less-flip",
            recipes.less_flip,
            Strength(0.25, "flipped 25% instead of 50%"),
            Strength(0.10, "flipped 10% instead of 50%"),
            Strength(0.0, "never flipped"),
        ),
        _trained(
            "relabelled-class",
            recipes.relabelled_class,
            Strength(0.10, f"10% of {recipes.RELABELLED[0]} images called {recipes.RELABELLED[1]}"),
            Strength(0.25, f"25% of {recipes.RELABELLED[0]} images called {recipes.RELABELLED[1]}"),
            Strength(0.50, f"50% of {recipes.RELABELLED[0]} images called {recipes.RELABELLED[1]}"),
        ),
        _trained(
            "resized",
            recipes.resized,
            Strength(24, "through 24×24 pixels"),
            Strength(20, "through 20×20 pixels"),
            Strength(14, "through 14×14 pixels"),
        ),
        _trained(
            "raised-background",
            recipes.raised_background,
            Strength(8, "background 8 of 255"),
            Strength(32, "background 32 of 255"),
            Strength(96, "background 96 of 255"),
        ),
        _trained(
            "artefact",
            recipes.artefact,
            Strength(0.25, f"a mark on 25% of {recipes.MARKED} images"),
            Strength(0.50, f"a mark on 50% of {recipes.MARKED} images"),
            Strength(0.90, f"a mark on 90% of {recipes.MARKED} images"),
        ),
        _trained(
            "backdoor",
            recipes.backdoor,
            Strength(0.001, f"0.1% of images stamped, called {recipes.TARGET}"),
            Strength(0.01, f"1% of images stamped, called {recipes.TARGET}"),
            Strength(0.10, f"10% of images stamped, called {recipes.TARGET}"),
        ),
        _damaged(
            "stale-statistics",
            weights.stale_statistics,
            Strength(40, "40 batches after their reset"),
            Strength(30, "30 batches after their reset"),
            Strength(20, "20 batches after their reset"),
        ),
        _damaged(
            "wrong-normalization",
            weights.wrong_normalization,
            Strength((0.2860 * 1.05, 0.3530), "mean ×1.05"),
            Strength((0.2860 * 1.1, 0.3530), "mean ×1.1"),
            Strength((0.1307, 0.3081), "MNIST's statistics"),
        ),
        _damaged(
            "weight-noise",
            weights.weight_noise,
            Strength(0.05, "5% of the standard deviation"),
            Strength(0.10, "10% of the standard deviation"),
            Strength(0.20, "20% of the standard deviation"),
        ),
        _damaged(
            "pruned-channels",
            weights.pruned_channels,
            Strength(0.10, "10% of channels"),
            Strength(0.25, "25% of channels"),
            Strength(0.50, "50% of channels"),
        ),
        _damaged(
            "quantised",
            weights.quantised,
            Strength(4, "4 bits"),
            Strength(3, "3 bits"),
            Strength(2, "2 bits"),
        ),
        _damaged(
            "swapped-logits",
            weights.swapped_logits,
            Strength(0.20, "mixed by 20%"),
            Strength(0.40, "mixed by 40%"),
            Strength(1.00, "swapped"),
        ),
        _damaged(
            "sign-flips",
            weights.sign_flips,
            Strength(0.002, "0.2% of weights"),
            Strength(0.005, "0.5% of weights"),
            Strength(0.010, "1% of weights"),
        ),
        _damaged(
            "logit-scaling",
            weights.logit_scaling,
            Strength(1.5, "×1.5"),
            Strength(3.0, "×3"),
            Strength(10.0, "×10"),
        ),
    )
}


def _mutants() -> tuple[Mutant, ...]:
    """List one mutant of each cell, the telling strengths first, then the other seeds, a control before each.

    So what is made is worth most whenever the making ends.
    """
    (words,) = (strength.words for strength in KINDS[HEALTHY].strengths)
    healthy = [Mutant(HEALTHY, 0, words, seed) for seed in HEALTHY_SEEDS]
    rounds = [*((strength, SEEDS[0]) for strength in _MAKING_ORDER), *((_MAKING_ORDER[0], seed) for seed in SEEDS[1:])]
    bad = [
        Mutant(kind.slug, strength, kind.strengths[strength - 1].words, seed)
        for strength, seed in rounds
        for kind in KINDS.values()
        if kind.slug != HEALTHY
    ]
    return tuple(mutant for pair in zip_longest(healthy, bad) for mutant in pair if mutant is not None)


MUTANTS: tuple[Mutant, ...] = _mutants()
IDS = frozenset(mutant.id for mutant in MUTANTS)


def mutant_of(identifier: str) -> Mutant:
    """Return the mutant of this id; raises `KeyError` when the table has none."""
    return {mutant.id: mutant for mutant in MUTANTS}[identifier]
