"""All settings of a gate run: its models, checks and data, its scope, and its reports."""

from __future__ import annotations

from harness.base.settings import Setting
from harness.checks.roles import ROLES
from harness.data.settings import DATA_SETTINGS
from harness.networks.options import NETWORK_SETTINGS
from harness.networks.running import BACKEND_SETTINGS

HISTORY_FILE = "history.jsonl"
"""The file in which runs leave a line, by default in the folder of reports."""
PROFILES = ("quick", "default", "thorough")

CHECKS_SETTING = Setting(
    "checks",
    "The file with the thresholds (default: stress_tests/checks.toml; in the quick profile "
    "stress_tests/checks-quick.toml if it is there).",
    "models",
    metavar="PATH",
    reads=True,
)


def is_bare(name: str) -> bool:
    """Return whether pytest, too, knows a setting by its name alone: a role, or the checks file.

    All others have a prefix, so two plugins never share an option.
    """
    return name in ROLES or name == CHECKS_SETTING.name


def option_of_pytest(name: str) -> str:
    """Return pytest's option for a setting: `--candidate`, `--stress-size`."""
    return f"--{name}" if is_bare(name) else f"--stress-{name}"


def setting_of(role: str) -> Setting:
    """Return the setting that names the checkpoint of a role."""
    about = ROLES[role]
    return Setting(
        role,
        f"{about.about}{', or none' if about.optional else ''} (default: {about.default_in_words}).",
        "models",
        metavar="PATH|none" if about.optional else "PATH",
        reads=True,
    )


UNKNOWN_SETTING = Setting(
    "unknown",
    "Images of none of the classes, for checks of the family unknown: a folder of pictures, folder:PATH, or a SPEC of "
    "data. Labels do not count, and at most 1,000 images are used (default: none).",
    "data",
    metavar="SPEC",
    reads=True,
)
SCOPE_SETTINGS = (
    Setting(
        "layer",
        "The layer for Grad-CAM, by its name in the model (default: the end of the last block of convolutions, behind "
        "its ReLU). In a transformer, the default is the last layer whose patches decide.",
        "scope",
        metavar="NAME",
    ),
    Setting(
        "profile",
        "The amount of work: quick, default or thorough (default: default). quick runs the few checks of "
        "stress_tests/checks-quick.toml on their sample. With other checks, it measures 2,000 images, and the verdict "
        "is partial. The profile thorough takes many minutes: grids of poses on all images, and Hypothesis searches "
        "ten times as long.",
        "scope",
        default="default",
        choices=PROFILES,
    ),
    Setting(
        "samples",
        "Measure a stratified sample of N images only; the verdict is then partial (default: all images).",
        "scope",
        type=int,
        metavar="N",
    ),
    Setting(
        "device",
        "Where to run: auto, cpu, cuda or mps; auto is the first available of cuda, mps and cpu (default: auto).",
        "scope",
        default="auto",
        metavar="DEVICE",
    ),
    Setting(
        "no-cache",
        "Predict anew instead of using the predictions of earlier runs in the user's cache (default: use them).",
        "scope",
        default=False,
        flag=True,
    ),
    Setting(
        "plan",
        "Print the cost of a run by family, without running or judging anything. Like --collect-only, it ends with 0 "
        "and leaves no report (default: run).",
        "scope",
        default=False,
        flag=True,
    ),
    Setting(
        "budget",
        "Fit the run into this time on this machine, such as 90s, 20m or 1.5h (default: all images). If all images "
        "take longer, families measure stratified samples, and the verdict is partial. `calibrate --budget` makes "
        "thresholds for samples that fit. With plan, the run only prints the samples.",
        "scope",
        metavar="TIME",
    ),
    Setting(
        "timeout",
        "Time limit of one check; a model that hangs makes the run inconclusive. 0 means no limit (default: 1800, in "
        "the thorough profile 18000).",
        "scope",
        type=float,
        metavar="SECONDS",
    ),
)
"""The settings of a run's scope, device and time."""

REPORT_SETTINGS = (
    Setting(
        "no-overview",
        "Leave out the comparison of the models, with its curves, confusions and maps (default: compare, in at most a "
        "fifth of the run's work).",
        "report",
        default=False,
        flag=True,
    ),
    Setting(
        "reports",
        "The folder that reports are written to (default: reports).",
        "report",
        default="reports",
        metavar="DIR",
    ),
    Setting(
        "no-wait",
        "End with 4 if another run writes to the folder of reports (default: wait for it to end).",
        "report",
        default=False,
        flag=True,
    ),
    Setting(
        "history",
        "The file of the run history, or none (default: "
        f"{HISTORY_FILE} in the folder of reports; in CI none). The run adds a line, and the report draws the last "
        "runs.",
        "report",
        metavar="FILE",
    ),
    Setting(
        "mlflow",
        "Log the run to this experiment of MLflow: measurements as metrics, the verdict as a tag, the reports as "
        "artifacts. Needs the extra mlflow; where to is MLflow's own MLFLOW_TRACKING_URI (default: no).",
        "report",
        metavar="EXPERIMENT",
    ),
)
"""The settings of a run's reports."""

SETTINGS = {
    setting.name: setting
    for setting in (
        *map(setting_of, ROLES),
        CHECKS_SETTING,
        *NETWORK_SETTINGS,
        *DATA_SETTINGS,
        UNKNOWN_SETTING,
        *SCOPE_SETTINGS,
        *BACKEND_SETTINGS,
        *REPORT_SETTINGS,
    )
}
"""Every setting by its name, in the order in which a surface shows them."""
