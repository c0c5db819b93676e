"""Writes a submission as competitions ask for it: every class's probability for each photo, whole or not at all."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from dogbreeds.command_schemas import PredictCommandConfig
from dogbreeds.data.names import listing, readable
from dogbreeds.errors import ConfigError, DataError
from dogbreeds.formats import counted
from dogbreeds.package.finding import find_package
from dogbreeds.package.messages import Answer
from dogbreeds.serve import batch
from dogbreeds.serve.answers_file import Row, table, write_rows


def write(config: PredictCommandConfig, images: str, out: Path | None) -> str:
    """Writes the file of a command with `format=kaggle`, and says what it has.

    Raises:
        ConfigError: The settings do not fit together, or photos would have the same id.
        DataError: A photo cannot be read; the rows of the others are kept as `<name>.partial.csv`.
    """
    if config.package is None or config.url is not None or config.endpoint is not None:
        raise ConfigError("format=kaggle needs package=<run> alone: servers answer with the best five breeds, not all.")
    if config.explain is not None:
        raise ConfigError(f"explain={config.explain}: format=kaggle writes a table alone. Ask for pictures without it.")
    if out is None or out.suffix.lower() != ".csv":
        raise ConfigError(f"out={config.out}: format=kaggle writes a table, out=submission.csv.")
    package, paths = find_package(config.package), batch.find_images(images)
    named = defaultdict(list)
    for path in paths:
        named[path.stem].append(readable(path))
    if alike := listing(" and ".join(files) for files in named.values() if len(files) > 1):
        raise ConfigError("\n".join([f"images={images}: an id is a name without ending, and some are alike:", *alike]))
    predictor = batch.load(package, Path(config.cache.dir))
    classes = predictor.description.classes
    if "id" in classes:
        raise ConfigError("format=kaggle: a class is called id, and so is the column of the photos. Rename the class.")
    predictor.top = len(classes)
    rows = batch.rows(predictor, paths, partial(_row, classes))
    write_rows(_whole(rows), out, len(paths), partial(table, columns=("id", *classes)))
    return f"{out} has {counted(len(paths), 'photo')} and {len(classes)} classes."


def _row(classes: Sequence[str], path: Path, photo: bytes, answer: Answer) -> Row:
    return {"id": readable(path.stem)} | {classes[one.index]: f"{one.probability:.6g}" for one in answer.top}


def _whole(rows: Iterable[tuple[Row, bool]]) -> Iterator[tuple[Row, bool]]:
    unreadable = []
    for row, predicted in rows:
        if predicted:
            yield row, predicted
        else:
            unreadable.append(f"{row['path']}: {row['error']}")
    if unreadable:
        said = f"A submission needs all photos, and {len(unreadable)} cannot be read. Repair them and type it again:"
        raise DataError("\n".join([said, *listing(unreadable)]))
