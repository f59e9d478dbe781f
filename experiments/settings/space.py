"""A space of configs, `--space.KEY=...`: read, and checked by the signatures that check a config, before JAX starts.

    --space.optimizer.learning_rate="log 1e-4 1e-1"     "float 0 0.5", "int 1 5", "log int 16 512"
    --space.model.dropout=0.1,0.2,0.3                   these values, or names
    --space.model="[{'name': 'CNN'}, {'name': 'MLP', 'dropout': 'float 0 0.5'}]"

Whole sections are choices like others. What is to be chosen within one is there only where that one is taken.
"""

import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.settings.flags import literal, plain
from experiments.settings.schema import check
from jaxrec.errors import InputError, reason

HOW = "'log 1e-4 1e-1', 'float 0 0.5', 'int 1 5', 'log int 16 512', or values with commas between, 0.1,0.2,0.3"
# What trials are compared by has to be the same for all.
FIXED = {
    "seed": "--seeds repeats the winner under others",
    **dict.fromkeys(
        (
            "experiment",
            "monitor",
            "overfit",
            "fold",
            "fold.number",
            "fold.of",
            "data",
            "data.name",
            "data.dataset",
            "data.path",
        ),
        "trials are compared by one metric of the same images",
    ),
    **dict.fromkeys(("data.validation", "data.split_seed"), "trials are compared on the same validation images"),
}


class Range(NamedTuple):
    """Numbers from low to high, both included."""

    low: float
    high: float
    log: bool = False  # equally likely in each decade
    whole: bool = False


class Choice(NamedTuple):
    """One out of several: what it is called -> a plain value, in which there may be more to choose."""

    options: Mapping[str | float | None, Any]


class Space(NamedTuple):
    """What there is to choose.

    Attributes:
      told: dotted key -> what the user has said, plain values.
      choices: dotted key -> what to choose from.
    """

    told: Mapping[str, Any]
    choices: Mapping[str, Range | Choice]


# What makes a choice: (its name, what to choose from) -> a number of the range, or what an option is called.
Pick = Callable[[str, Range | Choice], Any]


def space_of(words: Sequence[str], config: Mapping[str, Any]) -> Space:
    """Reads a space and checks each of its values in the config, the others at their first.

    Args:
      words: KEY=VALUE each, or a JSON file of {KEY: VALUE}; there a VALUE may be a list of options too.
      config: checked and complete.

    Raises:
      InputError: no such file, a key that no trial may change or that lies within another, a value that is none, or one
        that the config's signatures refuse.
    """
    told: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        for name, value in ({key: text} if equals else _load(word)).items():
            if name in told:
                raise InputError(f"--space.{name} is given twice. Leave one out.")
            told[name] = value
    for key in told:
        if key in FIXED:
            raise InputError(f"--space.{key}: this stays as the config has it: {FIXED[key]}.")
        if inside := [other for other in told if key.startswith(f"{other}.")]:
            raise InputError(f"--space.{key} lies within --space.{inside[0]}: choose it there, in the section.")
    by_loss = config.get("monitor") == "loss"
    if changed := [key for key in told if by_loss and key.split(".")[0] == "loss"]:
        raise InputError(
            f"--space.{changed[0]}: trials are compared by the loss of validation, which this changes. Set "
            "config.monitor to another metric."
        )
    space = Space(told, {key: _read(f"--space.{key}", value) for key, value in told.items()})
    for picked in _each_value(space):
        try:
            check(assigned(config, space, picked))
        except InputError as error:
            raise InputError(f"--space: {error}") from None
    return space


def assigned(config: Mapping[str, Any], space: Space, pick: Pick) -> dict[str, Any]:
    """The config with its choices made, unchecked.

    Raises:
      InputError: a key leads through something that is no section.
    """
    config = dict(config)
    for key, choice in space.choices.items():
        *sections, last = key.split(".")
        inner = config
        for place, name in enumerate(sections):
            if not isinstance(inner.get(name), Mapping):
                raise InputError(f"--space.{key}: config.{'.'.join(sections[: place + 1])} is no section here.")
            inner[name] = dict(inner[name])
            inner = inner[name]
        inner[last] = _drawn(key, choice, pick)
    return config


def points(space: Space) -> Iterator[dict[str, Any]]:
    """Every point of a space, {name: what is picked}.

    Raises:
      InputError: it has infinitely many.
    """
    for combination in itertools.product(*(_points(key, choice) for key, choice in space.choices.items())):
        yield {name: picked for part in combination for name, picked in part.items()}


def _points(name: str, value: Any) -> Iterator[dict[str, Any]]:
    """The points of one value: of a range its numbers, of a choice those within each option."""
    if isinstance(value, Range):
        if not value.whole or value.log:
            raise InputError(f"--space.{name}: a grid needs values to go through, such as 0.1,0.2,0.3.")
        yield from ({name: number} for number in range(int(value.low), int(value.high) + 1))
    elif isinstance(value, Choice):
        for label, option in value.options.items():
            for point in _points(f"{name}={label}", option):
                yield {name: label, **point}
    else:
        parts = [_points(within, part) for within, part in _parts(name, value)]
        for combination in itertools.product(*parts):
            yield {key: picked for part in combination for key, picked in part.items()}


def _drawn(name: str, value: Any, pick: Pick) -> Any:
    """A value with its choices made."""
    if isinstance(value, Range):
        return pick(name, value)
    if isinstance(value, Choice):
        label = pick(name, value)
        return _drawn(f"{name}={label}", value.options[label], pick)
    if isinstance(value, Mapping):
        return {
            key: _drawn(within, value[key], pick) for key, (within, _) in zip(value, _parts(name, value), strict=True)
        }
    return tuple(_drawn(*part, pick) for part in _parts(name, value)) if isinstance(value, tuple) else value


def _parts(name: str, value: Any) -> list[tuple[str, Any]]:
    """The parts of a section or a sequence, with their names; of a plain value none."""
    if isinstance(value, Mapping):
        return [(f"{name}.{key}", part) for key, part in value.items()]
    return [(f"{name}[{place}]", part) for place, part in enumerate(value)] if isinstance(value, tuple) else []


def _each_value(space: Space) -> Iterator[Pick]:
    """Picks among which each end of a range and each option occurs once, the rest at their first."""
    seen: set[tuple[str, Any]] = set()
    wanted: list[dict[str, Any]] = [{}]
    while wanted:
        forced = wanted.pop()
        made: dict[str, Any] = {}

        def pick(name: str, choice: Range | Choice, forced: Mapping = forced, made: dict = made) -> Any:
            values = list(choice.options) if isinstance(choice, Choice) else [choice.low, choice.high]
            picked = made[name] = forced.get(name, values[0])
            for value in values:
                if (name, repr(value)) not in seen:
                    seen.add((name, repr(value)))
                    if value != picked:
                        wanted.append({**made, name: value})
            return picked

        yield pick


def _read(where: str, value: Any) -> Range | Choice:
    """What one VALUE means."""
    if isinstance(value, str):
        if (found := _range(where, value)) is not None:
            return found
        value = literal(f"({value},)")
        if isinstance(value, str):  # names
            value = tuple(literal(part.strip()) for part in value[1:-2].split(","))
        if len(value) == 1 and isinstance(value[0], list | tuple):
            (value,) = value
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise InputError(f"{where} = {value!r}: allowed is {HOW}, two of them at least.")
    options: dict[Any, Any] = {}
    for place, option in enumerate(plain(value)):
        label = _label(option)
        label = f"{label} {place}" if label in options and isinstance(option, Mapping) else label
        if label in options:
            raise InputError(f"{where}: {label!r} is there twice. Leave one out.")
        options[label] = _within(where, option)
    return Choice(options)


def _range(where: str, text: str) -> Range | None:
    """The range that a text says, or None where it says something else."""
    *kind, low, high = text.split() if len(text.split()) > 2 else ["", "", ""]
    if kind not in (["log"], ["float"], ["int"], ["log", "int"]):
        return None
    low, high = literal(low), literal(high)
    whole, log = "int" in kind, "log" in kind
    numbers = int if whole else int | float
    if not (isinstance(low, numbers) and isinstance(high, numbers) and low < high and (low > 0 or not log)):
        above = ", the lower above 0," * log
        raise InputError(f"{where} = {text!r}: needs a lower and a higher {'whole ' * whole}number{above} after it.")
    return Range(low, high, log, whole)


def _within(where: str, value: Any) -> Any:
    """An option, with what is to be chosen within it read."""
    if isinstance(value, Mapping):
        return {key: _within(f"{where}.{key}", part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_within(where, part) for part in value)
    if isinstance(value, str):
        found = _range(where, value)
        chosen = value.removeprefix("choice ")
        return _read(where, chosen) if found is None and chosen != value else found or value
    return value


def _label(option: Any) -> str | float | None:
    """What an option is called."""
    if option is None or isinstance(option, str | int | float):
        return option
    return str(option["name"]) if isinstance(option, Mapping) and "name" in option else repr(option)


def _load(path: str) -> Mapping[str, Any]:
    """The space of a JSON file."""
    try:
        found = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"--space={path}: neither KEY=VALUE nor a JSON file ({reason(error)}).") from None
    if not isinstance(found, Mapping):
        raise InputError(f"--space={path}: holds {type(found).__name__}, needs {{KEY: VALUE}}.")
    return found
