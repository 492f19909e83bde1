"""Puts the stress tests that ship into the wheel; all else about the package stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TESTS = Path("stress_tests")
"""Their place in a checkout: an editable install reads them there, and no copy exists."""


class WithStressTests(build_py):
    """Builds the package with the stress tests as data of it, in `harness/stress_tests`."""

    def _copies(self) -> dict[str, str]:
        target = Path(self.build_lib, "harness", TESTS.name)
        return {str(target / test.name): str(test) for test in sorted(TESTS.glob("test_*.py"))}

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


setup(cmdclass={"build_py": WithStressTests})
