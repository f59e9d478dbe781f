"""What `launch.py` does besides training. A command is the function of its module here; its arguments are its flags."""

import importlib
import itertools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from experiments.settings.flags import empty, literal
from experiments.settings.schema import arguments_of, check_call
from jaxrec.errors import InputError, did_you_mean

COMMANDS = (
    "prepare",
    "show_data",
    "bench_data",
    "lr_find",
    "predict",
    "evaluate",
    "calibrate",
    "explain",
    "report",
    "sample",
    "distance",
    "verify",
    "replay",
    "compare",
    "runs",
    "export",
    "sweep",
    "cross_validate",
    "mistakes",
    "completion",
)
WITHOUT_JAX = ("completion", "runs")  # commands for which JAX is not started
OF_RUNS = ("seeds", "fresh", "smoke", "processes", "cluster", "restarts", "workdir")  # not each command takes them
GIVEN = ("config", "workdir")  # arguments that are no flags of the command's own


class _Options(flags.FlagValues):
    """Flags, of which --space.KEY=VALUE is another way to write --space=KEY=VALUE."""

    def __call__(self, argv: Sequence[str], known_only: bool = False) -> list[str]:
        """Reads the flags; returns the words that are none."""
        words = [re.sub(r"^--?space\.(?=[^=]+=)", "--space=", word) for word in argv]
        for word, following in itertools.pairwise(words):
            name = word.removeprefix("--")
            if word != name in self and not self[name].boolean and following.startswith("--"):
                raise empty(word)  # the next flag would be taken for the value
        try:
            return super().__call__(words, known_only)
        except flags.UnrecognizedFlagError as error:
            near, allowed = did_you_mean(error.flagname, self), ", ".join(f"--{name}" for name in self)
            raise InputError(f"--{error.flagname}: there is no such flag here.{near} There are: {allowed}.") from None
        except flags.Error as error:
            if type(error) is not flags.Error:
                raise
            raise empty(argv[-1]) from None  # it has no kind of its own: the last flag wants a value, and none follows


def check_not_empty(argv: Sequence[str]) -> None:
    """Raises InputError for a flag without its value, as a shell makes of --workdir=$FOLDER where that is not set.

    So it does for a word that is empty, which a shell makes of "$FOLDER".
    """
    for before, word in itertools.pairwise(["", *argv]):
        name, equals, value = word.partition("=")
        if equals and not value and name.startswith("-"):
            raise empty(name)
        if not word and before.startswith("-") and "=" not in before:
            raise empty(before)
        if not word:
            place = f" behind {before}" if before else ""
            raise InputError(f"There is an empty word{place}: say what is meant there, or leave it out.")


def check_first(word: str) -> None:
    """Raises InputError for a first word that is no command: mistyped, it would be taken for a run without a config."""
    if not word.startswith("-") and word not in COMMANDS:
        raise not_understood("", [word])


def not_understood(command: str, words: Sequence[str]) -> InputError:
    """The error for words of the command line that are no flags, where the command takes none."""
    if words[:1] == [command]:
        rest = " ".join(words[1:])
        return InputError(
            f"{command} takes --flags alone, and {rest!r} is none. launch.py {command} --help shows what it takes."
        )
    near = did_you_mean(words[0], COMMANDS)
    if words[0].endswith((".py", ".json")):
        near = f" Did you mean --config={words[0]}?"
    allowed = ", ".join(("doctor", *COMMANDS))
    return InputError(f"Unknown command {' '.join(words)!r}.{near} There are: {allowed}; the rest are --flags.")


def takes(command: str, argument: str) -> bool:
    """Whether a command asks for this argument. Its signature is read, not imported."""
    return argument in arguments_of(f"experiments.commands.{command}", command)


def takes_words(command: str) -> str | None:
    """The argument that takes the words of the command line which are no flags: the one annotated by `Paths`."""
    return next((name for name, kinds in own(command).items() if "Paths" in kinds), None)


def flags_of(command: str) -> flags.FlagValues:
    """The launcher's flags and one for each argument of a command, as text: what it may be, `read_flags` finds out.

    Args:
      command: its name, or "" where there is none.
    """
    options = _Options()
    flags.DEFINE_string("workdir", None, "", flag_values=options)
    flags.DEFINE_enum("platform", None, ["cpu", "gpu", "tpu"], "", flag_values=options)
    flags.DEFINE_multi_string("allow", [], "", flag_values=options)
    flags.DEFINE_integer("seeds", None, "", lower_bound=1, flag_values=options)
    for name in ("processes", "process_id", "restarts"):
        least = {"processes": 1}.get(name, 0)
        flags.DEFINE_integer(name, None, "", lower_bound=least, flag_values=options)
    flags.DEFINE_string("coordinator", None, "", flag_values=options)
    flags.DEFINE_float("join_seconds", 300, "", lower_bound=1, flag_values=options)
    flags.DEFINE_float("hang_seconds", None, "", lower_bound=0, flag_values=options)
    for name in ("fresh", "smoke", "debug", "quiet", "cluster"):
        flags.DEFINE_bool(name, False, "", flag_values=options)
    for name, kinds in own(command).items() if command else ():
        if name in options:  # --seeds is everybody's
            continue
        if "bool" in kinds:
            flags.DEFINE_bool(name, None, "", flag_values=options)
        elif "Assignments" in kinds:
            flags.DEFINE_multi_string(name, None, "", flag_values=options)
        elif name != takes_words(command):
            flags.DEFINE_string(name, None, "", flag_values=options)
    return options


def read_flags(command: str, options: flags.FlagValues, words: Sequence[str] = ()) -> dict[str, Any]:
    """The command's own arguments, checked by its signature, defaults filled in.

    Args:
      command: its name.
      options: the flags; a value is a Python literal or else text, and text in any case where the argument is.
      words: what stands on the command line besides, for `takes_words`.

    Raises:
      InputError: one is missing, or not of its kind.
    """
    taken, takes_them = own(command), takes_words(command)
    values = {
        name: _value(options[name].value, kinds)
        for name, kinds in taken.items()
        if name != takes_them and options[name].present
    }
    if words:
        values[takes_them] = tuple(words)
    return check_call(f"experiments.commands.{command}", command, values, GIVEN)


def own(command: str) -> dict[str, set[str | None]]:
    """The arguments of a command that are its flags or words, and what they are annotated by."""
    arguments = arguments_of(f"experiments.commands.{command}", command)
    return {name: kinds for name, kinds in arguments.items() if name not in GIVEN}


def _value(given: str | bool, kinds: set[str | None]) -> Any:
    """What a flag says: a folder may be called 2024."""
    if "Names" in kinds and isinstance(given, str):
        return tuple(given.split(","))
    return given if "str" in kinds or isinstance(given, bool) else literal(given)


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
