"""A pytest-driven robustness harness for image classifiers: a model quality gate with a verdict.

In Python it is `from harness import gate`, and callbacks of trainers; see `harness.report.api` and
`harness.report.trainers`.

PYTEST_DONT_REWRITE: the package has no assertions, and a run's process imports it before pytest
starts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.api import gate
    from harness.report.trainers import lightning_callback, transformers_callback

__all__ = ["gate", "lightning_callback", "transformers_callback"]


def __getattr__(name: str) -> Any:
    """Import what is public when it is first asked for: the package itself must load at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(
        import_module("harness.report.api" if name == "gate" else "harness.report.trainers"), name
    )
