"""The mutant that checks of soft confusions must catch; it needs PyTorch, and a report does not."""

from harness.checks.damages import Damage, swapped

MIXED = Damage("swapped-logits-softly", logits=swapped, fault="two swapped classes")
