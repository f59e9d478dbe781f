"""What may follow on a command line: commands, flags, keys of its config and their values. JAX is not imported."""

import glob
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.settings import command_line
from experiments.settings.flags import from_flags
from experiments.settings.schema import choices, choices_of_call
from jaxrec.errors import InputError

CONFIGS = "configs/"  # where they lie, as a rule


def completions(words: Sequence[str], begun: str) -> list[str]:
    """The words that begin with `begun` and may stand behind `words`, without repetition.

    Args:
      words: of the command line behind `launch.py`, all that are finished.
      begun: the beginning of the next one, or "".
    """
    command = next((word for word in words if word in command_line.COMMANDS), "")
    found = _flags(command) if begun.startswith("-") else _words(words, command, begun)
    head, equals, value = begun.partition("=")
    if begun.startswith(("--config.", "--space.")):
        start, _, keys = head.partition(".")
        found = _settings(words, f"{start}.", keys if equals else None)
    elif equals:
        found = (f"{head}={known}" for known in _values(command, head.removeprefix("--"), value))
    return list(dict.fromkeys(word for word in found if word.startswith(begun)))


def _words(words: Sequence[str], command: str, begun: str) -> Iterator[str]:
    """Words that are no flags: the command, and then paths for one that takes them."""
    if not words:
        yield from (*command_line.COMMANDS, "doctor")
    elif command and command_line.takes_words(command):
        yield from _paths(begun)


def _flags(command: str) -> Iterator[str]:
    """Flags, with an = where a value follows; and where there is a config, how its keys begin."""
    options = command_line.flags_of(command)
    if not command or command_line.takes(command, "config"):
        yield from ("--config=", "--config.")
    for name in options:
        if command and name in command_line.OF_RUNS and not command_line.takes(command, name):
            continue
        if name == "space":
            yield "--space."
        else:
            yield f"--{name}" + "=" * (not options[name].boolean)


def _values(command: str, name: str, begun: str) -> list[str]:
    """What a flag may be: its choices, or paths."""
    if name == "config":
        return _paths(begun or CONFIGS)
    options = command_line.flags_of(command)
    known = getattr(options[name].parser, "enum_values", None) if name in options else ()
    if command and not known and name in command_line.own(command):
        known = map(str, choices_of_call(f"experiments.commands.{command}", command, name))
    return list(known or ()) or _paths(begun)


def _settings(words: Sequence[str], start: str, key: str | None) -> Iterator[str]:
    """The keys of the config that the words name, or, for one of them, its values."""
    try:
        config, _, _ = from_flags(words)
    except InputError:  # there is no config yet, or it is to be mended before anything else is said
        return
    if key is None:
        yield from (f"{start}{path}=" for path in _leaves(config))
    else:
        try:
            known = choices(config, key.split("."))
        except (KeyError, TypeError, StopIteration):  # no such key
            return
        yield from (f"{start}{key}={value}" for value in known)


def _leaves(section: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The dotted keys of all that is no section."""
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _paths(begun: str) -> list[str]:
    """Paths that begin so, folders with a slash; hidden ones where the beginning says so."""
    found = sorted(glob.glob(glob.escape(begun) + "*"))
    return [f"{path}/" if os.path.isdir(path) else path for path in itertools.islice(found, 1000)]
