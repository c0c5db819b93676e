"""Chooses the hyperparameters of a tuning job: Optuna behind the service's ranges and strategies."""

import itertools
from collections.abc import Iterable, Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import Trial

from local_sagemaker.calls import Members
from local_sagemaker.rules.jobs import ranges_of

# Points that are drawn before there is anything to learn from.
_POINTS_BEFORE_THE_MODEL = 3
_PARSERS = {"Categorical": str, "Integer": int, "Continuous": float}


class Sampler:
    """Chooses the values of one training job after the other, and learns from their results.

    The seed determines all points, if results come in the same order.
    """

    def __init__(self, config: Members, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._ranges = {each["Name"]: (kind, each) for kind, each in ranges_of(config)}
        self._distributions = {name: _distribution(kind, each) for name, (kind, each) in self._ranges.items()}
        objective = config["HyperParameterTuningJobObjective"]["Type"]
        self._study = optuna.create_study(
            # Hyperband divides trials into brackets by a hash of the name, which is random where none is given.
            study_name=f"tuning-{seed}",
            direction=objective.lower(),
            sampler=_sampler(config["Strategy"], seed),
            pruner=_pruner(config),
        )
        if config["Strategy"] == "Grid":
            choices = [each["Values"] for _, each in self._ranges.values()]
            for values in itertools.product(*choices):
                self._study.enqueue_trial(dict(zip(self._ranges, values, strict=True)))

    def learn(self, results: Iterable[tuple[Mapping[str, str], float]]) -> None:
        """Adds the results of other tuning jobs that lie in these ranges."""
        for values, objective in results:
            if values.keys() != self._ranges.keys():
                continue
            parameters = {name: _PARSERS[kind](values[name]) for name, (kind, _) in self._ranges.items()}
            try:
                trial = optuna.create_trial(params=parameters, distributions=self._distributions, value=objective)
            except ValueError:
                # It lies outside.
                continue
            self._study.add_trial(trial)

    def ask(self) -> tuple[Trial, dict[str, str]]:
        """Returns the next point: its trial, and its values as the job gets them."""
        trial = self._study.ask(self._distributions)
        return trial, {name: str(trial.params[name]) for name in self._ranges}

    def falls_behind(self, trial: Trial, series: Iterable[tuple[int, float]]) -> bool:
        """Adds epochs and objectives of a running job; says whether Hyperband would stop it."""
        for epoch, value in series:
            trial.report(value, epoch)
        return trial.should_prune()

    def tell(self, trial: Trial, objective: float | None) -> None:
        if objective is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, objective)


def _distribution(kind: str, each: Members) -> BaseDistribution:
    scaling = each.get("ScalingType", "Auto")
    if kind == "Categorical":
        return CategoricalDistribution(each["Values"])
    if kind == "Integer":
        return IntDistribution(int(each["MinValue"]), int(each["MaxValue"]), log=scaling == "Logarithmic")
    return FloatDistribution(float(each["MinValue"]), float(each["MaxValue"]), log=scaling == "Logarithmic")


def _sampler(strategy: str, seed: int) -> BaseSampler:
    if strategy in ("Random", "Grid"):
        return RandomSampler(seed=seed)
    # Jobs that still run are taken for bad ones, so that the next is not their twin.
    return TPESampler(seed=seed, n_startup_trials=_POINTS_BEFORE_THE_MODEL, constant_liar=True)


def _pruner(config: Members) -> BasePruner:
    if config["Strategy"] != "Hyperband":
        return NopPruner()
    resources = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    return HyperbandPruner(resources.get("MinResource", 1), resources.get("MaxResource", "auto"))
