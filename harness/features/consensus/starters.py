"""First checks of the families on the consensus set."""

from harness.checks.first_checks import always

consensus = always(
    ("consensus-clean", "consensus_set_errors", {"under": ["rest"]}),
    ("consensus-class", "worst_class_consensus_set_errors", {"under": ["rest"]}),
)
"""Checks of errors on clean images: of all classes, and of the worst one."""
