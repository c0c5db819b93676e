"""Fills the template of a page and writes it."""

from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from dogbreeds import formats
from dogbreeds.debug.rules.results import learned_from
from dogbreeds.files import write_text
from dogbreeds.model.paired import interval

_PLOTLY = "plotly/package_data/plotly.min.js"


def write_page(target: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Fills a template of `templates/` and writes the page, whole or not at all, to the target, which it returns."""
    text = templates("dogbreeds.report").get_template(template).render(content, plotly=plotly_script())
    # A path may have bytes that are no text.
    write_text(target, text.encode(errors="backslashreplace").decode())
    return target


def templates(package: str) -> Environment:
    """Returns the folder `templates` of a package of ours, with filters that write numbers as people read them."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    names = ("percent", "short", "shown", "duration", "counted", "clock")
    environment.filters |= {name: getattr(formats, name) for name in names}
    environment.filters |= {"between": _between, "learned_from": learned_from}
    return environment


def _between(share: float, photos: int) -> str:
    """Returns the 95% interval of a share of photos, in words."""
    return " to ".join(map(formats.percent, interval(share, photos)))


def plotly_script() -> Markup:
    """Returns the script of the plotly package, which draws the charts without a network.

    The package itself is not imported: that would take longer than the rest of a page.
    """
    return Markup(Path(str(distribution("plotly").locate_file(_PLOTLY))).read_text(encoding="utf-8"))
