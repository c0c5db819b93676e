"""The command line: where its parts may stand, and what is said about one that cannot be read."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from dogbreeds import arguments, entry
from dogbreeds.commands import COMMANDS, main
from dogbreeds.errors import ConfigError
from dogbreeds.installation import CHECKOUT, command, script_of
from tests.commands.typed import run, succeeded
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("typed", "arranged"),
    [
        ("lr=0.1 -m hpo=bayes", "lr=0.1 hpo=bayes -m"),
        ("-m lr=0.1,0.2", "lr=0.1,0.2 -m"),
        ("--cfg job lr=0.1 --resolve", "lr=0.1 --cfg job --resolve"),
        ("--cfg=job lr=0.1", "lr=0.1 --cfg=job"),
        ("lr=0.1 --config-dir mine --help", "lr=0.1 --config-dir mine --help"),
        ("--info lr=0.1", "lr=0.1 --info"),
        ("--info plugins ~hpo", "~hpo --info plugins"),
    ],
)
def test_settings_may_stand_on_both_sides_of_an_option(typed: str, arranged: str) -> None:
    assert arguments.arranged(typed.split()) == arranged.split()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("train", "model.hidden=wide", "model.hidden=wide: must be a list of whole numbers."),
        ("train", "lr=fast", "lr=fast: must be a number."),
        ("train", "lr=", "lr=: must be a number."),
        ("train", "data.workers=x", "data.workers=x: must be a whole number or null."),
        ("train", "profiler.steps=perhaps", "profiler.steps=perhaps: must be true or false."),
        ("train", "--lr=0.1", "--lr=0.1: settings are typed as key=value, without dashes: lr=0.1"),
        ("train", "--lr=", "--lr=: settings are typed as key=value, without dashes: lr=<value>"),
        ("train", "lr 0.1", "lr: settings are typed as key=value, such as lr=0.01."),
        ("train", "hpo=bayes", "hpo=bayes needs -m: python train.py -m hpo=bayes"),
        ("train", "-m hpo=bayes --cfg job", "Only one of --run, --multirun"),
        ("train", "--shell-completion", "Expecting one subcommand"),
        ("train", "hydra/launcher=3", "Config group override must be a string"),
        ("launch", "hpo=bayes", "hpo=bayes needs -m: python launch_sagemaker.py -m hpo=bayes"),
        ("launch", "-m attach=job hpo=bayes", "attach=job: type attach=job alone, without -m."),
        ("launch", "stop=a attach=b", "attach=b stop=a: type attach=b alone"),
        ("launch", "sagemaker.bucket=s3://b/dogs", "sagemaker.bucket=s3://b/dogs: must be the name of a bucket"),
        ("launch", "sagemaker.prefix=a/b sagemaker.instance=g5.xlarge", "as ml.g5.xlarge."),
        ("train", "data.dir=s3://b/dogs", "First aws s3 sync s3://b/dogs photos, then type data.dir=photos."),
        ("predict", "model=outputs/run images=a.jpg", "model=outputs/run has no effect here; use package=outputs/run."),
        ("predict", "package=m images=a.jpg at_once=0", "at_once=0: must be at least 1."),
        ("predict", "package=m format=csv", "format=csv: must be kaggle, or null, the default: then out= decides"),
        ("predict", "package=m patience_seconds=inf", "patience_seconds=inf: must be at least 0 and finite."),
        ("deploy", "sagemaker.instance=x", "sagemaker.instance=x has no effect here; use variant.instance=x."),
        ("deploy", "variant.kind=batch variant.target=inf", "variant.target=inf: must be above 0 and finite."),
        ("serve", "package=m port=70000", "port=70000: must be between 0 and 65535."),
        ("serve", "package=m limits.pixels=0 limits.per_client=-1", "limits.per_client=-1: must be above 0."),
        ("serve", "package=m limits.waiting=10", "limits.waiting=10: must be at least limits.photos=64"),
        ("serve", "package=m limits.held_bytes=10", "limits.held_bytes=10: must be at least limits.body_bytes="),
        ("report", "runs=one", "A comparison needs two or more run directories"),
        ("rehearse", "action=clear", "action=clear: must be one of play, list, stop."),
        ("cache", "days=-1", "days=-1.0: must be at least 0."),
    ],
)
def test_what_cannot_be_read_or_done(name: str, arguments: str, said: str, tmp_path: Path) -> None:
    place = [f"hydra.run.dir={tmp_path / 'run'}"] if name == "train" and "-" not in arguments else []
    done = run(script_of(name), *arguments.split(), *place)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_config_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("lr: 0.1\n", encoding="utf-16")
    done = run(script_of("train"), "--config-dir", str(tmp_path), "experiment=mine")
    assert done.returncode == 2
    assert done.stderr == "A file in --config-dir is not UTF-8 (invalid start byte): save it as UTF-8.\n"


def test_a_shown_config_can_be_resolved() -> None:
    shown = succeeded("train.py", "--cfg", "job", "lr=0.5", "--resolve", "hydra.run.dir=here")
    assert "lr: 0.5\n" in shown
    assert f"run_dir: {Path('here').absolute()}\n" in shown


def test_a_task_sees_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lightning starts the other processes of a run by `sys.argv`, and they inherit the environment."""
    (tmp_path / "tiny.yaml").write_text("value: 1\nhydra: {output_subdir: null, run: {dir: .}}\n")
    monkeypatch.setattr(sys, "argv", ["dogbreeds", "tiny", "value=2"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    seen: list[object] = []
    # It would close the handlers of other tests.
    for module in ("hydra.core.utils", "hydra._internal.hydra"):
        monkeypatch.setattr(f"{module}.configure_log", lambda *_: None)

    @entry.entry_point("tiny", directory=tmp_path)
    def task(composed: DictConfig) -> None:
        seen.extend([composed.value, list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")])

    task(["value=2"])
    assert seen == [2, ["dogbreeds", "tiny", "value=2"], None]
    assert sys.argv == ["dogbreeds", "tiny", "value=2"]


def test_the_list_of_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["dogbreeds", "--help"])
    main()
    lines = capsys.readouterr().out.splitlines()
    for name in COMMANDS:
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert line.endswith(".")
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")} - {"bench", "pictures"}
    assert scripts | {"train", "launch"} == set(COMMANDS)


def test_an_unknown_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["dogbreeds", "trian"])
    with pytest.raises(SystemExit, match="Did you mean train"):
        main()


def test_commands_are_spelled_as_they_were_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHECKOUT == ROOT
    monkeypatch.setattr(sys, "argv", ["scripts/serve.py"])
    assert (command("train"), command("serve")) == ("python train.py", "python scripts/serve.py")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dogbreeds", "serve"])
    assert command("train") == "dogbreeds train"
    monkeypatch.setattr("dogbreeds.installation.CHECKOUT", None)
    monkeypatch.setattr(sys, "argv", ["notebook"])
    assert command("launch") == "dogbreeds launch"


def test_resume_and_best_of_contradict_each_other() -> None:
    (best,) = [*ROOT.glob("conf/hpo/bayes.yaml")]
    with pytest.raises(ConfigError, match="leave one out"):
        arguments.arranged([f"best_of={best}", "resume=run"])


def test_the_collector_rests_while_a_command_imports() -> None:
    frozen = gc.get_freeze_count()
    made: list[object] = []
    with entry.importing():
        assert not gc.isenabled()
        made.append(made)
    assert gc.isenabled() and gc.get_freeze_count() > frozen
