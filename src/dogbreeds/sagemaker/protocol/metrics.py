"""The metrics of a job: the lines that it prints, and the regular expressions by which the service reads them."""

import math
import re
from collections.abc import Mapping

from dogbreeds.hpo.settings import OBJECTIVES

# A finite float as Python prints it.
_NUMBER = r"[-+]?[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?"
_CURVES = ("epoch", "lr", "train/loss", "train/accuracy", "val/calibration_error", "seconds")

#: The regular expression of each metric; its group is the number.
METRICS: Mapping[str, str] = {
    name: rf"\[dogbreeds\](?: .*)? {re.escape(name)}=({_NUMBER})(?: |$)" for name in (*_CURVES, *OBJECTIVES)
}


def metric_line(row: Mapping[str, object]) -> str:
    """Returns a line from which the service reads the metrics of an epoch or a run: known, finite numbers."""
    numbers = {name: value for name, value in row.items() if name in METRICS and isinstance(value, int | float)}
    pairs = (f"{name}={value!r}" for name, value in numbers.items() if math.isfinite(value))
    return " ".join(["[dogbreeds]", *pairs])


def metric_definitions() -> list[dict[str, str]]:
    return [{"Name": name, "Regex": regex} for name, regex in METRICS.items()]
