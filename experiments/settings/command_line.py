"""What `launch.py` does besides training. A command is the function of its module here; its arguments are its flags."""

import importlib
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from experiments.settings.flags import literal
from experiments.settings.schema import arguments_of, check_call
from jaxrec.errors import InputError

COMMANDS = ("show_data", "lr_find", "sample", "distance")
GIVEN = ("config", "workdir")  # arguments that are no flags of the command's own


def check_not_empty(argv: Sequence[str]) -> None:
    """Raises InputError for a flag without its value, as a shell makes of --workdir=$FOLDER where that is not set."""
    for before, word in itertools.pairwise(["", *argv]):
        name, equals, value = word.partition("=")
        if not word or (equals and not value and name.startswith("-")):
            raise InputError(f"{name or before} is empty: give it a value, or leave it out.")


def takes(command: str, argument: str) -> bool:
    """Whether a command asks for this argument. Its signature is read, not imported."""
    return argument in arguments_of(f"experiments.commands.{command}", command)


def define_flags(command: str, options: flags.FlagValues) -> None:
    """Defines a flag for each argument of a command, as text: what it may be, `read_flags` finds out."""
    for name in arguments_of(f"experiments.commands.{command}", command):
        if name not in GIVEN:
            flags.DEFINE_string(name, None, "", flag_values=options)


def read_flags(command: str, options: flags.FlagValues) -> dict[str, Any]:
    """The command's own arguments, checked by its signature, defaults filled in; a value is a literal or else text.

    Raises:
      InputError: one is missing, or not of its kind.
    """
    own = [name for name in arguments_of(f"experiments.commands.{command}", command) if name not in GIVEN]
    values = {name: literal(options[name].value) for name in own if options[name].present}
    return check_call(f"experiments.commands.{command}", command, values, GIVEN)


def call(command: str, config: Mapping[str, Any], workdir: pathlib.Path | None, own: Mapping[str, Any]) -> int:
    """Carries a command out and returns the exit code.

    Raises:
      InputError: it works on a folder and is not told on which; and what the command raises.
    """
    given = {name: value for name, value in zip(GIVEN, (config, workdir), strict=True) if takes(command, name)}
    if given.get("workdir", "") is None:
        raise InputError(f"--workdir=FOLDER is missing: {command} works on a run. Name its folder.")
    module = importlib.import_module(f"experiments.commands.{command}")
    return getattr(module, command)(**given, **own)
