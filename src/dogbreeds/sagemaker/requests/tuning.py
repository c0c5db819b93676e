"""The request of a tuning job: a space, a strategy, and the training job that is its every trial."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from dogbreeds.hpo.rendering import STRATEGIES, parameter_ranges
from dogbreeds.hpo.settings import Objective
from dogbreeds.hpo.space import Interval, Space
from dogbreeds.sagemaker.requests.job import Job, Request, definition, filled, present, script_mode, tag_list
from dogbreeds.schema import SagemakerConfig, SearchConfig


def tuning_request(job: Job, sagemaker: SagemakerConfig, hpo: SearchConfig, space: Space) -> Request:
    """Returns what `create_hyper_parameter_tuning_job` is called with; the region of the settings must be known.

    The service takes nothing of Debugger's in a tuning job. `best_of=` runs the best trial again under it. What a
    searched config group decides must not be among the job's hyperparameters; the searched settings themselves are
    left out here.

    Raises:
        ConfigError: The service cannot search that; the message names the settings.
    """
    strategy, objective = STRATEGIES[hpo.strategy], Objective(hpo.objective)
    static = {name: value for name, value in job.hyperparameters.items() if name not in space.dimensions}
    tuning = filled(
        "tuning",
        strategy=strategy,
        type=objective.direction.title(),
        hpo=asdict(hpo),
        early_stopping="Auto" if hpo.early_stopping else "Off",
        seed=json.loads(static["seed"]) if "seed" in static else None,
    )
    if strategy == "Hyperband":
        epochs = {"MinResource": hpo.min_epochs, "MaxResource": _most_epochs(static, space)}
        tuning["StrategyConfig"] = {"HyperbandStrategyConfig": epochs}
    request = {
        "HyperParameterTuningJobName": job.name,
        "HyperParameterTuningJobConfig": {**tuning, "ParameterRanges": parameter_ranges(space, strategy)},
        "TrainingJobDefinition": {
            "StaticHyperParameters": {**static, **script_mode(job, sagemaker)},
            **definition(job, sagemaker),
        },
        **present({"Tags": tag_list(sagemaker.tags)}),
    }
    if hpo.warm_start:
        parents = [{"HyperParameterTuningJobName": name} for name in hpo.warm_start]
        request["WarmStartConfig"] = filled("warm_start", parents=parents)
    return request


def _most_epochs(static: Mapping[str, str], space: Space) -> int:
    dimension = space.dimensions.get("epochs")
    if dimension is None:
        return int(json.loads(static["epochs"]))
    if isinstance(dimension, Interval):
        return int(dimension.high)
    return max(int(value) for value in dimension.values)
