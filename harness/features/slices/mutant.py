"""The mutant that checks of found slices must catch; it needs PyTorch, and a report does not."""

from harness.checks.damages import Damage, moved

MOVED = Damage("slices-moved", logits=moved, fault="predictions moved to the next class")
