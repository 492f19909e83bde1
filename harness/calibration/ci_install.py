"""Packages of a repository: commands that install its declared packages, or else those that its modules import."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from typing import TYPE_CHECKING, Any

from harness.base.errors import ConfigurationError
from harness.base.user_code import is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.run.model_settings import ModelSettings

_OWN = "harness"
_REQUIREMENTS = ("requirements.txt", "requirements/base.txt", "requirements.in")
_EXTRAS = ((r"(hf|parquet):", "hf"), (r"[a-z]+:(.*[^a-z])?[a-z0-9]+://", "remote"))
"""Patterns of data, and the extra of the harness that reads them."""
_DEPENDENCIES = (
    'python -c \'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"].get("dependencies", []), '
    'sep="\\n")\' > declared.txt && pip install -r declared.txt'
)
"""Installs the dependencies of a pyproject.toml without a build system, since such a repository is no package."""


def install_commands(folder: Path, model: ModelSettings, candidate: str) -> list[str]:
    """Return the commands that install the harness and the repository's packages.

    The packages come from its requirements and its package metadata. Without both, they are the imports of its modules
    that the options name, directly or through others of its modules.
    """
    ours = _pip("stress-harness", extras=_extras(model, candidate))
    return [ours, *(_declared(folder) or _imported(folder, model, candidate))]


def _extras(model: ModelSettings, candidate: str) -> list[str]:
    found = {extra for pattern, extra in _EXTRAS if re.match(pattern, model.data.spec)}
    found |= {"onnx"} if candidate.endswith(".onnx") else set()
    found |= {"openvino"} if candidate.startswith("openvino:") else set()
    return sorted(found | ({"http"} if re.match(r"https?:", candidate) else set()))


def _declared(folder: Path) -> list[str]:
    commands = [f"pip install -r {name}" for name in _REQUIREMENTS if (folder / name).is_file()][:1]
    path = folder / "pyproject.toml"
    project = _toml(path) if path.is_file() else {}
    if "build-system" in project or (folder / "setup.py").is_file():
        commands.append("pip install .")
    elif project.get("project", {}).get("dependencies"):
        commands.append(_DEPENDENCIES)
    return commands


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error})") from None


def _imported(folder: Path, model: ModelSettings, candidate: str) -> list[str]:
    specs = (model.network.spec, model.data.spec, model.data.transform, candidate.removeprefix("python:"))
    modules = [spec.partition(":")[0] for spec in specs if spec and is_name(spec)]
    words = [model.data.transform] if model.data.transform in {"timm", "torchvision"} else []
    distributions = packages_distributions()
    named = sorted({*_packages_of(folder, modules), *words})
    found = {found[0]: None for name in named if name != _OWN and (found := distributions.get(name))}
    return [_pip(name) for name in found]


def _packages_of(folder: Path, modules: Iterable[str]) -> Iterator[str]:
    """Return the top-level packages of modules, and those that the repository's own modules import."""
    waiting, seen = list(modules), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        top = name.partition(".")[0]
        if (path := _own_module(folder, name)) is not None:
            waiting += _imports_of(path, name)
            waiting += [name.rpartition(".")[0]] * ("." in name)  # The import also runs its package.
        elif _own_module(folder, top) is None and top not in sys.stdlib_module_names:
            yield top


def _own_module(folder: Path, name: str) -> Path | None:
    base = folder.joinpath(*name.split("."))
    places = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((place for place in places if place.is_file()), base if base.is_dir() else None)


def _imports_of(path: Path, name: str) -> list[str]:
    """Return the dotted names that a module imports anywhere; none for an unreadable one."""
    if path.is_dir():
        return []
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (OSError, ValueError, SyntaxError):
        return []
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            found += [module] * bool(module)
            found += [f"{module}.{alias.name}".removeprefix(".") for alias in node.names]
    return found


def _pip(name: str, *, extras: Sequence[str] = ()) -> str:
    """Return the command that installs a package at its version, without a build's suffix such as `+cpu`."""
    released = version(name).partition("+")[0]
    named = f"[{','.join(extras)}]" if extras else ""
    return f"pip install {shlex.quote(f'{name}{named}=={released}')}"
