"""What Hydra and OmegaConf refuse is said in the words of settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose

from dogbreeds.arguments import arranged
from dogbreeds.command_schemas import PredictCommandConfig
from dogbreeds.composing import initialized
from dogbreeds.config import command_settings
from dogbreeds.errors import ConfigError


def composed(arguments: list[str], name: str = "train") -> None:
    with initialized(name, arguments):
        compose(name, arranged(arguments, name))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("model=resnet19", r"^model=resnet19: must be one of convnext_tiny, .*\. Did you mean resnet18"),
        ("data=photos", r"^data=photos: must be one of folders, sample\. Did you mean data\.dir=photos\?$"),
        ("data=my/sample", r"Did you mean data\.dir=my/sample\?$"),
        ("LR=0.1", "^Unknown setting 'LR'. Did you mean lr"),
        ("learning_rate=0.1", "^Unknown setting 'learning_rate'. Did you mean lr"),
        ("sagemaker=rehearsal", "^Unknown setting 'sagemaker'. It is one of .* launch"),
        ("+model.backbon=a", "^Unknown setting 'model.backbon'. Did you mean model.backbone"),
        ("cache=/tmp", r"^cache=/tmp: it has settings of its own: cache\.dir=<value>, cache\.max_gb=<value>\.$"),
    ],
)
def test_a_command_line(typed: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        composed([typed])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("# @package _global_\nepochz: 2\n", r"^experiment/mine\.yaml: Unknown setting 'epochz'\. Did you mean epochs"),
        ("# @package _global_\nlr: fast\n", r"^experiment/mine\.yaml: lr=fast: must be a number\.$"),
        ("lr: 0.1\n", r"^experiment/mine\.yaml: a line '# @package _global_' has to stand above its settings\.$"),
        ("# @package _global_\nlr: [0.1\n", r"experiment/mine\.yaml, line 3: expected ',' or ']'"),
        ("# @package _global_\nlr: 0.1\n\tepochs: 3\n", r"experiment/mine\.yaml, line 3: found character '\\t'"),
    ],
)
def test_a_file_of_an_own_directory(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError, match=said):
        composed([f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"])


def test_no_command_ignores_a_key_that_was_added() -> None:
    with initialized("predict"):
        found = compose("predict", ["+explane=looked"])
    with pytest.raises(ConfigError, match="Unknown setting 'explane'"):
        command_settings(found, PredictCommandConfig)
