"""Numbers and times as people read them."""

import math
from datetime import datetime

_MINUTE, _HOUR = 60.0, 3600.0


def percent(share: float, digits: int = 1) -> str:
    """Returns a share of one as percent: 0.803 becomes 80.3%."""
    return f"{100 * share:.{digits}f}%"


def points(share: float) -> str:
    """Returns a difference of shares in percentage points: 0.026 becomes 2.6."""
    # Adding zero makes -0.0 a plain zero.
    return f"{round(100 * share, 1) + 0.0:.1f}"


def ends(interval: tuple[float, float]) -> str:
    """Returns the ends of an interval in percentage points: `-1.2 to 2.6`."""
    return " to ".join(map(points, interval))


def short(value: float) -> str:
    """Returns a number with about four digits, and commas in large ones."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def shown(value: float | str | None) -> str:
    """Returns a value for display: numbers have four digits."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.4g}"


def duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{1e6 * seconds:.0f} µs"
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < _MINUTE:
        return f"{seconds:.3g} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:02.0f} s"
    return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:02.0f} min"


def counted(number: int, one: str, many: str = "") -> str:
    """Returns `1 photo` or `2 photos`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def moment(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")


def clock(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M")
