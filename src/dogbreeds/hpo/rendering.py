"""A space in the terms of Optuna and of SageMaker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dogbreeds.hpo.space import Choice, Dimension, Space, Values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: The values of `hpo.strategy` and SageMaker's names for them.
STRATEGIES = {"bayes": "Bayesian", "random": "Random", "hyperband": "Hyperband", "grid": "Grid"}
_SCALING = {"auto": "Auto", "linear": "Linear", "log": "Logarithmic"}


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Returns the space as Optuna's distributions.

    An interval without a tag is linear. An ordered choice becomes the position in it, so that neighbours are near
    each other; `decode` turns positions into values.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def of(dimension: Dimension) -> BaseDistribution:
        if isinstance(dimension, Choice):
            if dimension.ordered:
                return IntDistribution(0, len(dimension.values) - 1)
            return CategoricalDistribution(dimension.values)
        log = dimension.scale == "log"
        if dimension.integer:
            return IntDistribution(int(dimension.low), int(dimension.high), log=log)
        return FloatDistribution(dimension.low, dimension.high, log=log)

    return {name: of(dimension) for name, dimension in space.dimensions.items()}


def decode(space: Space, parameters: Mapping[str, Any]) -> Values:
    """Returns Optuna's parameters as values: the end of a logarithmic range, `exp(log(0.1))`, is 0.1 again."""
    values: dict[str, float | str] = {}
    for name, parameter in parameters.items():
        dimension = space.dimensions[name]
        if isinstance(dimension, Choice):
            values[name] = dimension.values[parameter] if dimension.ordered else str(parameter)
        else:
            values[name] = int(parameter) if dimension.integer else float(f"{parameter:.14g}")
    return values


def encode(space: Space, values: Values) -> dict[str, Any]:
    """Returns values of a space as Optuna's parameters: the reverse of `decode`."""

    parameters: dict[str, Any] = dict(values)
    for name, value in values.items():
        dimension = space.dimensions[name]
        if isinstance(dimension, Choice) and dimension.ordered:
            parameters[name] = dimension.values.index(str(value))
    return parameters


def parameter_ranges(space: Space, strategy: str) -> dict[str, list[dict[str, Any]]]:
    """Returns the space as `ParameterRanges` of a tuning job, where all values are strings.

    SageMaker's strategy Grid takes choices only, so an interval of whole numbers becomes one.
    """
    kinds = ("Continuous", "Categorical", "Integer")
    ranges: dict[str, list[dict[str, Any]]] = {f"{kind}ParameterRanges": [] for kind in kinds}
    for name, searched in space.dimensions.items():
        dimension = _listed(searched) if strategy == "Grid" else searched
        if isinstance(dimension, Choice):
            ranges["CategoricalParameterRanges"].append({"Name": name, "Values": list(dimension.values)})
        else:
            kind = "Integer" if dimension.integer else "Continuous"
            low, high = map(dimension.text, (dimension.low, dimension.high))
            ends = {"MinValue": low, "MaxValue": high, "ScalingType": _SCALING[dimension.scale]}
            ranges[f"{kind}ParameterRanges"].append({"Name": name, **ends})
    return ranges


def _listed(dimension: Dimension) -> Dimension:
    if isinstance(dimension, Choice) or not dimension.integer:
        return dimension
    return Choice(tuple(map(dimension.text, dimension.points)), ordered=True)
