"""Puts the stress tests that ship and the documentation into the wheel; all else stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = {"stress_tests": "test_*.py", "docs": "**/*.md"}
"""Folders of a checkout, and the files of them that ship; an editable install reads them there, and no copy exists."""


class WithDataOfTheCheckout(build_py):
    """Builds the package with these files as data of it, such as `harness/stress_tests` and `harness/docs`."""

    def _copies(self) -> dict[str, str]:
        package = Path(self.build_lib, "harness")
        files = [
            path for folder, pattern in DATA.items() for path in sorted(Path(folder).glob(pattern))
        ]
        return {str(package / path): str(path) for path in files}

    def run(self) -> None:
        """Build it; an editable install copies nothing."""
        super().run()
        if not self.editable_mode:
            for target, source in self._copies().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:  # noqa: FBT001, FBT002  As setuptools calls it.
        """Return the files that are built."""
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, *self._copies()]

    def get_source_files(self) -> list[str]:
        """Return what belongs into a source distribution."""
        return [*super().get_source_files(), *self._copies().values()]


setup(cmdclass={"build_py": WithDataOfTheCheckout})
