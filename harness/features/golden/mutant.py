"""The mutant that checks of golden images must catch; it needs PyTorch, and a report does not."""

from harness.checks.damages import Damage, moved

ANSWERS_MOVED = Damage("answers-moved", logits=moved, fault="predictions moved to the next class")
