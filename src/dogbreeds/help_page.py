"""What `--help` prints: the top comment of a command's config, its settings with conf/'s comments, its groups."""

import re
import shutil
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path

import yaml

from dogbreeds.command_schemas import SCHEMAS
from dogbreeds.constraints import OneOf, Setting, settings
from dogbreeds.installation import command, conf_directory

_KEY = re.compile(r"(?P<indent> *)[\"']?(?P<name>\w+)[\"']?:(?P<rest>.*)")
_COMMAND = re.compile(r"python (?:scripts/)?(\w+)\.py")
_NAMES = {"launch_sagemaker": "launch"}
_MAX_WIDTH, _MIN_WIDTH = 118, 100


def summary(name: str) -> str:
    """Returns what a command does, in the first sentence of its config."""
    return top_comment(conf_directory() / f"{name}.yaml").partition("\n")[0]


def described(name: str) -> dict[str, str]:
    """Returns what each setting of a command is, in words."""
    comments: dict[str, str] = {}
    for file, package in _files(conf_directory(), name):
        comments = _comments(file, package) | comments
    return {one.name: _description(one, comments.get(one.name, "")) for one in settings(SCHEMAS[name])}


def page(name: str) -> str:
    root, known = conf_directory(), described(name)
    longest = max(map(len, known))
    width = min(_MAX_WIDTH, max(_MIN_WIDTH, shutil.get_terminal_size().columns))
    words = textwrap.TextWrapper(width, subsequent_indent=" " * (longest + 4))
    lines = []
    for setting, said in known.items():
        words.initial_indent = f"  {setting:<{longest}}  "
        lines.append(words.fill(said))
    about = _COMMAND.sub(lambda found: command(_NAMES.get(found[1], found[1])), top_comment(root / f"{name}.yaml"))
    parts = [about, f"Settings (key=value; conf/{name}.yaml)", *lines, ""]
    choices = [f"  {group}: {', '.join(names)}" for group, names in groups(name).items() if names]
    if choices:
        parts += ["Groups (group=choice; one file each in conf/<group>/)", *choices, ""]
    return "\n".join([*parts, f"{command(name)} --cfg job shows all values; add settings to see what they change."])


def _description(setting: Setting, comment: str) -> str:
    constraint = setting.constraint
    said = isinstance(constraint, OneOf) and all(re.search(rf"\b{value}\b", comment) for value in constraint.values)
    allowed = "" if constraint is None or said else str(constraint)
    return "; ".join(part for part in (comment, allowed) if part) or setting.expected


def top_comment(file: Path) -> str:
    """Returns the comment that a file of conf/ begins with."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return "".join(f"{line[2:]}\n" for line in takewhile(lambda line: line.startswith("#"), lines))


@cache
def _defaults(root: Path, name: str) -> list[str | dict[str, str | None]]:
    return list(yaml.safe_load((root / f"{name}.yaml").read_text(encoding="utf-8")).get("defaults", []))


def _files(root: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Yields the files that a config is made of, each with the prefix of its settings; its own first."""
    file = root / f"{name}.yaml"
    group = name.rpartition("/")[0]
    is_global = not group or file.read_text(encoding="utf-8").startswith("# @package _global_")
    yield file, "" if is_global else f"{group}."
    for entry in reversed(_defaults(root, name)):
        if isinstance(entry, str):
            nested = f"{group}/{entry}" if group else entry
        else:
            ((choice_of, choice),) = entry.items()
            nested = f"{choice_of}/{choice}"
        if (root / f"{nested}.yaml").is_file():
            yield from _files(root, nested)


def groups(name: str) -> dict[str, list[str]]:
    """Returns the choices of each group that a config, or one that it builds on, lists."""
    root, found = conf_directory(), dict[str, list[str]]()
    for entry in _defaults(root, name):
        if isinstance(entry, str):
            found |= groups(entry) if (root / f"{entry}.yaml").is_file() else {}
        else:
            (group,) = entry
            if not group.startswith("override "):
                found[group] = sorted(path.stem for path in (root / group).glob("*.yaml"))
    return found


def _comments(file: Path, package: str) -> dict[str, str]:
    """Returns what stands behind the settings of a file, by their dotted names."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = _KEY.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        above = [(depth, name) for depth, name in above if depth < indent]
        above.append((indent, match["name"]))
        if comment := match["rest"].partition(" # ")[2].strip():
            found[package + ".".join(name for _, name in above)] = comment
    return found
