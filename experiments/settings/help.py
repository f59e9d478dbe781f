"""What `launch.py <command> --help` prints, read from the source of the function that the command is."""

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence

from experiments.settings.schema import arguments_in_words, arguments_of
from experiments.settings.source import lookup

WIDTH = 110  # columns
# How an argument is written on a command line, by what it is annotated by; any other is --name=...
WRITTEN = {
    "Mapping": "--{name}=FILE --{name}.KEY=VALUE ...",
    "Path": "--{name}=FOLDER",
    "Paths": "{NAME} ...",
    "Assignments": "--{name}.KEY=VALUE ...",
    "bool": "--{name}",
}


def help_of(words: Sequence[str]) -> str:
    """The help of the command that the words of a command line name, or "" where they name none."""
    if not words:
        return ""
    if "doctor" in words:
        return _help_of("launch", "doctor")
    from experiments.settings.command_line import COMMANDS  # needs absl, which a machine may lack: see the doctor

    command = next((word for word in words if word in COMMANDS), "")
    return _help_of(f"experiments.commands.{command}", command) if command else ""


def sections_of(docstring: str) -> dict[str, str]:
    """The sections of a docstring by their headings, "Args" and so on; what stands before them by ""."""
    text, *rest = re.split(r"^(\w+):\n", docstring, flags=re.M)
    return {"": text, **dict(zip(rest[::2], rest[1::2], strict=True))}


def meanings(section: str) -> dict[str, str]:
    """What the section "Args" of a docstring says of each argument, in one line."""
    found = re.findall(r"^  (\w+): (.*(?:\n    .*)*)", section, re.M)
    return {name: " ".join(text.split()) for name, text in found}


def _help_of(module: str, command: str) -> str:
    sections = sections_of(ast.get_docstring(lookup(module, command).node))
    example = " ".join(sections.get("Example", f"python launch.py {command}").split())
    return "\n\n".join(
        [
            sections[""].partition("\n")[0],
            *_arguments(module, command, meanings(sections.get("Args", ""))),
            f"Example:\n\n    {example}",
            "What all commands take, and the exit codes: python launch.py --help",
        ]
    )


def _arguments(module: str, command: str, meaning: dict[str, str]) -> Iterator[str]:
    """A paragraph for each argument: how it is written, what it means, what it may be and is by default."""
    kinds = arguments_of(module, command)
    for name, (allowed, default) in arguments_in_words(module, command).items():
        written = next((WRITTEN[kind] for kind in WRITTEN if kind in kinds[name]), "--{name}=...")
        if name == "workdir" and "config" in kinds:  # launch.py names the folder by the config then
            default = f"runs/{command}/<name of the config> by default"
        lines = filter(None, (meaning[name], "; ".join(filter(None, (allowed, default)))))
        yield "\n".join([f"    {written.format(name=name, NAME=name.upper())}", *map(_wrapped, lines)])


def _wrapped(line: str) -> str:
    indent = " " * 8
    return textwrap.fill(line, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
