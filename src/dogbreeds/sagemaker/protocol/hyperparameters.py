"""How settings cross the wire: as the strings that hyperparameters are, and back, with their types.

AWS's training toolkit reads each string as JSON where it can, and takes it as it is where it cannot. A tuning job
writes the values that it chose in the same way. So a text is written as it is where that is no JSON, and as JSON
where it would be taken for something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from dogbreeds.errors import ConfigError
from dogbreeds.overrides import hydra_value

#: Hyperparameters that say what a job does, and are no settings of a run.
PREFIX = "dogbreeds_"
# Those of the toolkit, and of a tuning job.
_OTHERS = (PREFIX, "sagemaker_", "_tuning_")
# Where something is or is launched from is another place in a job.
_LOCAL = ("data.dir", "cache.dir", "debugger.managed")
_LOCAL_SECTIONS = ("hydra", "paths", "hpo", "sagemaker", "attach", "stop", "best_of", "resume", "run_dir")
# Limits of the service (CreateTrainingJob). The toolkit, this project and a tuning job have eight of the entries.
_MOST, _LONGEST_NAME = 100 - 8, 256
#: Characters of a hyperparameter's value.
LONGEST_VALUE = 2500
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_PLAIN = re.compile(r"[ -~]*")


def crosses(name: str) -> bool:
    """Says whether a setting or config group concerns the run itself, wherever it runs."""
    return name not in _LOCAL and re.split(r"[./]", name)[0] not in _LOCAL_SECTIONS


def encode(overrides: Mapping[str, object]) -> dict[str, str]:
    """Returns settings as hyperparameters; those that do not cross are left out.

    Args:
        overrides: For dotted names, None, bools, finite numbers, texts, or lists and dictionaries of such.

    Raises:
        ConfigError: The service or the toolkit could not take them; the message names the setting.
    """
    found = {name: encode_value(name, value) for name, value in overrides.items() if crosses(name)}
    if len(found) > _MOST:
        raise ConfigError(f"A job takes {_MOST} settings at most, not {len(found)}.")
    return found


def encode_value(name: str, value: object) -> str:
    """Returns the value of one setting as a hyperparameter, or as a value of a tuning job's categorical range.

    Raises:
        ConfigError: The service or the toolkit could not take it; the message names the setting.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ConfigError(f"{name}: no job takes a setting of that name.")
    try:
        hydra_value(value)
        text = value if isinstance(value, str) and _is_itself(value) else json.dumps(value, allow_nan=False)
        texts = _texts(value)
        # The toolkit puts them into its environment.
        texts.encode()
        if "\0" in texts:
            raise ValueError("it has a null character")
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}={value!r} cannot be sent to a job: {error}.") from error
    if len(text) > LONGEST_VALUE:
        raise ConfigError(
            f"{name}: a job takes values of {LONGEST_VALUE:,} characters at most, and this has {len(text):,}."
        )
    return text


def received(hyperparameters: Mapping[str, str]) -> dict[str, object]:
    """Returns hyperparameters as the toolkit hands them to the program that it runs, in the variable `SM_HPS`.

    Also what a description of a job says, such as the values that a tuning job chose, becomes values by this.
    """
    return {name: _json(text) for name, text in hyperparameters.items()}


def decode(hyperparameters: Mapping[str, object]) -> list[str]:
    """Returns the overrides that hyperparameters are, in Hydra's grammar, each as one argument without a shell.

    What concerns the toolkit and the tuning job is left out, and so is what does not cross: hyperparameters that
    somebody added may choose settings, and not what Hydra runs or where it writes.

    Args:
        hyperparameters: With the types that they have in `SM_HPS`; `received` makes these of strings.

    Raises:
        ConfigError: A name or a value is none of a setting.
    """
    return [
        _override(name, value)
        for name, value in sorted(hyperparameters.items())
        if not name.startswith(_OTHERS) and crosses(name)
    ]


def _override(name: str, value: object) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"The hyperparameter {name} is no setting.")
    # A dictionary may have keys that the defaults lack.
    prefix = "++" if isinstance(value, Mapping) else ""
    try:
        return f"{prefix}{name}={hydra_value(value)}"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The hyperparameter {name}={value!r} is no value of a setting: {error}.") from error


def _is_itself(text: str) -> bool:
    """Says whether a text comes out of the toolkit as it is; the service takes single lines."""
    if not _PLAIN.fullmatch(text) or text != text.strip() or not text:
        return False
    try:
        json.loads(text)
    except ValueError:
        return True
    except RecursionError:
        # It begins like JSON that is nested too deep, on which the toolkit would end.
        return False
    return False


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _texts(value: object) -> str:
    """All texts in a value, joined."""
    if isinstance(value, dict):
        return "".join(map(_texts, [*value, *value.values()]))
    return "".join(map(_texts, value)) if isinstance(value, list | tuple) else value if isinstance(value, str) else ""
