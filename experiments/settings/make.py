"""Objects from the sections that name them: {"name": "CNN", "widths": (32, 64)}, found where their kind says.

`experiments/settings/schema.py` has checked names and arguments by the same signatures.
"""

import functools
import importlib
import itertools
import os
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

from experiments.settings.schema import OWN
from experiments.settings.source import package
from experiments.settings.specs import named
from jaxrec.errors import InputError, did_you_mean


def make(kind: Any, section: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns the function or class that a section names, its keyword arguments bound.

    Args:
      kind: of `experiments/settings/specs.py`, such as `ModelSpec`: its row says where a name is looked up.
      section: {"name": ..., **arguments}; a name with dots, "mypkg.nets.Foo", is imported.

    Raises:
      InputError: there is no such public name, or its module fails to be imported.
    """
    arguments = dict(section)
    name, modules = arguments.pop("name"), named(kind).modules
    if "." in name:
        module, _, own = name.rpartition(".")
        return bound(getattr(imported(module), own), arguments)
    found: dict[str, Any] = {}
    for public, value in itertools.chain.from_iterable(vars(imported(module)).items() for module in modules):
        if callable(value) and not public.startswith("_"):
            found.setdefault(public, value)
    if name not in found:
        raise InputError(
            f"No {name!r} in {' or '.join(modules)}.{did_you_mean(name, found)} There are: {', '.join(found)}."
        )
    return bound(found[name], arguments)


def bound(function: Callable, arguments: Mapping[str, Any]) -> functools.partial:
    """The function with arguments bound; a section of fields becomes the NamedTuple or dataclass it is annotated by."""
    sections = {name: value for name, value in arguments.items() if isinstance(value, Mapping)}
    hints = typing.get_type_hints(function) if sections else {}
    fields = [name for name in sections if hasattr(hints.get(name), "_fields") or is_dataclass(hints.get(name))]
    return functools.partial(function, **{**arguments, **{name: hints[name](**sections[name]) for name in fields}})


def imported(name: str) -> ModuleType:
    """A module by its name; what lies outside this repository may be in the current folder too.

    Raises:
      InputError: it raises an error itself.
    """
    if package(name) not in OWN and os.getcwd() not in sys.path:  # `python launch.py` looks beside launch.py alone
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # it is the user's code
        raise InputError(f"Importing {name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
