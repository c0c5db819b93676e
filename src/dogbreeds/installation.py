"""Where this code lies, in a checkout or installed, and how its commands are typed there."""

import sys
from importlib.util import find_spec
from pathlib import Path

from dogbreeds.errors import ConfigError

_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE.parents[1]
_ENTRY_SCRIPTS = {"train": "train.py", "launch": "launch_sagemaker.py"}

#: The checkout that this code is part of; None for an installed package.
CHECKOUT = _ROOT if (_ROOT / "train.py").is_file() and (_ROOT / "conf").is_dir() else None


def conf_directory() -> Path:
    """Returns conf/: inside an installed package, or beside src/ in a checkout and in a job."""
    installed = _PACKAGE / "conf"
    return installed if installed.is_dir() else _ROOT / "conf"


def script_of(name: str) -> str:
    """Returns the script of a command, relative to a checkout."""
    return _ENTRY_SCRIPTS.get(name, f"scripts/{name}.py")


def arguments_of(name: str) -> list[str]:
    """Returns what Python is started with to run a command: in a checkout from its root."""
    return [script_of(name)] if CHECKOUT else ["-m", "dogbreeds", name]


def command(name: str) -> str:
    """Returns how a command is typed: `python train.py`, or `dogbreeds train` where the package is installed."""
    started = Path(sys.argv[0])
    typed = started.name in ("dogbreeds", "dogbreeds.exe") or started.parent == _PACKAGE
    return f"dogbreeds {name}" if typed or CHECKOUT is None else f"python {script_of(name)}"


def require(what: str, extra: str, *packages: str) -> None:
    """Refuses what needs packages of an extra where these are not installed."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ConfigError(f"{what} needs {' and '.join(missing)}: pip install 'dogbreeds[{extra}]', or make install.")
