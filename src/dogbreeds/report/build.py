"""report.html: one self-contained page about a run, built from its run directory alone."""

import time
from pathlib import Path

from dogbreeds.report.opening import opening
from dogbreeds.report.page import write_page
from dogbreeds.report.run import read_run
from dogbreeds.report.sections import Section
from dogbreeds.report.sections.audit import audit
from dogbreeds.report.sections.calibration import calibration
from dogbreeds.report.sections.confusion import confusion
from dogbreeds.report.sections.data import data
from dogbreeds.report.sections.learning import learning
from dogbreeds.report.sections.numbers import numbers
from dogbreeds.report.sections.photos import Explain, photos
from dogbreeds.report.sections.rules import rules
from dogbreeds.report.sections.system import system
from dogbreeds.report.sections.tensors import tensors
from dogbreeds.report.sections.timing import timing
from dogbreeds.run_directory import REPORT

# After so many seconds the page of a run that has not ended reloads.
_REFRESH_SECONDS = 20


def build_report(run_dir: Path, *, live: bool = False, explain: Explain | None = None) -> Path:
    """Writes report.html into a run directory, in which all but config.yaml may be missing, and returns its path.

    While the run is live, the page says how far it is, and reloads itself. `explain` draws where the model looked.
    """
    run = read_run(run_dir)
    sections = [
        numbers(run),
        learning(run),
        rules(run),
        confusion(run),
        calibration(run),
        photos(run, live=live, explain=explain),
        audit(run, live=live),
        data(run),
        tensors(run),
        system(run),
        timing(run),
        Section("settings", "Configuration", {"config": run.config_text, "facts": run.record.facts}),
    ]
    content = {
        "opening": opening(run, live=live, now=time.time()),
        "run": run,
        "refresh": _REFRESH_SECONDS if live else 0,
        "sections": [section for section in sections if not section.missing],
        "missing": [section for section in sections if section.missing],
    }
    return write_page(run_dir / REPORT, "run.html", content)
