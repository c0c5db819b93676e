"""Imports run down only: no folder imports one that stands above it, and neither folders nor files go in circles."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from dogbreeds.version import __version__
from tests.conftest import ROOT

SOURCE = ROOT / "src" / "dogbreeds"
SERVICE = ROOT / "src" / "local_sagemaker"
#: From the top floor down.
FOLDERS = ("sagemaker", "hpo", "serve", "training", "package", "report", "debug", "features", "model", "data")


@functools.cache
def files(package: Path = SOURCE) -> dict[str, Path]:
    """The modules of a package: `dogbreeds.data.layout` and its file."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def at_the_top(module: str, modules: dict[str, Path]) -> Iterator[str]:
    """What importing a module imports at once: names of modules of the package, and of other packages."""
    yield from (module[:end] for end, sign in enumerate(module) if sign == ".")
    waiting: list[ast.stmt] = list(ast.parse(modules[module].read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
            yield from names or {str(node.module)}
        elif not isinstance(node, ast.FunctionDef) and "TYPE_CHECKING" not in ast.unparse(node).partition("\n")[0]:
            waiting += [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)]


def packages_behind(module: str) -> set[str]:
    """The packages that are imported with a module."""
    modules, seen, waiting, found = files(), set[str](), [module], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in modules:
            found.add(name.partition(".")[0])
        elif name not in seen:
            seen.add(name)
            waiting += at_the_top(name, modules)
    return found


def imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The modules of the package that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
            yield from names or ({node.module} & modules.keys())


@functools.cache
def edges(package: Path = SOURCE) -> dict[str, set[str]]:
    modules = files(package)
    return {name: set(imported(path, modules)) - {name} for name, path in modules.items()}


def folder(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS else ""


def test_every_folder_has_its_floor() -> None:
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} == set(FOLDERS)


def test_no_folder_imports_one_above_it() -> None:
    above = [
        f"{name} imports {other}"
        for name, others in edges().items()
        for other in others
        if folder(name) and folder(other) and FOLDERS.index(folder(other)) < FOLDERS.index(folder(name))
    ]
    assert not above


@pytest.mark.parametrize("package", [SOURCE, SERVICE])
def test_no_two_files_import_each_other_directly_or_round_about(package: Path) -> None:
    try:
        list(TopologicalSorter(edges(package)).static_order())
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


HEAVY = {"optuna", "timm", "openvino", "ray", "boto3", "sagemaker", "moto", "pillow_heif", "onnx", "mlflow", "wandb"}


@pytest.mark.parametrize(
    ("module", "needed", "refused"),
    [
        ("dogbreeds.commands", {"hydra"}, HEAVY | {"torch", "pytorch_lightning", "numpy", "PIL"}),
        ("dogbreeds.training.run", {"torch", "pytorch_lightning", "PIL"}, HEAVY),
        ("dogbreeds.package.predictor", {"torch", "PIL"}, HEAVY | {"pytorch_lightning", "hydra", "omegaconf"}),
        ("dogbreeds.sagemaker.commands", {"rich"}, {"moto", "ray", "timm", "openvino", "mlflow"}),
    ],
)
def test_packages_are_imported_where_they_are_used(module: str, needed: set[str], refused: set[str]) -> None:
    behind = packages_behind(module)
    assert behind >= needed
    assert not behind & refused


def test_the_service_stands_alone() -> None:
    for path in SERVICE.rglob("*.py"):
        assert not list(imported(path, files())), f"{path} imports dogbreeds"


def test_the_rules_need_no_service() -> None:
    modules = [
        f"local_sagemaker.rules.{path.stem}" for path in (SERVICE / "rules").glob("*.py") if path.stem != "__init__"
    ]
    assert len(modules) == 4
    refused = ["moto", "werkzeug", "boto3", "botocore", "sagemaker"]
    code = f"import sys, {', '.join(modules)}; print([one for one in {refused} if one in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_pre_commit_has_the_ruff_of_the_constraints_and_the_citation_the_version() -> None:
    ruff = re.search(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert ruff and f"rev: v{ruff[1]}\n" in (ROOT / ".pre-commit-config.yaml").read_text()
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_what_contributing_names_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().replace("\\_", "_")
    names = re.findall(r"\]\(([^):]+)\)", text) + re.findall(r"`((?:src|scripts|tests|conf)/[^`]*)`", text)
    assert len(names) > 10
    assert not [name for name in names if not (ROOT / name).exists()]
