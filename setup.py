"""Put the shipped stress tests and the documentation into the wheel.

See pyproject.toml for the rest.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = {"stress_tests": "test_*.py", "docs": "**/*.md"}
"""Folders of a checkout, and the pattern of their files that ship.

An editable install reads them there and has no copy.
"""


class WithDataOfTheCheckout(build_py):
    """Builds the package with files of `harness/stress_tests` and `harness/docs` as its data."""

    def _copies(self) -> dict[str, str]:
        package = Path(self.build_lib, "harness")
        copies = {}
        for folder, pattern in DATA.items():
            for path in sorted(Path(folder).glob(pattern)):
                copies[str(package / path)] = str(path)
        return copies

    def run(self) -> None:
        """Build it; an editable install copies nothing."""
        super().run()
        if not self.editable_mode:
            for target, source in self._copies().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target, preserve_mode=False)

    # setuptools passes this argument by position.
    def get_outputs(self, include_bytecode: bool = True) -> list[str]:  # noqa: FBT001, FBT002
        """Return the files that are built."""
        outputs = super().get_outputs(include_bytecode)
        if self.editable_mode:
            return outputs
        return [*outputs, *self._copies()]

    def get_source_files(self) -> list[str]:
        """Return the files of a source distribution."""
        return [*super().get_source_files(), *self._copies().values()]


setup(cmdclass={"build_py": WithDataOfTheCheckout})
