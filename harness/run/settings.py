"""All settings of a gate run: what is judged and by what, how much is measured, and where the result goes."""

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

    All others have a prefix, lest two plugins share an option.
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
    "Images from elsewhere, of none of the classes, for the checks of the family unknown that are about them: a folder "
    "of pictures, folder:PATH, or a SPEC as data takes it; labels do not count, and 1,000 of more images are looked at "
    "(default: none).",
    "data",
    metavar="SPEC",
    reads=True,
)
SCOPE_SETTINGS = (
    Setting(
        "layer",
        "The layer whose attention (Grad-CAM) is looked at, by its name in the model (default: the end of the last "
        "block of convolutions, behind its ReLU; of a transformer the last layer whose patches decide).",
        "scope",
        metavar="NAME",
    ),
    Setting(
        "profile",
        "How much to measure: quick (the few checks of stress_tests/checks-quick.toml on the sample that they were "
        "made for; by other checks a sample of 2,000 images, and the verdict is partial), default, or thorough (grids "
        "of poses on all images, Hypothesis searches ten times as long; many minutes) (default: default).",
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
        "Where to run: auto, cpu, cuda or mps; auto is the first there is of cuda, mps and cpu (default: auto).",
        "scope",
        default="auto",
        metavar="DEVICE",
    ),
    Setting(
        "no-cache",
        "Predict anew instead of using what earlier runs left in the user's cache (default: use it).",
        "scope",
        default=False,
        flag=True,
    ),
    Setting(
        "plan",
        "Say what a run would cost, by family, without running or judging anything: like --collect-only it ends with 0 "
        "and leaves no report (default: run).",
        "scope",
        default=False,
        flag=True,
    ),
    Setting(
        "budget",
        "Let the run fit into this time on this machine, such as 90s, 20m or 1.5h: where it would take longer, "
        "families are measured on stratified samples, and the verdict is partial, as with samples; `calibrate "
        "--budget` makes thresholds for samples that fit. With plan: only say which (default: all images).",
        "scope",
        metavar="TIME",
    ),
    Setting(
        "timeout",
        "How long one check may take before the run ends as inconclusive, since the model hangs; 0 for no "
        "limit (default: 1800, in the thorough profile 18000).",
        "scope",
        type=float,
        metavar="SECONDS",
    ),
)
"""The settings that say how much is measured, where, and how long that may take."""

REPORT_SETTINGS = (
    Setting(
        "no-overview",
        "Leave out the comparison of the models, of which the report shows curves, confusions and maps (default: "
        "compare them, on as many images as a fifth of the run allows).",
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
        "The file in which the run leaves a line, and whose last runs the report draws; none for no such file "
        f"(default: {HISTORY_FILE} in the folder of reports; in CI none).",
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
"""The settings that say what a run leaves."""

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
