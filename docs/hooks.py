"""What MkDocs asks for while it builds: pages made from the schema, conf/ and docstrings, so that none goes stale."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from dogbreeds.debug.catalogue import RULES
from dogbreeds.entry import register
from dogbreeds.help_page import described, groups, top_comment
from dogbreeds.installation import conf_directory, script_of
from dogbreeds.schema import TrainCommandConfig, key_types

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[1]
_COMMANDS = (
    *("train", "launch", "predict", "serve", "deploy", "export", "report", "audit", "prepare_features"),
    *("cache", "aws", "rehearse", "get_data", "make_sample"),
)
_OUTSIDE = {"CHANGELOG.md": "Changes", "CONTRIBUTING.md": "Contributing"}
_SETTINGS, _RULES = "<!-- settings -->", re.compile(r"^### (\w+)\n", re.MULTILINE)
# Of Markdown, but for pictures.
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\\[\[\]])+)\]\(([^():#]+)(#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages that stand outside of docs/, where GitHub looks for them."""
    assert config.nav
    background = next(iter(config.nav[-1].values()))
    background += [{title: name.lower()} for name, title in _OUTSIDE.items() if (_ROOT / name).is_file()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds those pages, and the notebooks as they were run."""
    from mkdocs.structure.files import File

    for name in _OUTSIDE:
        if (_ROOT / name).is_file():
            text = _LINK.sub(_seen_from_docs, (_ROOT / name).read_text(encoding="utf-8"))
            files.append(File.generated(config, name.lower(), content=text))
    for notebook in sorted((_ROOT / "docs").glob("*.ipynb")):
        markdown, pictures = notebook_text(notebook)
        files.append(File.generated(config, f"{notebook.stem}.md", content=markdown))
        for name, content in pictures.items():
            files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fills in what is made, and keeps of links to code the text alone."""
    if page.file.src_uri == "settings.md":
        markdown = markdown.replace(_SETTINGS, settings_text())
    if page.file.src_uri == "rules.md":
        markdown = rules_text(markdown)
    return _LINK.sub(_within_docs, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Takes the one script that the theme loads from elsewhere from this site.

    Raises:
        ValueError: The page would load something else over the network.
    """
    output = output.replace("https://unpkg.com/iframe-worker/shim", "worker.js")
    if foreign := re.search(r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=[\"']?https?:[^>]*", output):
        raise ValueError(f"{page.file.src_uri} loads {foreign[0]}")
    return output


def _seen_from_docs(link: re.Match[str]) -> str:
    target = link[2].removeprefix("docs/") if link[2].startswith("docs/") else f"../{link[2]}"
    return f"[{link[1]}]({target}{link[3] or ''})"


def _within_docs(link: re.Match[str]) -> str:
    if link[2].endswith(".ipynb"):
        return f"[{link[1]}]({link[2].removesuffix('.ipynb')}.md{link[3] or ''})"
    if not link[2].startswith("../"):
        return link[0]
    if not (_ROOT / "docs" / link[2]).exists():
        raise FileNotFoundError(f"docs: {link[0]} leads nowhere")
    name = link[2].removeprefix("../")
    return f"[{link[1]}]({name.lower()})" if name in _OUTSIDE else link[1]


def notebook_text(path: Path) -> tuple[str, dict[str, bytes]]:
    """Returns a notebook with its outputs as Markdown, so that it looks as all pages do, and its pictures by name."""
    from nbconvert import MarkdownExporter

    exporter = MarkdownExporter(template_file=str(path.with_name("notebook.md.j2")))
    markdown, found = exporter.from_filename(str(path), resources={"unique_key": path.stem})
    # Of pandas; the tables of this site have another look.
    markdown = re.sub(r"<style scoped>.*?</style>", "", markdown, flags=re.DOTALL)
    return markdown.replace(' border="1" class="dataframe"', ""), found["outputs"]


def rules_text(markdown: str) -> str:
    """Returns the page of rules, with the definition and the parameters of each below its heading.

    Raises:
        ValueError: A rule is missing on the page, or there is no such rule.
    """
    named = _RULES.findall(markdown)
    if sorted(named) != sorted(RULES):
        raise ValueError(f"docs/rules.md and the rules differ in {', '.join(sorted(set(named) ^ set(RULES)))}")
    file = conf_directory() / "debugger" / "default.yaml"
    configured, why = yaml.safe_load(file.read_text(encoding="utf-8"))["rules"], _comments_above(file)
    return _RULES.sub(lambda found: f"{found[0]}\n{_rule(found[1], configured[found[1]], why)}\n", markdown)


def _rule(name: str, configured: dict[str, Any], why: dict[str, str]) -> str:
    text, _, attributes = inspect.cleandoc(RULES[name].__doc__ or "").partition("\n\nAttributes:\n")
    meanings = {
        word: " ".join(said.split())
        for word, said in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    }
    rows = []
    for field in fields(RULES[name]):
        value, default = configured.get(field.name, field.default), field.default
        unlike = f" (documented: `{_short(default)}`)" if value != default else ""
        rows.append((f"`{field.name}`", f"`{_short(value)}`{unlike}", meanings.get(field.name, "")))
    columns = ("parameter", "value", "meaning") if meanings else ("parameter", "value")
    table = _table(columns, [row[: len(columns)] for row in rows]) if rows else ""
    return "\n\n".join(part for part in (text, table, why.get(name, "")) if part) + "\n"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _comments_above(file: Path) -> dict[str, str]:
    """Returns the comment that stands above each rule."""
    found = re.findall(r"((?:^  # .*\n)+)  (\w+):", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: " ".join(line.strip(" #") for line in comment.splitlines()) for comment, name in found}


def settings_text() -> str:
    """Returns all settings of all commands, with their defaults, and the choices of all groups."""
    register()
    of_train = set(key_types(TrainCommandConfig))
    parts, shared, of_groups = [], set[str](), dict[str, list[str]]()
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        for name in _COMMANDS:
            known = described(name)
            new = [one for one in known if one not in shared and (name == "train" or one not in of_train)]
            shared |= {one for one in new if one.startswith("sagemaker.")}
            of_groups |= {group: names for group, names in groups(name).items() if names and group != "paths"}
            composed = OmegaConf.to_container(compose(name), resolve=False)
            parts += [f"## {script_of(name)}", _about(name), *_sections({one: known[one] for one in new}, composed)]
    parts += ["## Groups", "`group=choice` takes one file of `conf/<group>/`: some settings at once."]
    for group, choices in of_groups.items():
        rows = [(f"`{group}={choice}`", _choice(group, choice)) for choice in choices]
        parts += [f"### {group}= {{#group-{group}}}", _table(("choice", "what it is"), rows)]
    return "\n\n".join(parts)


def _about(name: str) -> str:
    text = top_comment(conf_directory() / f"{name}.yaml").partition("\n\n")[0]
    extends = name in ("launch", "audit", "prepare_features") and "takes the settings" not in text.lower()
    return text + (" Takes the settings of train.py too." if extends else "")


def _sections(known: dict[str, str], composed: Any) -> list[str]:
    """Returns a table for each part: `data.dir` is in that of `data`."""
    parts: dict[str, list[tuple[str, ...]]] = {}
    for name, said in known.items():
        # A phone breaks a name behind a dot.
        row = (f"<code>{name.replace('.', '.<wbr>')}</code>", _default(composed, name), _plain(said))
        parts.setdefault(name.rpartition(".")[0].partition(".")[0], []).append(row)
    return [
        text
        for part, rows in parts.items()
        for text in (
            *([f"### {part}. {{#{part}}}"] if part else []),
            _table(("setting", "default", "what it is"), rows),
        )
    ]


def _default(composed: Any, name: str) -> str:
    value: Any = composed
    for key in name.split("."):
        value = value[key]
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    if isinstance(value, str) and value.startswith("${"):
        return "computed"
    if value == "???":
        return "none: type it"
    return f"`{text}`" if len(text) < 60 else "a table"


def _choice(group: str, choice: str) -> str:
    file = conf_directory() / group / f"{choice}.yaml"
    comment = " ".join(top_comment(file).removeprefix("@package _global_\n").split())
    if comment:
        return _plain(comment)
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    flat = [f"`{name}: {value}`" for name, value in content.items() if name != "defaults"]
    return ", ".join(flat)


def _plain(text: str) -> str:
    """Returns a text whose signs mean nothing to Markdown, but for backticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([_*|\[\]])", r"\\\1", part.replace("<", "&lt;")) for part in parts[::2]]
    return "`".join(parts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
