"""Checks a config against the signatures of what it calls, before JAX is imported.

A config is a call: its keys are the keyword arguments of `experiments.<name>.build`, and a nested {"name": ...} those
of the function or class it names. So signatures are the schema, and a new model, loss or data set brings its own. They
are read from the source text (`ast`), because importing JAX to find a typing error takes longer than finding it.
"""

import ast
import functools
import importlib.util
import math
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from jaxrec.errors import InputError, did_you_mean


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _widths(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_whole(v) and v > 0 for v in value)


def _blocks(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_widths([v]) or (v and _widths(v)) for v in value)


# Annotation -> what it allows, in words, and the test. The first seven are the argument kinds of `jaxrec.types`; optax
# annotates its numbers, none of which may be negative, by the last two.
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Count": ("a whole number, 1 or more", lambda v: _whole(v) and v >= 1),
    "Positive": ("a number above 0", lambda v: _number(v) and v > 0),
    "NonNegative": ("a number, 0 or more", lambda v: _number(v) and v >= 0),
    "Rate": ("a number from 0 to below 1", lambda v: _number(v) and 0 <= v < 1),
    "Seed": ("a whole number from 0 to 2**32 - 1", lambda v: _whole(v) and 0 <= v < 2**32),
    "Widths": ("a sequence of whole numbers", _widths),
    "Blocks": ("a sequence of whole numbers or of sequences of them", _blocks),
    "bool": ("True or False", lambda v: isinstance(v, bool)),
    "int": ("a whole number", _whole),
    "float": ("a number", _number),
    "str": ("a string", lambda v: isinstance(v, str)),
    "None": ("None", lambda v: v is None),
    "ArrayLike": ("a number, 0 or more", lambda v: _number(v) and v >= 0),
    "ScalarOrSchedule": ("a number, 0 or more", lambda v: _number(v) and v >= 0),
}

# Annotation -> the module in which its `name` is looked up, and the arguments that the experiment gives: see
# `experiments/experiment.py` and `experiments/make.py`.
SPECS: dict[str, tuple[str, Collection[str]]] = {
    "Data": ("jaxrec.data.sources", ()),
    "Model": ("jaxrec.models", ("classes",)),
    "Loss": ("jaxrec.losses", ("logits", "batch")),
    "Optimizer": ("optax", ("mask", "weight_decay_mask")),
}

# Arguments of a schedule that may be left out: they are the whole run then.
WHOLE_RUN = ("decay_steps", "transition_steps")


class Definition(NamedTuple):
    """A function or class in the source text."""

    module: str
    node: ast.FunctionDef | ast.ClassDef


class Argument(NamedTuple):
    """One argument of a signature: source trees of its annotation and default, and where their names are looked up."""

    annotation: ast.expr | None
    default: ast.expr | None
    module: str


def experiments() -> list[str]:
    """The names a config's `experiment` may have: the modules beside this one that define `build`."""
    names = (path.stem for path in sorted(pathlib.Path(__file__).parent.glob("*.py")))
    return [name for name in names if _lookup(f"experiments.{name}", "build")]


def check(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config with every default written in.

    Raises:
      InputError: an unknown, missing or superfluous key, or a value of a wrong type or out of its range. One line: key,
        value, what is allowed, the nearest name.
    """
    name = config.get("experiment")
    if name not in experiments():
        allowed = ", ".join(experiments())
        raise InputError(f"config.experiment = {name!r}: allowed is {allowed}.{did_you_mean(name, experiments())}")
    rest = {key: value for key, value in config.items() if key != "experiment"}
    definition = _lookup(f"experiments.{name}", "build")
    resolved = {"experiment": name, **_section("config", rest, definition, f"The experiment '{name}'")}
    durations = {key: resolved["train"].get(key) for key in ("steps", "epochs")}
    if sum(value is not None for value in durations.values()) != 1:
        given = ", ".join(f"config.train.{key} = {value}" for key, value in durations.items())
        raise InputError(f"{given}: give exactly one of them and set the other to None.")
    return resolved


def _section(
    path: str, values: Mapping[str, Any], definition: Definition, what: str, given: Collection[str] = ()
) -> dict[str, Any]:
    """Checks the keyword arguments `values` of a call and fills in its defaults."""
    arguments = {name: a for name, a in _signature(definition).items() if name not in given}
    for key, value in values.items():
        if key not in arguments:
            raise InputError(
                f"{path}.{key} = {value!r}: {what} takes no such key.{did_you_mean(key, arguments)} "
                f"It takes: {', '.join(arguments) or 'none'}."
            )
    resolved = {}
    for key, argument in arguments.items():
        if key in values:
            resolved[key] = _value(f"{path}.{key}", values[key], argument)
        elif argument.default is None:
            raise InputError(
                f"{path}.{key} is missing: {what} needs it, {_allowed(argument.annotation, argument.module)}."
            )
        else:
            try:
                resolved[key] = _value(f"{path}.{key}", ast.literal_eval(argument.default), argument)
            except ValueError:
                continue  # an expression: it stays the signature's own affair
    return resolved


def _value(path: str, value: Any, argument: Argument) -> Any:
    """Checks one value against its annotation; a section comes back with its defaults filled in."""
    annotation, module = argument.annotation, argument.module
    name = _name(annotation)
    if name in SPECS:
        return _spec(path, value, *SPECS[name])
    if name == "ScalarOrSchedule" and isinstance(value, Mapping):
        return _spec(path, value, "optax.schedules", [key for key in WHOLE_RUN if key not in value])
    section = _lookup(module, name) if name and name not in KINDS else None
    if section and isinstance(section.node, ast.ClassDef):
        if not isinstance(value, Mapping):
            raise InputError(f"{path} = {value!r}: allowed is a section with keys {', '.join(_signature(section))}.")
        return _section(path, value, section, section.node.name)
    if not _fits(value, annotation, module):
        raise InputError(f"{path} = {value!r}: allowed is {_allowed(annotation, module)}.{_near(value, annotation)}")
    return value


def _spec(path: str, value: Any, module: str, given: Collection[str]) -> dict[str, Any]:
    """Checks {"name": ..., **arguments} against the public definition of that name in `module`."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path} = {value!r}: allowed is a section with a `name` out of {module}, and its arguments.")
    if "name" not in value:
        raise InputError(f"{path}.name is missing: it says what is meant out of {module}.")
    found = {public: _lookup(module, public) for public in _public(module)}
    wanted = {"optax": _is_optimizer, "optax.schedules": _is_schedule}.get(module, bool)
    definitions = {public: definition for public, definition in found.items() if definition and wanted(definition)}
    name = value["name"]
    if name not in definitions:
        near, allowed = did_you_mean(name, definitions), ", ".join(definitions)
        raise InputError(f"{path}.name = {name!r}: no such name in {module}.{near} It has: {allowed}.")
    rest = {key: argument for key, argument in value.items() if key != "name"}
    return {"name": name, **_section(path, rest, definitions[name], name, given)}


def _is_optimizer(definition: Definition) -> bool:
    return (
        _name(getattr(definition.node, "returns", None))
        in (
            "GradientTransformation",
            "GradientTransformationExtraArgs",
        )
        and next(iter(_signature(definition)), None) == "learning_rate"
    )


def _is_schedule(definition: Definition) -> bool:
    return _name(getattr(definition.node, "returns", None)) == "Schedule"


def _fits(value: Any, annotation: ast.expr | None, module: str) -> bool:
    """Whether a plain value fits an annotation; one that says nothing we know of allows anything."""
    name = _name(annotation)
    if name == "Literal":
        return any(type(value) is type(choice) and value == choice for choice in _choices(annotation))
    if options := _options(annotation):
        return any(_fits(value, option, module) for option in options)
    return KINDS[name][1](value) if name in KINDS else True


def _allowed(annotation: ast.expr | None, module: str) -> str:
    """What an annotation allows, in words."""
    name = _name(annotation)
    if name == "Literal":
        return ", ".join(map(repr, _choices(annotation)))
    if options := _options(annotation):
        return " or ".join(_allowed(option, module) for option in options)
    return KINDS[name][0] if name in KINDS else "a section" if name else "any value"


def _near(value: Any, annotation: ast.expr | None) -> str:
    return did_you_mean(value, map(str, _choices(annotation))) if _name(annotation) == "Literal" else ""


def _choices(literal: ast.Subscript) -> list[Any]:
    values = ast.literal_eval(literal.slice)
    return list(values) if isinstance(values, tuple) else [values]


def _options(annotation: ast.expr | None) -> list[ast.expr]:
    """The members of `A | B`, Optional[A] or Union[A, B]."""
    if isinstance(annotation, ast.BinOp):
        return [*(_options(annotation.left) or [annotation.left]), *(_options(annotation.right) or [annotation.right])]
    if _name(annotation) == "Optional":
        return [annotation.slice, ast.Constant(None)]
    if _name(annotation) == "Union":
        return list(annotation.slice.elts)
    return []


def _name(annotation: ast.expr | None) -> str | None:
    """The last name of an annotation: `Count`, jax.typing.`ArrayLike`, `Spec`[...]."""
    if isinstance(annotation, ast.Subscript):
        return _name(annotation.value)
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "None"
    return getattr(annotation, "attr", None) or getattr(annotation, "id", None)


@functools.cache
def _tree(module: str) -> ast.Module | None:
    """The source tree of a module, found without importing it, or None."""
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    for folder in map(pathlib.Path, spec.submodule_search_locations):
        stem = folder.joinpath(*rest)
        for path in (stem / "__init__.py", stem.with_suffix(".py")):
            if path.is_file():
                return ast.parse(path.read_text())
    return None


def _imports(module: str) -> dict[str, tuple[str, str]]:
    """Local name -> (module, name) of each `from module import name` in a module."""
    tree = _tree(module)
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in (tree.body if tree else [])
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _module(module: str, name: str) -> str:
    """The module that `name` stands for in another module's source: `sources` -> jaxrec.data.sources."""
    return ".".join(_imports(module).get(name, (name,)))


@functools.cache
def _lookup(module: str, name: str) -> Definition | None:
    """The function or class that `name` stands for in a module, through re-exports, or None."""
    tree = _tree(module)
    for node in tree.body if tree else []:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return Definition(module, node)
    home, original = _imports(module).get(name, (None, None))
    return _lookup(home, original) if home not in (None, module) else None  # a submodule is not a definition


def _public(module: str) -> list[str]:
    """What a module offers by name: its own definitions, or what a package re-exports."""
    tree = _tree(module)
    own = [node.name for node in (tree.body if tree else []) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in own or _imports(module) if not name.startswith("_")]


def _signature(definition: Definition) -> dict[str, Argument]:
    """The arguments of a function, or the fields of a dataclass-like class and its bases."""
    module, node = definition
    if isinstance(node, ast.ClassDef):
        bases = (_lookup(module, base.id) for base in node.bases if isinstance(base, ast.Name))
        inherited = [_signature(base) for base in bases if base]
        fields = {
            field.target.id: Argument(field.annotation, field.value, module)
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
        return {name: argument for part in (*inherited, fields) for name, argument in part.items()}
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults = [None] * (len(positional) - len(node.args.defaults)) + node.args.defaults
    pairs = [*zip(positional, defaults, strict=True), *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
    return {argument.arg: Argument(argument.annotation, default, module) for argument, default in pairs}
