"""Looks at a run that is over, or that was killed, with nothing but its directory."""

from __future__ import annotations

from pathlib import Path

from dogbreeds.config import load_saved
from dogbreeds.debug.catalogue import verdict_of, watching_rules
from dogbreeds.debug.record import read_record
from dogbreeds.debug.watch import Judge
from dogbreeds.errors import ConfigError
from dogbreeds.report.build import build_report
from dogbreeds.run_directory import RUN_CONFIG


def report_again(run_dir: Path) -> str:
    """Judges what a run recorded by the rules of its config, and builds its report.

    Returns:
        What to print: the verdict, and where the report is.

    Raises:
        ConfigError: It is no run directory.
    """
    saved = run_dir / RUN_CONFIG
    if not saved.is_file():
        raise ConfigError(f"run={run_dir}: no {RUN_CONFIG} there, so it is not a run directory of train.py.")
    rules = watching_rules(load_saved(saved).debugger)
    judgements = Judge(run_dir, read_record(run_dir), rules).look(running=False)
    return f"rules  {verdict_of(judgements)}\nreport {build_report(run_dir)}"
