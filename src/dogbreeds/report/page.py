"""How a page is made of its template, and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from dogbreeds.atomic import write_text


def write_page(target: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Fills a template of `templates/`, and writes the page whole or not at all.

    Returns:
        The target.
    """
    environment = Environment(
        loader=PackageLoader("dogbreeds.report"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(content)
    write_text(target, page)
    return target
