"""A config from a file and the command line: checked, complete, and plain."""

import importlib.util
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_flags import config_flags

from experiments.check import check
from jaxrec.errors import InputError, did_you_mean


class Reads(Mapping):
    """A config that remembers what was read of it, sections included: a key that nothing reads is a mistake."""

    def __init__(self, values: Mapping[str, Any], path: str = "config"):
        self._path, self._read = path, set()
        self._values = {
            key: Reads(value, f"{path}.{key}") if isinstance(value, Mapping) else value for key, value in values.items()
        }

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        self._read.add(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def check_all_read(self) -> None:
        """Raises InputError for a key that nothing has read."""
        for key, value in self._values.items():
            if key not in self._read:
                raise InputError(f"{self._path}.{key} = {value!r} is set, and nothing reads it. Take it out.")
            if isinstance(value, Reads):
                value.check_all_read()


def from_flags(argv: Sequence[str]) -> tuple[dict[str, Any], str, list[str]]:
    """Reads --config=FILE and every --config.KEY=VALUE out of a command line.

    FILE is a Python file with `get_config()` or a run's config.json. Every argument of every signature the config
    calls can be set, also one that the file leaves at its default; VALUE is a Python literal, or else a string.

    Returns:
      (the checked config with every default written in, the stem of FILE, the arguments that are left).

    Raises:
      InputError: no such file, an unknown key, a value that is not allowed.
    """
    path, overrides, left = _split(argv)
    config = _load(path)
    complete = check(config)
    chosen = {override.lstrip("-").partition("=")[0].removeprefix("config.") for override in overrides}
    known = list(_paths(complete))
    for key in chosen:
        if key not in known:
            raise InputError(f"--config.{key}: the config has no such key.{did_you_mean(key, known)}")
    values, command = flags.FlagValues(), ["launch.py", *overrides]
    tree = _references(complete, chosen)
    config_flags.DEFINE_config_dict("config", tree, lock_config=True, flag_values=values, sys_argv=command)
    try:
        values(command)
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(" ".join(str(error).split())) from None
    overridden = _plain(values["config"].value.to_dict())
    # A default that only completed the file goes again, so that another `name` brings its own.
    return check(_set(overridden, config, chosen)), pathlib.Path(path).stem, left


def _split(argv: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """(path of --config, the --config.KEY arguments as KEY=VALUE, the rest)."""
    path, overrides, left = None, [], []
    arguments = iter(argv)
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0] if argument.startswith("-") else ""
        if name != "config" and not name.startswith("config."):
            left.append(argument)
            continue
        if "=" not in argument:
            value = next(arguments, None)
            if value is None:
                raise InputError(f"{argument} needs a value: {argument}=...")
            argument = f"{argument}={value}"
        if name == "config":
            path = argument.partition("=")[2]
        else:
            overrides.append(argument)
    if not path:
        shipped = ", ".join(sorted(str(file) for file in pathlib.Path("configs").glob("*.py")))
        raise InputError(f"--config=FILE is missing. Shipped configs: {shipped or 'none here'}.")
    return path, overrides, left


def _load(path: str) -> dict[str, Any]:
    """The plain values of a config file."""
    file = pathlib.Path(path)
    if not file.is_file():
        near = did_you_mean(path, map(str, file.parent.glob("*.py")))
        raise InputError(f"--config={path}: no such file.{near}")
    if file.suffix == ".json":
        try:
            return _plain(json.loads(file.read_text()))
        except json.JSONDecodeError as error:
            raise InputError(f"--config={path}: not JSON ({error}).") from None
    spec = importlib.util.spec_from_file_location("config", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise InputError(f"--config={path}: the file defines no get_config().")
    config = module.get_config()
    return _plain(config.to_dict() if isinstance(config, ConfigDict) else config)


def _plain(value: Any) -> Any:
    """Plain dictionaries and tuples: JSON knows only lists, and flax wants hashable attributes."""
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _paths(config: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every key and section of a config, dotted."""
    for key, value in config.items():
        yield f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{path}{key}.")


def _references(config: Mapping[str, Any], chosen: set[str], path: str = "") -> ConfigDict:
    """A ConfigDict whose leaves, and sections that are overridden as a whole, take any literal.

    Types are checked by signature afterwards: a leaf that is None must be able to become a number, and a number the
    section of a schedule.
    """
    tree = ConfigDict()
    for key, value in config.items():
        section = isinstance(value, Mapping) and f"{path}{key}" not in chosen
        tree[key] = _references(value, chosen, f"{path}{key}.") if section else FieldReference(value, field_type=object)
    return tree


def _set(values: Mapping[str, Any], file: Any, chosen: set[str], path: str = "") -> dict[str, Any]:
    """The values that the file or the command line sets."""
    kept = {}
    for key, value in values.items():
        if f"{path}{key}" in chosen:
            kept[key] = value
        elif isinstance(value, Mapping):
            part = _set(value, file.get(key, {}) if isinstance(file, Mapping) else {}, chosen, f"{path}{key}.")
            kept |= {key: part} if part else {}
        elif isinstance(file, Mapping) and key in file:
            kept[key] = value
    return kept
