"""The commands: what each script does, and `dogbreeds <command>` where the package is installed."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dogbreeds import command_schemas as schemas
from dogbreeds import config as configs
from dogbreeds.config import check_launch
from dogbreeds.data.kept import named_files
from dogbreeds.directories import make_way
from dogbreeds.entry import BEGAN, Command, entry_point, importing
from dogbreeds.errors import ConfigError, did_you_mean
from dogbreeds.files import check_place, read_csv
from dogbreeds.help_page import summary
from dogbreeds.installation import command, require
from dogbreeds.overrides import override, sets

_PACKAGE = {"model": "package", "run": "package"}
# Those on the left are of training jobs.
_VARIANT = {f"sagemaker.{key}": f"variant.{key}" for key in ("image", "instance", "instances", "volume_gb")}


@entry_point("train")
def train(composed: DictConfig) -> None:
    config = configs.load(composed, HydraConfig.get().overrides.task)

    with importing():
        from dogbreeds.training import run

    print(run.train(config, BEGAN).summary())


@entry_point("launch")
def launch(composed: DictConfig) -> None:
    settings = configs.launch_settings(composed)

    from dogbreeds.sagemaker import commands

    if composed.stop is not None:
        print(commands.stop(settings, composed.stop))
        return
    make_way(Path(composed.run_dir))
    typed = HydraConfig.get().overrides
    if composed.attach is not None:
        print(commands.attach(settings, composed.attach, configs.unchecked(composed), [*typed.hydra, *typed.task]))
    else:
        print(commands.train(settings, configs.load(composed, typed.task)))


@entry_point("prepare_features")
def prepare_features(composed: DictConfig) -> None:
    address = composed.cluster.address
    if address is not None:
        require("cluster=ray", "serve", "ray")
    config = configs.load(composed, overrides=[])

    with importing():
        from dogbreeds.training import features_only

    features_only.prepare_features(config, address)
    print(f"They are in {config.cache.dir}; {command('train')} with the same settings finds them there.")


@entry_point("audit")
def audit(composed: DictConfig) -> None:
    out = Path(composed.out)
    check_place(out, f"out={out}")
    config = configs.load(composed, overrides=[])
    before = config.data.exclude
    for name, file in named_files(config.data).items():
        if out.resolve() == Path(file).resolve():
            other = override("out", out.with_stem(f"{out.stem}-2"))
            raise ConfigError(f"out={out} would overwrite what data.{name} reads: add {other}, or another place.")

    with importing():
        from dogbreeds.training import features_only

    print(features_only.audit_photos(config, out))
    if not read_csv(out, dict):
        print(f"{out} has no rows: there is nothing to leave out.")
        return
    rest = "Then leave out the others" if before is None else f"Then add the paths of the others to {before}"
    typed = [shlex.quote(one) for one in HydraConfig.get().overrides.task if not sets(one, "out", "data.exclude")]
    again = " ".join([command("train"), *typed, override("data.exclude", before or out)])
    print(f"They are in {out}. Look at them first: most rows of suspicion label are hard photos with right labels.")
    print(f"Delete the lines of those that are right. {rest}: {again}")


@entry_point("predict", renamed=_PACKAGE)
def predict(config: schemas.PredictCommandConfig) -> None:
    with importing():
        from dogbreeds.asking import asked
    from dogbreeds.serve import submission
    from dogbreeds.serve.answers_file import check_out, write_rows
    from dogbreeds.serve.batch import find_images

    out = check_out(config.out)
    if config.images is None:
        raise ConfigError("images=null: name a photo, a folder, or a glob in quotes, images=<photos>.")
    if config.format is not None:
        print(submission.write(config, config.images, out))
        return
    with asked(config) as ask:
        paths = find_images(config.images)
        unanswered = write_rows(ask(paths), out, len(paths))
    if unanswered:
        sys.exit(f"Photos without an answer: {unanswered}. Their lines say why.")


@entry_point("serve", renamed=_PACKAGE)
def serve(config: schemas.ServeCommandConfig) -> None:
    require("This", "serve", "starlette", "uvicorn", "prometheus_client")

    with importing():
        from dogbreeds.package.finding import find_package

    package = find_package(config.package)

    from dogbreeds.serve import run

    run.serve(package, config.limits, host=config.host, port=config.port, cache=Path(config.cache.dir))


@entry_point("export", renamed=_PACKAGE)
def export(config: schemas.ExportCommandConfig) -> None:
    from dogbreeds.package import export as exporting
    from dogbreeds.package.examples import DIRECTORY, load_examples
    from dogbreeds.package.finding import find_package
    from dogbreeds.serve.batch import find_images

    out, package = exporting.check_out(config.format, config.out), find_package(config.package)
    if config.images is None:
        photos = [package / DIRECTORY / example.file for example in load_examples(package)]
    else:
        photos = find_images(config.images)
    if not photos:
        raise ConfigError(f"package={package} has no example photos to compare on: add images=<some photos>.")
    found = exporting.export(package, config.format, out, photos)
    print(f"{out} agrees with the package on {found.photos} photos within {found.difference:.1g}. Use it:\n")
    print(exporting.usage(config.format, out))
    print("\nimages is uint8 RGB (N, 3, side, side), resized and cropped as its metadata say.")


@entry_point("deploy", renamed=_PACKAGE | _VARIANT)
def deploy(config: schemas.DeployCommandConfig) -> None:
    check_launch(config.sagemaker, serves=config.action == "deploy")

    from dogbreeds.sagemaker.endpoints import commands

    print(commands.run(config))


@entry_point("aws")
def aws(config: schemas.AwsCommandConfig) -> None:
    check_launch(config.sagemaker)

    from dogbreeds.sagemaker import account_setup

    print(account_setup.run(config, HydraConfig.get().overrides.task))


@entry_point("report")
def report(config: schemas.ReportCommandConfig) -> None:
    if (config.run is None) == (config.runs is None):
        raise ConfigError("Give a run directory, run=<directory>, or several to compare, runs=<one>,<another>.")
    if config.run is not None:
        from dogbreeds.training.watching import report_again

        print(report_again(Path(config.run)))
    elif config.runs is not None:
        from dogbreeds.report.comparison import build_comparison

        print(f"comparison {build_comparison([Path(run) for run in config.runs], Path(config.out))}")


@entry_point("cache")
def cache(config: schemas.CacheCommandConfig) -> None:
    from dogbreeds.features.store import listing

    listing.run(config.action, Path(config.cache.dir), config.cache.max_gb, config.days)


@entry_point("get_data")
def get_data(config: schemas.GetDataCommandConfig) -> None:
    from rich.console import Console

    from dogbreeds.data.download import Connection
    from dogbreeds.data.public import choose_set, get_dataset

    target = Path(config.dir).expanduser()
    connection = Connection(config.connect_timeout, config.read_timeout, config.retries, config.backoff)
    chosen = choose_set(config.dataset, cast(dict[str, dict[str, Any]], config.datasets))
    found = get_dataset(chosen, target, connection, config.keep_archive, Console())
    print(f"{found.images} images of {found.breeds} breeds in {target}")
    print(f"Next: {command('train')} {override('data.dir', target)}")


@entry_point("make_sample")
def make_sample(config: schemas.MakeSampleCommandConfig) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from dogbreeds.data import sample

    given, console = asdict(config), Console(stderr=True)
    directory = Path(given.pop("dir"))
    with Progress(transient=True, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Drawing dogs", total=None)
        sample.make_sample(directory, **given, progress=lambda done, of: bar.update(task, completed=done, total=of))
    per_breed = f"{config.train} train, {config.valid} valid, {config.test} test"
    print(f"{config.dir} holds {config.breeds} drawn breeds with {per_breed} pictures each.")
    print(f"Next: {command('train')} {override('data.dir', config.dir)} model=resnet18 model.weights=random")


@entry_point("rehearse")
def rehearse(config: schemas.RehearseCommandConfig) -> None:
    if config.action == "stop":
        from local_sagemaker import stop

        place = config.rehearsal_dir
        print(f"Stopped the rehearsal of {place}." if stop(Path(place)) else f"No rehearsal runs in {place}.")
    elif config.action == "list":
        from local_sagemaker import running

        print("\n".join(f"{process}  {place}" for process, place in running()) or "No rehearsal runs.")
    else:
        from dogbreeds.sagemaker import walkthrough

        sys.exit(not walkthrough.run(config.settings, Path(config.dir)))


_ALL = (train, launch, predict, serve, export, deploy, aws, report, cache, prepare_features, audit, get_data)
COMMANDS: dict[str, Command] = {one.__name__: one for one in (*_ALL, make_sample, rehearse)}


def main() -> None:
    """Runs `dogbreeds <command>`, and lists the commands where none is named."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if (chosen := COMMANDS.get(name.replace("-", "_"))) is not None:
        chosen(sys.argv[2:])
    elif name in ("--help", "-h"):
        print("Usage: dogbreeds <command> [key=value ...]\n")
        print("\n".join(f"  {name:<18}{summary(name)}" for name in COMMANDS))
        print("\ndogbreeds <command> --help lists the settings of a command.")
    else:
        sys.exit(f"dogbreeds {name}: no such command. {did_you_mean(name, COMMANDS)}See dogbreeds --help.")
