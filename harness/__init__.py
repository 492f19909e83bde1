"""A pytest-driven robustness harness for image classifiers: a model quality gate with a verdict."""
