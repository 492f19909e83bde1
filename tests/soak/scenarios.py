"""Random runs of the gate, each drawn from a seed.

Options, plugins, surroundings, and what goes wrong meanwhile.
"""

from dataclasses import dataclass, field
from random import Random

CANDIDATES = {"good": 0.6, "bad": 0.2, "cut": 0.1, "missing": 0.1}
"""Checkpoints of the little repository, and how often each is judged."""
OPTIONS = (
    *(
        ("-q",),
        ("-v",),
        ("-x",),
        ("--maxfail=1",),
        ("-s",),
        ("-rA",),
        ("--tb=no",),
        ("--setup-show",),
        ("--lf",),
    ),
    *(("-k", "clean"), ("-k", "nothing"), ("-m", "stress_check"), ("-m", "plain"), ("-k", "plain")),
    *(("--deselect", "stress_tests/test_clean.py"), ("--ignore", "stress_tests/test_rotation.py")),
    *(
        ("--import-mode=importlib",),
        ("--color=yes",),
        ("--durations=3",),
        ("-W", "error"),
        ("--strict-markers",),
    ),
    *(("--stress-samples", "40"), ("--stress-profile", "quick"), ("--stress-profile", "thorough")),
    *(
        ("--stress-set=no_overview=true",),
        ("--stress-no-cache",),
        ("--stress-plan",),
        ("--stress-budget", "5s"),
        ("--co",),
    ),
    *(
        ("--incumbent", "none"),
        ("--baseline", "none"),
        ("--stress-device", "cpu"),
        ("--stress-device", "abacus"),
    ),
    *(
        ("--stress-reports", "elsewhere"),
        ("--stress-set", "history=history.jsonl"),
        ("--junitxml=junit.xml",),
    ),
    *(("--stress-set", "history=history-odd.jsonl"), ("--stress-set", "history=zoo.npz")),
    *(
        ("--html=other.html", "--self-contained-html"),
        ("--checks", "missing.toml"),
        ("--stress-set", "size=abc"),
    ),
    *(
        ("-p", "no:html"),
        ("-p", "no:terminal"),
        ("-p", "no:cacheprovider"),
        ("-p", "no:stress-collector"),
    ),
    *(
        ("-p", "no:stress-ending"),
        ("-p", "no:harness.plugin"),
        ("-p", "no:logging"),
        ("-p", "no:junitxml"),
    ),
    *(
        ("--capture=fd",),
        ("--basetemp=temporary",),
        ("-o", "addopts="),
        ("-c", "pytest.ini"),
        ("--rootdir", "."),
    ),
    *(
        ("-n", "2"),
        ("-n", "2", "--dist", "loadfile"),
        ("-n", "1", "--maxprocesses=1"),
        ("-n", "2", "--dist", "each"),
    ),
)
PLUGINS = {
    "cov": ("--cov=harness", "--cov-report="),
    "sugar": (),
    "timeout": ("--timeout=60",),
    "randomly": ("-p", "randomly"),
    "rerunfailures": ("--reruns", "2"),
}
"""Plugins of other projects, and options that put them to work."""
ENVIRONMENT = (
    *(
        {"HOME": None},
        {"HOME": "/nonexistent"},
        {"XDG_CACHE_HOME": "/dev/null/cache"},
        {"XDG_CACHE_HOME": "/proc"},
    ),
    *(
        {"LC_ALL": "C"},
        {"LC_ALL": "tr_TR.UTF-8"},
        {"TZ": "Pacific/Kiritimati"},
        {"COLUMNS": "1"},
        {"TERM": "dumb"},
    ),
    *(
        {"CI": "true"},
        {"GITHUB_ACTIONS": "true"},
        {"NO_COLOR": "1"},
        {"FORCE_COLOR": "1"},
        {"OMP_NUM_THREADS": "7"},
    ),
    *(
        {"PYTEST_ADDOPTS": "-x"},
        {"PYTEST_ADDOPTS": "--stress-samples 40"},
        {"PYTEST_ADDOPTS": "-k clean"},
    ),
    *(
        {"TMPDIR": "/nonexistent"},
        {"PATH": ""},
        {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        {"MPLBACKEND": "TkAgg"},
    ),
)
AT_START = (
    *({"PYTHONUTF8": "0", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONOPTIMIZE": "2"}),
    *(
        {"PYTHONWARNINGS": "error"},
        {"PYTHONHASHSEED": "7"},
        {"PYTHONDONTWRITEBYTECODE": "1"},
        {"PYTHONDEVMODE": "1"},
    ),
)
"""Surroundings that Python reads when it starts."""
LIMITS = (
    *({"RLIMIT_FSIZE": size} for size in (1_000, 20_000, 300_000)),
    *({"RLIMIT_NOFILE": count} for count in (12, 24, 48)),
    *({"RLIMIT_AS": size * 2**20} for size in (1_500, 2_500, 4_000)),
    *({"RLIMIT_STACK": 2**20}, {"RLIMIT_CORE": 0}, {"RLIMIT_CPU": 3}),
)
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
CHANGES = (
    *("candidate-bad", "candidate-gone", "checks-lenient", "checks-gone", "data-gone", "data-cut"),
    *("reports-gone", "reports-link", "tests-gone", "history-gone"),
)
"""Changes to files of the repository while a run works."""
OUTPUTS = ("closed",)


@dataclass(frozen=True)
class Scenario:
    """One run: `launcher` is pytest or gate. A signal or a change comes `after` so many seconds."""

    seed: int
    launcher: str
    candidate: str
    options: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    environment: dict[str, str | None] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    blocked: str = ""
    signal: str = ""
    change: str = ""
    output: str = ""
    after: float = 0.0

    @property
    def fresh(self) -> bool:
        """Return whether the run needs an interpreter of its own."""
        at_start = {name for facts in AT_START for name in facts} - {"LC_ALL"}
        surroundings = at_start & self.environment.keys() or "error" in self.options
        return bool(self.launcher != "pytest" or self.blocked or self.plugins or surroundings)

    @property
    def arguments(self) -> list[str]:
        """Return the arguments of pytest, without those that every run has."""
        return [*(part for name in self.plugins for part in PLUGINS[name]), *self.options]

    def __str__(self) -> str:
        facts = {name: value for name, value in vars(self).items() if value}
        return ", ".join(f"{name}={value!r}" for name, value in facts.items())


def scenario(seed: int, *, modules: tuple[str, ...]) -> Scenario:
    """Draw the run of a seed; One of the third-party `modules` may fail at import."""
    draw = Random(seed)

    def chance(share: float) -> bool:
        return draw.random() < share

    options = tuple(
        part
        for option in draw.sample(OPTIONS, draw.choice((0, 1, 1, 2, 2, 3, 4)))
        for part in option
    )
    environment: dict[str, str | None] = {}
    for pool, share in ((ENVIRONMENT, 0.4), (ENVIRONMENT, 0.2), (AT_START, 0.05)):
        environment |= draw.choice(pool) if chance(share) else {}
    trouble = draw.choice(
        ("", "", "", "limits", "blocked", "signal", "signal", "change", "change", "output")
    )
    return Scenario(
        seed,
        launcher="gate" if chance(0.2) else "pytest",
        candidate=draw.choices(tuple(CANDIDATES), tuple(CANDIDATES.values()))[0],
        options=options,
        plugins=tuple(draw.sample(tuple(PLUGINS), draw.choice((1, 2)))) if chance(0.1) else (),
        environment=environment,
        limits=draw.choice(LIMITS) if trouble == "limits" else {},
        blocked=draw.choice(modules) if trouble == "blocked" else "",
        signal=draw.choice(SIGNALS) if trouble == "signal" else "",
        change=draw.choice(CHANGES) if trouble == "change" else "",
        output=draw.choice(OUTPUTS) if trouble == "output" else "",
        after=draw.uniform(0.0, 6.0) if draw.random() < 0.5 else draw.uniform(0.0, 2.0),
    )
