"""Who is asked about many photos: a package on this machine, a server, or an endpoint of SageMaker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from dogbreeds.config import check_launch
from dogbreeds.errors import ConfigError
from dogbreeds.package.finding import find_package
from dogbreeds.schema import PredictCommandConfig
from dogbreeds.serve import batch, client
from dogbreeds.serve.answers_file import Row

#: Yields a row for each photo, in order, and whether it was answered.
Ask = Callable[[Sequence[Path]], Iterator[tuple[Row, bool]]]


@contextmanager
def asked(config: PredictCommandConfig) -> Iterator[Ask]:
    """Yields what asks whom the settings name.

    Raises:
        ConfigError: They name nobody, or several, or a number that cannot be.
        UserError: Nobody of that name answers.
    """
    model, endpoint, url = config.model, config.endpoint, config.url
    named = {
        name: value for name, value in (("model", model), ("endpoint", endpoint), ("url", url)) if value is not None
    }
    if len(named) != 1:
        given = " ".join(f"{name}={value}" for name, value in named.items()) or "none of them"
        raise ConfigError(f"Who is asked? One of model=<run>/model, endpoint=<name>, url=<server>, not {given}.")
    if config.at_once < 1:
        raise ConfigError(f"at_once={config.at_once}: must be 1 at least.")
    if not 0 <= config.patience_seconds < float("inf"):
        raise ConfigError(f"patience_seconds={config.patience_seconds}: must be 0 at least and finite.")
    if model is not None:
        package = find_package(model)
        yield lambda paths: batch.rows(package, paths, Path(config.cache.dir))
    elif url is not None:
        with closing(client.Server(url, config.at_once)) as server:
            yield lambda paths: client.rows(server, paths, config.at_once, config.patience_seconds)
    elif endpoint is not None:
        from dogbreeds.sagemaker.endpoints.client import asker_of

        settings = check_launch(config.sagemaker, serves=True)
        with asker_of(settings, endpoint, config.at_once) as asker:
            yield lambda paths: client.rows(asker, paths, config.at_once, config.patience_seconds)
