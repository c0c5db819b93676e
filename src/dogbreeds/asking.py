"""Chooses who is asked about many photos: a package on this machine, a server, or an endpoint of SageMaker."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from dogbreeds.command_schemas import PredictCommandConfig
from dogbreeds.config import check_launch
from dogbreeds.errors import ConfigError
from dogbreeds.package.explanation import Explainer
from dogbreeds.package.finding import find_package
from dogbreeds.serve import batch, client
from dogbreeds.serve.answers_file import Row

#: Yields a row for each photo, in order, and whether it was answered.
Ask = Callable[[Sequence[Path]], Iterator[tuple[Row, bool]]]


@contextmanager
def asked(config: PredictCommandConfig) -> Iterator[Ask]:
    """Yields the function that asks whoever the settings name."""
    package, endpoint, url = config.package, config.endpoint, config.url
    choices = {"package": package, "endpoint": endpoint, "url": url}
    given = [f"{name}={value}" for name, value in choices.items() if value is not None]
    if len(given) != 1:
        said = f"; got {' '.join(given)}" if given else ""
        raise ConfigError(f"Choose exactly one of package=<run>, endpoint=<name>, url=<server>{said}.")
    if config.explain is not None and package is None:
        raise ConfigError(f"explain={config.explain} needs package=<run>: servers and endpoints send no pictures.")
    if package is not None:
        yield partial(_rows, config, find_package(package))
    elif url is not None:
        with closing(client.Server(url, config.at_once)) as server:
            yield lambda paths: client.rows(server, paths, config.at_once, config.patience_seconds)
    elif endpoint is not None:
        from dogbreeds.sagemaker.endpoints.client import asker_of

        section = check_launch(config.sagemaker, serves=True)
        with asker_of(section, endpoint, config.at_once) as asker:
            yield lambda paths: client.rows(asker, paths, config.at_once, config.patience_seconds)


def _rows(config: PredictCommandConfig, package: Path, paths: Sequence[Path]) -> Iterator[tuple[Row, bool]]:
    if config.explain is None:
        return batch.rows(batch.load(package, Path(config.cache.dir)), paths)
    folder = batch.picture_folder(config.explain, config.images or "")
    predictor = batch.load(package, Path(config.cache.dir))
    return batch.rows(predictor, paths, batch.drawing(Explainer(predictor), folder, paths))
