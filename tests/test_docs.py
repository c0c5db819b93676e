"""The pages of docs/ and the README lead somewhere, and what is made of them knows every setting and every rule."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pictures import PICTURES

from docs import hooks
from dogbreeds.command_schemas import SCHEMAS
from dogbreeds.debug.catalogue import RULES
from dogbreeds.schema import key_types
from tests.conftest import ROOT

DOCS = ROOT / "docs"


def slugs(page: Path) -> set[str]:
    """Returns the anchors of a page, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    for target, anchor in links:
        found = page.parent / target if target else page
        assert found.exists(), target
        # The headings of these two are made when the site is built, which checks them.
        assert not anchor or found.name in ("settings.md", "api.md") or anchor in slugs(found), (target, anchor)


def test_pictures_are_those_that_the_script_makes() -> None:
    """`make pictures` makes each picture that a page shows, small enough for a page that loads fast."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *DOCS.glob("*.md")))
    shown = set(re.findall(r"!\[[^\]]+\]\((?:docs/)?([^)]+)\)", text))
    assert {name for name in shown if not name.endswith(".svg")} == set(PICTURES)
    assert {path.name for path in DOCS.iterdir() if path.suffix in (".png", ".jpg", ".webp")} == set(PICTURES)
    assert max((DOCS / name).stat().st_size for name in PICTURES) < 300_000


def test_the_settings_are_all_there_with_their_defaults() -> None:
    text = hooks.settings_text().replace("<wbr>", "")
    listed = re.findall(r"^\| <code>([\w.]+)</code> \|", text, re.MULTILINE)
    assert {name for schema in SCHEMAS.values() for name in key_types(schema)} == set(listed)
    assert "| <code>lr</code> | `0.01` | learning rate of the head; above 0 |" in text
    assert "| `hpo=bayes` | Bayesian optimization" in text


def test_the_rules_are_all_there_with_their_definitions() -> None:
    page = (DOCS / "rules.md").read_text(encoding="utf-8")
    table = page[: page.index("\n## ")]
    assert sorted(set(re.findall(r"[A-Z]\w+", table)) & set(RULES)) == sorted(RULES)
    text = hooks.rules_text(page)
    assert "### Overfit\n\nThe validation loss is above the training loss" in text
    assert "| `ratio_threshold` | `100` (documented: `0.1`) |" in text
    with pytest.raises(ValueError, match="differ in AllZero"):
        hooks.rules_text(page.replace("### AllZero", "### Other", 1).replace("### Other\n", ""))


def test_the_numbers_of_the_backbones_are_those_that_were_measured() -> None:
    measured = json.loads((DOCS / "accuracy.json").read_text(encoding="utf-8"))["accuracy"]["markdown"]
    rows = {cells[0]: cells for cells in _rows(measured)}
    shown = [
        cells
        for cells in _rows((DOCS / "backbones.md").read_text(encoding="utf-8"))
        if re.fullmatch("`[a-z0-9_]+`", cells[0])
    ]
    assert len(shown) == 4
    for name, default, mirrored, seconds in shown:
        cells = rows[name.strip("`")]
        assert (default, mirrored, seconds) == (cells[2].split(" / ")[2], cells[3].split(" / ")[2], cells[6])


def _rows(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]
