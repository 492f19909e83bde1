"""The examples in docstrings of what users call give the output that they show."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import harness.measures
import harness.perturb


def modules_of(package):
    names = [
        module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return [package.__name__, *names]


@pytest.mark.parametrize("name", [*modules_of(harness.perturb), *modules_of(harness.measures)])
def test_examples_in_docstrings_hold(name):
    results = doctest.testmod(import_module(name))
    assert results.failed == 0


@pytest.mark.parametrize("package", [harness.perturb, harness.measures], ids=lambda it: it.__name__)
def test_packages_have_examples(package):
    finder = doctest.DocTestFinder()
    examples = []
    for name in modules_of(package):
        for docstring in finder.find(import_module(name)):
            examples.extend(docstring.examples)
    assert len(examples) > 3
