"""What a run is told that asks for smdebug where there is none that works."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dogbreeds.debug.hook_settings import check_smdebug
from dogbreeds.errors import ConfigError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for smdebug: the code that importing it runs."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "smdebug"]:
        monkeypatch.delitem(sys.modules, name)
    code = tmp_path / "smdebug" / "__init__.py"
    code.parent.mkdir()
    (code.parent / "pytorch.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    # What is imported here must not stay.
    for name in ("smdebug", "smdebug.pytorch"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    return code


def told() -> str:
    with pytest.raises(ConfigError) as error:
        check_smdebug()
    for way_out in ("pip install", "'.[smdebug]'", "make test-smdebug", "debugger=default"):
        assert way_out in str(error.value)
    return str(error.value)


def test_without_smdebug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smdebug", None)
    assert "debugger=smdebug: module smdebug" in told()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import distutils_that_is_gone", "module distutils_that_is_gone is not installed"),
        ("raise ImportError('undefined symbol: PyEval_CallObject')", "PyEval_CallObject"),
        ("raise TypeError('Descriptors cannot be created directly.\\nMore.')", "Descriptors cannot be created"),
    ],
)
def test_with_an_smdebug_that_cannot_be_imported(package: Path, code: str, said: str) -> None:
    package.write_text(code)
    message = told()
    assert said in message
    assert "More." not in message


@pytest.mark.skipif(hasattr(np.ndarray, "tostring"), reason="this numpy is old enough for smdebug")
def test_with_a_numpy_that_smdebug_cannot_write_with(package: Path) -> None:
    package.touch()
    assert f"numpy {np.__version__}" in told()
