"""Spaces as Optuna and SageMaker want them; those of the two replaced systems to the letter."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from dogbreeds.hpo.rendering import decode, distributions, encode, parameter_ranges
from dogbreeds.hpo.space import Space, parse
from tests.hpo.ranges import RESNET50, VGG16

KNOWN = ("lr", "batch_size", "epochs", "optimizer")


def space(*overrides: str) -> Space:
    return parse({}, overrides, KNOWN)


def test_optuna_distributions() -> None:
    found = distributions(
        space("lr=tag(log, interval(0.001, 0.1))", "epochs=range(5, 11)", "batch_size=choice(128, 256)")
    )
    assert found == {
        "lr": FloatDistribution(0.001, 0.1, log=True),
        "epochs": IntDistribution(5, 10),
        "batch_size": CategoricalDistribution(("128", "256")),
    }
    assert distributions(space("lr=interval(0.001, 0.1)")) == {"lr": FloatDistribution(0.001, 0.1)}


def test_ordered_choices_are_positions_for_optuna_and_values_for_everybody_else() -> None:
    ordered = space("batch_size=tag(ordered, choice(128, 256, 512))", "epochs=range(5, 11, 2)", "optimizer=adam,sgd")
    assert distributions(ordered) == {
        "batch_size": IntDistribution(0, 2),
        "epochs": IntDistribution(0, 2),
        "optimizer": CategoricalDistribution(("adam", "sgd")),
    }
    values = {"batch_size": "512", "epochs": "5", "optimizer": "sgd"}
    assert encode(ordered, values) == {"batch_size": 2, "epochs": 0, "optimizer": "sgd"}
    assert decode(ordered, encode(ordered, values)) == values
    assert decode(ordered, {"epochs": 1}) == {"epochs": "7"}
    assert parameter_ranges(ordered, "Bayesian")["CategoricalParameterRanges"][0]["Values"] == ["128", "256", "512"]


def test_the_end_of_a_logarithmic_range_is_itself() -> None:
    logarithmic = space("lr=tag(log, interval(0.001, 0.1))")
    assert decode(logarithmic, {"lr": 0.09999999999999998}) == {"lr": 0.1}
    assert decode(logarithmic, {"lr": 0.0010000000000000002}) == {"lr": 0.001}


def test_the_resnet50_system() -> None:
    wanted = space("lr=interval(0.001, 0.1)", "batch_size=choice(128, 256, 512)")
    assert parameter_ranges(wanted, "Bayesian") == RESNET50


def test_the_vgg16_system() -> None:
    wanted = space("lr=interval(0.001, 0.1)", "batch_size=choice(128, 256)", "epochs=choice(5, 7, 10)")
    assert parameter_ranges(wanted, "Bayesian") == VGG16


@pytest.mark.parametrize(("tag", "scaling"), [("log", "Logarithmic"), ("linear", "Linear")])
def test_tags_are_scaling_types(tag: str, scaling: str) -> None:
    ranges = parameter_ranges(space(f"epochs=tag({tag}, int(interval(1, 30)))"), "Random")
    assert ranges["IntegerParameterRanges"] == [
        {"Name": "epochs", "MinValue": "1", "MaxValue": "30", "ScalingType": scaling}
    ]


def test_whole_numbers_are_a_choice_in_a_grid_of_the_service() -> None:
    ranges = parameter_ranges(space("epochs=range(5, 8)"), "Grid")
    assert ranges["CategoricalParameterRanges"] == [{"Name": "epochs", "Values": ["5", "6", "7"]}]
