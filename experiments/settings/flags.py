"""A config from a file and the command line: checked, complete, and plain."""

import ast
import contextlib
import contextvars
import importlib.util
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference
from ml_collections.config_flags import config_flags

from experiments.settings.schema import check, outside, up_to_date
from experiments.settings.source import package
from jaxrec.errors import InputError, did_you_mean

# The packages outside this repository that a run's config.json may name.
_ALLOWED: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("allowed", default=())


class Reads(Mapping):
    """A config that remembers what was read of it, sections included: a key that nothing reads is a mistake."""

    def __init__(self, values: Mapping[str, Any], path: str = "config"):
        self._path, self._read = path, set()
        self._values = {key: self._wrapped(value, f"{path}.{key}") for key, value in values.items()}

    @classmethod
    def _wrapped(cls, value: Any, path: str) -> Any:
        if isinstance(value, list | tuple):
            return tuple(cls._wrapped(part, f"{path}[{index}]") for index, part in enumerate(value))
        return cls(value, path) if isinstance(value, Mapping) else value

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
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Reads):
                    part.check_all_read()


@contextlib.contextmanager
def allowing(packages: Iterable[str]) -> Iterator[None]:
    """Within it a run's config.json may name what lies in these packages, which means to run their code.

    A Python config is the user's own code, and so is the command line: they may name whatever there is. A run's folder
    may be anybody's.
    """
    token = _ALLOWED.set(tuple(packages))
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def from_flags(argv: Sequence[str]) -> tuple[dict[str, Any], str, list[str]]:
    """Reads --config=FILE and every --config.KEY=VALUE out of a command line.

    FILE is a Python file with `get_config()` or a run's config.json, of any version of the code. Every argument of
    every signature the config calls can be set, also one that the file leaves at its default; VALUE is a Python
    literal, or else a string.

    Returns:
      (the checked config with every default written in, the stem of FILE, the arguments that are left).

    Raises:
      InputError: no such file, an unknown key, a value that is not allowed; a config.json that names what lies outside
        this repository, and neither `allowing` nor the command line names the package.
    """
    path, overrides, left = _split(argv)
    tree = _references(_load(path))
    for override in overrides:
        _make_settable(tree, override.lstrip("-").partition("=")[0].removeprefix("config.").split("."))
    values, command = flags.FlagValues(), ["launch.py", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", tree, lock_config=True, flag_values=values, sys_argv=command)
        values(command)
    except (flags.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(" ".join(str(error).split())) from None
    config = plain(values["config"].value.to_dict())
    if path.endswith(".json"):
        _check_allowed(path, config, overrides)
    return check(config), pathlib.Path(path).stem, left


def completed(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run's config.json holds, under the names that its settings have today and with the defaults of new ones.

    As it is where it is no config today: then it is another one than any. Nothing that it names is imported.
    """
    try:
        return check(up_to_date(plain(stored)))
    except InputError:
        return stored


def empty(name: str) -> InputError:
    """The error for a flag without its value."""
    return InputError(f"{name} is empty: give it a value, {name}=..., or leave it out.")


def literal(text: str) -> Any:
    """The Python literal that a text is, or the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _check_allowed(path: str, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raises InputError for a name outside this repository whose package nobody named on the command line."""
    named = []
    for override in overrides:
        key, _, text = override.lstrip("-").partition("=")
        value = literal(text)
        for part in reversed(key.split(".")[1:]):
            value = {part: value}
        named += [package(name) for _, name in outside(value)]
    allowed = (*_ALLOWED.get(), *named)
    for key, name in outside(config):
        if not any(f"{name}.".startswith(f"{trusted}.") for trusted in allowed):
            raise InputError(
                f"{key} = {name!r} in {path}: that is code of another package, and a run's folder may be anybody's. If "
                f"you trust it, say so: --allow={package(name)}."
            )


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
            if value is None or value.startswith("--"):
                raise empty(argument)
            argument = f"{argument}={value}"
        if name == "config":
            path = argument.partition("=")[2]
        else:
            overrides.append(argument)
    if not path:
        for name in (argument.partition("=")[0] for argument in left if argument.startswith("-")):
            near = did_you_mean(name, ["--config"])
            raise InputError(f"{name}: no such flag, and --config=FILE is missing.{near} launch.py --help shows all.")
        shipped = ", ".join(sorted(str(file) for file in pathlib.Path("configs").glob("*.py")))
        raise InputError(f"--config=FILE is missing. Shipped configs: {shipped or 'none here'}.")
    return path, overrides, left


def _load(path: str) -> dict[str, Any]:
    """The plain values of a config file."""
    file = pathlib.Path(path)
    if not file.is_file() or file.suffix not in (".py", ".json"):
        near = did_you_mean(path, map(str, file.parent.glob("*.py")))
        raise InputError(f"--config={path}: no such .py or .json file.{near}")
    try:
        if file.suffix == ".json":
            config = json.loads(file.read_text())
        else:
            spec = importlib.util.spec_from_file_location("config", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            config = module.get_config()
    except Exception as error:  # the file is the user's code
        raise InputError(f"--config={path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    config = config.to_dict() if isinstance(config, ConfigDict) else config
    if not isinstance(config, Mapping):
        raise InputError(f"--config={path}: holds {type(config).__name__}, needs a ConfigDict or a dictionary.")
    return up_to_date(plain(config)) if file.suffix == ".json" else plain(config)


def plain(value: Any) -> Any:
    """Plain dictionaries and tuples: JSON knows only lists, and flax wants hashable attributes."""
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def _references(config: Mapping[str, Any]) -> ConfigDict:
    """A ConfigDict whose leaves take any literal: types are checked by signature, and None must stay possible."""
    tree = ConfigDict()
    for key, value in config.items():
        section = isinstance(value, Mapping)
        tree[key] = _references(value) if section else FieldReference(value, field_type=object)
    return tree


def _make_settable(tree: ConfigDict, path: Sequence[str]) -> None:
    """Makes the end of `path` a leaf: one that the file leaves at its default, or a section replaced as a whole.

    Whether there is such a key, `check` says afterwards, by the signature that the rest of the config leads to.
    """
    if any("[" in key for key in path):
        raise InputError(f"--config.{'.'.join(path)}: a sequence is set as a whole, [{{'name': ...}}, ...].")
    *sections, last = path
    for key in sections:
        if not isinstance(tree.get(key), ConfigDict):
            tree[key] = ConfigDict()
        tree = tree[key]
    if last not in tree or isinstance(tree[last], ConfigDict):
        if last in tree:
            del tree[last]
        tree[last] = FieldReference(None, field_type=object)
