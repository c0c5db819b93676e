"""The space of a search: what Hydra's grammar says, what the command line changes, what is refused and why."""

from __future__ import annotations

import pytest

from dogbreeds.errors import ConfigError
from dogbreeds.hpo.space import Choice, Dimension, Interval, Space, parse

KNOWN = ("lr", "batch_size", "epochs", "optimizer", "model", "model.hidden", "weight_decay")
CONFIGURED = {"lr": "tag(log, interval(0.001, 0.1))", "batch_size": "choice(128, 256, 512)"}


def dimension(text: str) -> Dimension:
    space = parse({}, [text], KNOWN)
    assert space.fixed == ()
    ((_, found),) = space.dimensions.items()
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=interval(0.001, 0.1)", Interval(0.001, 0.1, "auto", integer=False)),
        ("lr=interval(1, 4)", Interval(1.0, 4.0, "auto", integer=False)),
        ("lr=interval(int(1), int(4))", Interval(1.0, 4.0, "auto", integer=False)),
        ("lr=tag(log, interval(0.001, 0.1))", Interval(0.001, 0.1, "log", integer=False)),
        ("lr=tag(linear, interval(0.001, 0.1))", Interval(0.001, 0.1, "linear", integer=False)),
        ("epochs=int(interval(5, 10))", Interval(5, 10, "auto", integer=True)),
        ("epochs=int(tag(log, interval(5, 10)))", Interval(5, 10, "log", integer=True)),
        ("epochs=tag(log, int(interval(5, 10)))", Interval(5, 10, "log", integer=True)),
        ("epochs=range(5, 11, 1)", Interval(5, 10, "auto", integer=True)),
        ("epochs=range(5, 11)", Interval(5, 10, "auto", integer=True)),
        ("epochs=range(5, 11, 2)", Choice(("5", "7", "9"), ordered=True)),
        ("epochs=range(5, 6)", Choice(("5",), ordered=True)),
        ("lr=0.01,0.001", Choice(("0.01", "0.001"), ordered=False)),
        ("batch_size=choice(128,256)", Choice(("128", "256"), ordered=False)),
        ("batch_size=tag(ordered, choice(128,256))", Choice(("128", "256"), ordered=True)),
        ("optimizer=adam,sgd", Choice(("adam", "sgd"), ordered=False)),
        ("model=resnet50,vgg16", Choice(("resnet50", "vgg16"), ordered=False)),
        ("model.hidden=[256],[512,128]", Choice(("[256]", "[512,128]"), ordered=False)),
        ("optimizer='a b','c,d'", Choice(("'a b'", "'c,d'"), ordered=False)),
    ],
)
def test_grammar(text: str, expected: Dimension) -> None:
    assert dimension(text) == expected


def test_integers_have_whole_ends() -> None:
    found = dimension("epochs=int(interval(5, 10))")
    assert isinstance(found, Interval)
    assert (type(found.low), type(found.high)) == (int, int)


def test_command_line_beats_the_config() -> None:
    space = parse(CONFIGURED, ["lr=interval(0.1, 0.2)"], KNOWN)
    assert space.dimensions == {
        "batch_size": Choice(("128", "256", "512"), ordered=False),
        "lr": Interval(0.1, 0.2, "auto", integer=False),
    }


def test_fixed_value_leaves_the_space_and_reaches_every_trial() -> None:
    space = parse(CONFIGURED, ["hpo=bayes", "lr=0.5", "data.dir=photos", "~model"], KNOWN)
    assert list(space.dimensions) == ["batch_size"]
    assert space.fixed == ("hpo=bayes", "lr=0.5", "data.dir=photos", "~model")
    assert space.overrides({"batch_size": "256"}) == ["batch_size=256"]


def test_null_takes_a_setting_out_of_the_space() -> None:
    assert parse(CONFIGURED | {"lr": None}, [], KNOWN).dimensions.keys() == {"batch_size"}


def test_fixed_value_of_the_config() -> None:
    assert parse({"lr": 0.5}, [], KNOWN) == Space({}, ("lr=0.5",))


def test_later_fixed_value_wins_over_a_sweep() -> None:
    assert parse({}, ["lr=1,2", "lr=3"], KNOWN) == Space({}, ("lr=3",))


def test_values_are_written_as_hydra_reads_them() -> None:
    space = parse({}, ["lr=interval(1e-6, 1)", "epochs=int(interval(5, 10))", "optimizer=adam,sgd"], KNOWN)
    values = {"lr": 1e-05, "epochs": 7.0, "optimizer": "sgd"}
    assert space.overrides(values) == ["lr=1e-05", "epochs=7", "optimizer=sgd"]
    assert parse({}, space.overrides(values), KNOWN).dimensions == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lr=interval(3, 1)", "reversed"),
        ("lr=interval(1, 1)", "empty"),
        ("epochs=int(interval(5, 5.5))", "empty"),
        ("lr=interval(0.1, inf)", "finite"),
        ("lr=interval(0.1, nan)", "finite"),
        ("lr=tag(log, interval(0, 1))", "above 0"),
        ("lr=tag(log, interval(-1, 1))", "above 0"),
        ("lr=tag(log, linear, interval(1, 2))", "either linear or log"),
        ("lr=tag(normal, interval(1, 2))", "unknown tag 'normal'. It may be linear or log"),
        ("lr=tag(log, choice(1, 2))", "unknown tag 'log'. It may be ordered"),
        ("batch_size=choice(128, 256, 128)", "128 appears twice"),
        ("epochs=range(5, 5)", "nothing in it"),
        ("learning_rate=1,2", "there is no setting 'learning_rate' to search. Settings are: batch_size"),
        ("batchsize=1,2", "Did you mean batch_size?"),
        ("lr=interval(1", "not in Hydra's override grammar"),
        ("lr=shuffle(1, 2)", "Leave shuffle out"),
        ("epochs=shuffle(range(1, 9))", "Leave shuffle out"),
        ("hpo.trials=4,8", "hpo.trials cannot be searched"),
        ("run_dir=a,b", "run_dir cannot be searched"),
        ("data.exclude=a.csv,b.csv", "data.exclude cannot be searched"),
        ("data.labels=a.csv,b.csv", "data.labels cannot be searched"),
        ("trainer=cpu,gpu", "trainer cannot be searched"),
        ("debugger=off,default", "debugger cannot be searched"),
        ("hpo.space.lr=interval(1, 2)", "write it without hpo.space."),
        ("lr=interval(1, 2),3", "cannot be an interval"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_its_text(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({}, [text], KNOWN)
    assert str(caught.value).startswith(f"{text}: ")
    assert reason in str(caught.value)


def test_setting_that_is_given_twice() -> None:
    with pytest.raises(ConfigError, match=r"^lr=3,4: lr is given twice"):
        parse({}, ["lr=1,2", "lr=3,4"], KNOWN)


def test_mistake_in_the_config_names_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^hpo.space.lr: interval\(1: not in Hydra's"):
        parse({"lr": "interval(1"}, [], KNOWN)


def test_later_sweep_wins_over_a_fixed_value() -> None:
    assert parse({}, ["lr=3", "lr=1,2"], KNOWN) == Space({"lr": Choice(("1", "2"), ordered=False)}, ())


def test_combinations_of_choices_and_whole_numbers() -> None:
    space = parse({}, ["epochs=range(5, 8)", "optimizer=adam,sgd"], KNOWN)
    points = list(space.combinations())
    assert len(points) == space.size == 6
    assert points[0] == {"epochs": 5, "optimizer": "adam"}
    assert {point["epochs"] for point in points} == {5, 6, 7}


def test_settings_that_lie_in_the_space() -> None:
    space = parse(
        {},
        ["lr=interval(0.1, 0.2)", "batch_size=128,256", "optimizer=adam,sgd", "model.hidden=[256],[512, 128]"],
        KNOWN,
    )
    inside = {"lr": 0.1, "batch_size": 256, "optimizer": "sgd", "model.hidden": [512, 128], "epochs": 3}
    assert space.within(inside) == {"lr": 0.1, "batch_size": "256", "optimizer": "sgd", "model.hidden": "[512,128]"}
    assert space.within({"lr": 0.3, "batch_size": 64, "optimizer": None}) == {}


def test_numbers_are_found_however_they_are_written() -> None:
    assert parse({}, ["lr=1e-2,1e-3"], KNOWN).within({"lr": 0.01}) == {"lr": "0.01"}
