"""The command that sets thresholds by reference models: calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.settings import add_settings, values_in
from harness.cli.gating import PASSED_ON, add_checks_option, network_of
from harness.cli.models import add_device_option
from harness.cli.status import OK
from harness.networks.running import BACKEND_SETTINGS, BackendOptions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from harness.calibration.calibrate import CalibrationRequest
    from harness.run.budget import Fit


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    calibrate = add(
        "calibrate",
        _calibrate,
        "Set the thresholds of a checks file by the spread of reference models: trained now (a "
        "killed run goes on where it stopped), or given as checkpoints." + PASSED_ON,
        "calibrate --checkpoints runs/seed-*.safetensors",
    )
    calibrate.set_defaults(passes_on=True)
    calibrate.add_argument(
        "--checkpoints",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="reference models, three or more; one or two give provisional thresholds (default: train them)",
    )
    calibrate.add_argument(
        "--reference-models", type=int, default=20, metavar="K", help="how many to train (default: 20)"
    )
    calibrate.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="networks to train at a time (default: one per core, and one on a device other than the CPU)",
    )
    add_device_option(calibrate, "Where networks are trained and measured")
    add_settings(calibrate.add_argument, BACKEND_SETTINGS)
    calibrate.add_argument(
        "--panel",
        type=Path,
        metavar="FILE",
        help="where every measurement is kept; networks trained go into the folder of this name without .json "
        "(default: the panel that the checks file's recipe names, else models/panel.json)",
    )
    add_checks_option(calibrate)
    calibrate.add_argument(
        "--family",
        action="append",
        default=[],
        metavar="NAME",
        help="measure this family only, on the checkpoints of the panel at hand; may be given several times",
    )
    calibrate.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="ID",
        help="measure this row only, or those that match a pattern such as 'corrupt-fog-*', on the checkpoints of the "
        "panel at hand, and take all others as they were measured; may be given several times",
    )
    calibrate.add_argument(
        "--budget",
        metavar="TIME",
        help="first choose anew on how many images each family is measured, so that a run of the gate fits into this "
        "time on this machine, such as 30m, and write it into the checks file; none for all images (default: what the "
        "checks file says)",
    )
    calibrate.add_argument(
        "--power",
        action="store_true",
        help="measure nothing: print the smallest loss detected by each row with 95%% power, and how many reference "
        "models "
        "its budget would need",
    )
    calibrate.add_argument(
        "--plan",
        action="store_true",
        help="set no threshold: print what 3, 5, 8 and 20 reference models would gain, by the panel at hand or the "
        "checkpoints "
        "named: the rows that would gate, the smallest loss that they would notice, how many to train, and how long "
        "that takes, by the histories beside those at hand",
    )
    calibrate.add_argument(
        "--drop", type=float, metavar="LOSS", help="with --power: the loss to notice, instead of each row's budget"
    )


def _calibrate(options: argparse.Namespace) -> int:
    from harness.calibration.calibrate import by_hand, calibrate, measured_panel
    from harness.calibration.outliers import check_panel
    from harness.calibration.panel import read_panel
    from harness.calibration.summary import calibration_lines, plan_lines, power_lines
    from harness.calibration.thresholds import PROVISIONAL, thresholds_of
    from harness.checks import read_checks

    request = _request(options)
    checks = read_checks(options.checks)
    if options.power:
        panel = read_panel(request.panel_path(checks), checks)
        check_panel(panel)
        calibrated = thresholds_of(panel, checks.budgets, by_hand=by_hand(checks))
        print("\n".join(power_lines(panel, calibrated, drop=options.drop)))
        return OK
    if options.plan:
        if options.checkpoints:
            panel = measured_panel(request, on_fit=_print_fit).panel
        else:
            panel = read_panel(request.panel_path(checks), checks)
        print("\n".join(plan_lines(panel, checks.budgets)))
        return OK
    done = calibrate(request, on_fit=_print_fit)
    print("\n".join(calibration_lines(done.panel, done.calibrated, by_hand=by_hand(done.checks))))
    if done.without:
        print(f"have no value of these networks, and therefore no threshold any more: {', '.join(done.without)}")
    if len(done.panel.models) < PROVISIONAL:
        more = plan_lines(done.panel, done.checks.budgets)
        print("\n".join(["these thresholds are provisional; more reference models would gain:", *more]))
    print(f"thresholds: {options.checks}\nmeasurements: {done.panel_path}")
    if done.predictions_path:
        print("\n".join([f"what the panel knows: {done.predictions_path}", *done.notes]))
    return OK


def _request(options: argparse.Namespace) -> CalibrationRequest:
    from harness.calibration.calibrate import CalibrationRequest

    if any(option.partition("=")[0] == "--stress-budget" for option in options.options):
        raise InputError(
            "--stress-budget: is of a run; write calibrate --budget, before --, which the checks file keeps"
        )
    return CalibrationRequest(
        options.checks,
        tuple(options.checkpoints or ()),
        options.reference_models,
        options.jobs,
        options.device,
        options.panel,
        tuple(options.family),
        tuple(options.row),
        options.budget,
        network_of(options),
        BackendOptions.of(values_in(options)),
        options.options,
    )


def _print_fit(fit: Fit) -> None:
    from harness.report.costs import fit_lines

    print("\n".join(fit_lines(fit)))
