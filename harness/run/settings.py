"""All settings of a gate run: its models, checks and data, its scope, and its reports."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Literal

from harness.base.errors import printable
from harness.base.features import results
from harness.base.groups import Place, Setting, Settings, Text, pairs_of, setting, settings_of
from harness.data.options import DataOptions
from harness.networks.options import BackendOptions, NetworkOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from harness.data import LabelledImages
    from harness.inference import RoleModel

HISTORY_FILE = "history.jsonl"
"""The file in which runs leave a line, by default in the folder of reports."""


class ModelSettings(DataOptions, NetworkOptions, BackendOptions):
    """Which images, how networks are built that are not the shipped one, and where they run.

    Asides on data and checkpoints go to standard error.
    """

    samples: int | None = setting(
        "Measure a stratified sample of N images only; the verdict of a gate is then partial "
        "(default: those of the checks file, or all).",
        metavar="N",
        line=True,
    )
    device: Text = setting(
        default="auto",
        about="Where to run: auto, cpu, cuda or mps; auto is the first available of cuda, mps and "
        "cpu (default: auto).",
        metavar="DEVICE",
        line=True,
    )

    def all_images(self) -> LabelledImages:
        """Return all images of the data."""
        from harness.inference import spread_of

        images = self.load(self.transform_named, spread=spread_of(self))
        for note in images.notes:
            print(f"note: {printable(note)}", file=sys.stderr)
        return images

    def training_images(self, spec: str) -> LabelledImages:
        """Return training images, as data; raises `DataError`, which names the option `--train`."""
        from harness.base.errors import DataError, InputError
        from harness.data import load_fashion_mnist
        from harness.data.sources import SHIPPED

        try:
            if spec == SHIPPED:
                return load_fashion_mnist("train")
            return self.but(data=spec).all_images()
        except InputError as error:
            if error.setting.partition(" ")[0] == "data":
                raise DataError(error.message, setting=f"train {spec}", code=error.code) from error
            raise

    def images(self) -> LabelledImages:
        """Return the sample of the images, or all of them."""
        from harness.data import stratified_sample

        images = self.all_images()
        if self.samples is None:
            return images
        return stratified_sample(images, self.samples)

    def open(
        self,
        path: Path | str,
        images: LabelledImages,
        *,
        others: Iterable[RoleModel] = (),
        ordered: bool = True,
    ) -> RoleModel:
        """Return a checkpoint opened for the images.

        Its predictions are cached, and found again by the gate. One that is not `ordered` may have
        its classes in another order than the data.
        """
        from harness.base.cache import Store
        from harness.inference import open_model, placed
        from harness.inference.engine import Engine

        cluster, device = placed(self, self.device)
        model = open_model(
            path,
            images,
            network=self.part(NetworkOptions),
            device=device,
            cache=Store.of_user(),
            backend=cluster or Engine,
            others=others,
            ordered=ordered,
        )
        if model.note:
            print(f"{path}: {model.note}", file=sys.stderr)
        return model


class ReportSettings(Settings):
    """The settings of a run's reports."""

    no_overview: bool = setting(
        default=False,
        about="Leave out the comparison of the models, with its curves, confusions and maps "
        "(default: compare, in at most a fifth of the run's work).",
    )
    reports: Place = setting(
        default="reports",
        about="The folder that reports are written to (default: reports).",
        metavar="DIR",
        line=True,
    )
    no_wait: bool = setting(
        default=False,
        about="End with 4 if another run writes to the folder of reports (default: wait for it to "
        "end).",
    )
    history: Place | None = setting(
        "The file of the run history, or none (default: "
        f"{HISTORY_FILE} in the folder of reports; in CI none). The run adds a line, and the "
        "report draws the last runs.",
        metavar="FILE",
    )


_OF_FEATURES: dict[type[Settings], str] = {}
for _models in results("stress_settings"):
    _OF_FEATURES |= _models


class RunSettings(ModelSettings, ReportSettings, *_OF_FEATURES):  # type: ignore[misc] # Features add to them.
    """Every setting of a run but its models."""

    checks: Place | None = setting(
        "The file with the thresholds (default: stress_tests/checks.toml; in the quick profile "
        "stress_tests/checks-quick.toml if it is there).",
        metavar="FILE",
        line=True,
        reads=True,
    )
    unknown: Text | None = setting(
        "Images of none of the classes, for checks of the family unknown: a folder of pictures, "
        "folder:PATH, or a SPEC of data. Labels do not count, and at most 1,000 images are used "
        "(default: none).",
        metavar="SPEC",
        reads=True,
    )
    layer: Text | None = setting(
        "The layer for Grad-CAM, by its name in the model (default: the end of the last block of "
        "convolutions, behind its ReLU). In a transformer, the default is the last layer whose "
        "patches decide.",
        metavar="NAME",
    )
    profile: Literal["quick", "default", "thorough"] = setting(
        default="default",
        about="The amount of work (default: default). quick runs the few checks of "
        "stress_tests/checks-quick.toml on their sample. With other checks, it measures 2,000 "
        "images, and the verdict is partial. The profile thorough takes many minutes: grids of "
        "poses on all images, and Hypothesis searches ten times as long.",
        line=True,
    )
    no_cache: bool = setting(
        default=False,
        about="Predict anew instead of using the predictions of earlier runs in the user's cache "
        "(default: use them).",
        line=True,
    )
    plan: bool = setting(
        default=False,
        about="Print the cost of a run by family, without running anything. Like --collect-only, "
        "it ends with 0 and leaves no report (default: run).",
        line=True,
    )
    budget: Text | None = setting(
        "Fit the run into this time on this machine, such as 90s, 20m or 1.5h (default: no limit). "
        "If it takes longer, families measure stratified samples, and the verdict is partial. "
        "`calibrate --budget` makes thresholds for samples that fit. With plan, the run only "
        "prints the samples.",
        metavar="TIME",
        line=True,
    )
    timeout: float | None = setting(
        "Time limit of one check; a model that hangs makes the run inconclusive. 0 means no limit "
        "(default: 1800, in the thorough profile 18000).",
        metavar="SECONDS",
        ge=0,
        lt=threading.TIMEOUT_MAX,
    )


SETTINGS = settings_of(RunSettings)
"""Every setting by its name, but the roles, which have one each."""
ON_LINE = {name: setting for name, setting in SETTINGS.items() if setting.line}
"""The settings that pytest has an option for."""
IN_TABLE = {name: setting for name, setting in SETTINGS.items() if not setting.line}
"""The settings that describe the project: in its table, or given by `set`."""
SET = Setting(
    "set",
    "A setting of the project for this run alone, such as crop=224; may be repeated. "
    "`stress-harness list settings` prints all (default: the table [gate] of "
    "stress_tests/checks.toml, before any default above).",
    "set",
    metavar="KEY=VALUE",
)
GROUPS = {
    "DataOptions": "Images",
    "NetworkOptions": "Networks",
    "ChoiceOptions": "Networks",
    "PredictorOptions": "Predictors",
    "ModelSettings": "Scope",
    "RunSettings": "Scope",
    "BackendOptions": "Backend",
    "ReportSettings": "Reports",
} | {model.__name__: title for model, title in _OF_FEATURES.items()}
"""Title of each group of settings, in the order in which a page shows them."""


def option_of_pytest(name: str) -> str:
    """Return pytest's option for a setting, such as `--stress-samples`, or its key in the table.

    Roles and the checks file have no prefix; all others have one, so two plugins never share an
    option.
    """
    if name in IN_TABLE:
        return name
    is_role = name not in {*ON_LINE, SET.name}
    if is_role or name == "checks":
        return f"--{name}"
    return f"--stress-{name.replace('_', '-')}"


def as_options(
    values: Mapping[str, Any], option_of: Callable[[str], str] = option_of_pytest
) -> list[str]:
    """Return settings by name as options: those of the line by their own, all others by `set`."""
    options = []
    table = {}
    for name, value in values.items():
        if name in IN_TABLE:
            if value is not None:
                table[name] = value
        elif value is True:
            options.append(option_of(name))
        elif value not in {None, False}:
            options.append(f"{option_of(name)}={value}")
    return [*options, *(f"{option_of(SET.name)}={pair}" for pair in pairs_of(table))]


def option_of_command(name: str) -> str:
    """Return the option of the commands for a setting, or its key in the table."""
    return name if name in IN_TABLE and name not in COMMON else f"--{name.replace('_', '-')}"


COMMON = ("data", "size", "model")
"""Settings of the table that commands have an option for, since nobody can begin without them."""
