"""A pytest-driven robustness harness for image classifiers: a model quality gate with a verdict.

In Python it is one function, `from harness import gate`; see `harness.report.api.gate`.

PYTEST_DONT_REWRITE: the package has no assertions, and a run's process imports it before pytest starts.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.api import gate

__all__ = ["gate"]


def __getattr__(name: str) -> Any:
    """Import what is public when it is first asked for: the package itself must load at once."""
    if name == "gate":
        from harness.report.api import gate

        return gate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
