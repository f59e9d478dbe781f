"""Checks a config against the signatures of what it calls, before JAX is imported.

A config is a call: its keys are the keyword arguments of `experiments.<name>.build`, and a nested {"name": ...} those
of the function or class it names, here or in any package that Python finds. So signatures are the schema, and a new
model, loss or data set brings its own. They are read from the source text: see `experiments/settings/source.py`.
"""

import ast
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from experiments.settings import source
from experiments.settings.kinds import KINDS
from experiments.settings.renamed import RENAMED, under_new_names
from experiments.settings.source import Argument, Definition, lookup, name_of, options_of, package, resolve, signature
from experiments.settings.specs import SPECS, Named
from jaxrec.errors import InputError, did_you_mean

OWN = ("jaxrec", "experiments", "optax")  # the packages that a config may name without the user's saying so


def experiments() -> list[str]:
    """The names of the experiments here: the modules of `experiments` that define `build`."""
    names = (path.stem for path in sorted(pathlib.Path(__file__).parents[1].glob("*.py")))
    return [name for name in names if lookup(f"experiments.{name}", "build")]


def experiment_module(name: str) -> str:
    """The module of the experiment that a config names."""
    return f"experiments.{name}" if name in experiments() else name


def check(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config with every default written in.

    Raises:
      InputError: an unknown, missing or superfluous key, or a value of a wrong type or out of its range. One line: key,
        value, what is allowed, the nearest name.
    """
    name = config.get("experiment")
    rest = {key: value for key, value in config.items() if key != "experiment"}
    resolved = {"experiment": name, **_section("config", rest, _build(name), f"The experiment '{name}'")}
    durations = {key: resolved["train"].get(key) for key in ("steps", "epochs")}
    if sum(value is not None for value in durations.values()) != 1:
        given = ", ".join(f"config.train.{key} = {value}" for key, value in durations.items())
        raise InputError(
            f"{given}: give exactly one of them and set the other to None, such as --config.train.epochs=None."
        )
    return resolved


def up_to_date(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run of an older version, under the names that its settings have today; not checked."""
    try:
        taken = signature(_build(config.get("experiment")))
    except InputError:
        taken = ()
    return under_new_names(config, taken)


def outside(config: Any, path: str = "config") -> Iterator[tuple[str, str]]:
    """(key, name) of all that a config names outside this repository and optax: what its run would import."""
    if isinstance(config, list | tuple):
        for index, part in enumerate(config):
            yield from outside(part, f"{path}[{index}]")
    elif isinstance(config, Mapping):
        for key, value in config.items():
            dotted = isinstance(value, str) and "." in value
            experiment = f"{path}.{key}" == "config.experiment" and value not in experiments()
            if (key == "name" and dotted) or (experiment and (dotted or lookup(str(value), "build"))):
                if package(value) not in OWN:
                    yield f"{path}.{key}", value
            else:
                yield from outside(value, f"{path}.{key}")


def choices(config: Mapping[str, Any], keys: Sequence[str]) -> list[Any]:
    """What there is to choose from for a key of a checked config, such as ("model", "name"); [] where it is not a list.

    Args:
      config: checked and complete.
      keys: from the config to the key.
    """
    if list(keys) == ["experiment"]:
        return experiments()
    definition, section = _build(config["experiment"]), config
    for place, key in enumerate(keys):
        argument = signature(definition)[key]
        options = options_of(argument.annotation) or [argument.annotation]
        kinds = [kind for kind in (_kind(option, argument.module) for option in options) if kind and not kind.many]
        section, rest = section[key], list(keys[place + 1 :])
        if not rest:
            return _choices_of(options)
        if rest == ["name"]:
            return [name for kind in kinds for name in _definitions(kind)]
        if kinds:
            definition = _definition("", section["name"], kinds[0])
        else:
            definition = next(filter(None, (resolve(option, argument.module) for option in options)))
    return []


def choices_of_call(module: str, name: str, argument: str) -> list[Any]:
    """What there is to choose from for an argument of a function; [] where it is not a list."""
    annotation = signature(lookup(module, name))[argument].annotation
    return _choices_of(options_of(annotation) or [annotation])


def arguments_of(module: str, name: str) -> dict[str, set[str | None]]:
    """A function's arguments, read from the source: name -> the names of what it is annotated by."""
    return {
        argument: set(map(name_of, options_of(found.annotation) or [found.annotation]))
        for argument, found in signature(lookup(module, name)).items()
    }


def arguments_in_words(module: str, name: str) -> dict[str, tuple[str, str]]:
    """What a function's arguments may be and what they are by default, in words, read from the source.

    "" is said of what is no plain value, and of a default that is None: what that means, the docstring says.
    """
    found = {}
    for argument, (annotation, default, home) in signature(lookup(module, name)).items():
        kinds = [kind for kind in options_of(annotation) or [annotation] if name_of(kind) != "None"]
        plain = all(name_of(kind) in KINDS or name_of(kind) == "Literal" for kind in kinds)
        allowed = " or ".join(_allowed(kind, home) for kind in kinds) if plain else ""
        written = "needed" if default is None else f"{_typed(default)} by default"
        found[argument] = allowed, "" if name_of(default) == "None" else written
    return found


def check_call(module: str, name: str, values: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Checks keyword arguments of a function as `check` does a config's, and fills in its defaults.

    Args:
      module: where the function is defined.
      name: the function's.
      values: to be checked.
      given: arguments that come from elsewhere.
    """
    return _section(name, values, lookup(module, name), f"The command '{name}'", given)


def _build(name: Any) -> Definition:
    """The function that makes the experiment of this name."""
    module = experiment_module(name) if isinstance(name, str) else ""
    build = lookup(module, "build")
    if build is None:
        allowed, near = ", ".join(experiments()), did_you_mean(name, experiments())
        why = source.why_not(module, "build") if "." in module else f"allowed is {allowed}, or a module of yours.{near}"
        raise InputError(f"config.experiment = {name!r}: {why}")
    arguments = signature(build)
    train = arguments.get("train", Argument(None, None, module))
    if "seed" not in arguments or resolve(train.annotation, train.module) != lookup("experiments.experiment", "Train"):
        raise InputError(
            f"config.experiment = {name!r}: {module}.build must take `train: Train`, of experiments.experiment, and "
            "`seed`."
        )
    return build


def _section(
    path: str, values: Mapping[str, Any], definition: Definition, what: str, given: Collection[str] = ()
) -> dict[str, Any]:
    """Checks the keyword arguments `values` of a call and fills in its defaults."""
    arguments = {name: a for name, a in signature(definition).items() if name not in given}
    for key, value in values.items():
        if key not in arguments:
            today = RENAMED.get(f"{path}.{key}", "")
            if today.removeprefix(f"{path}.").partition(".")[0] in arguments:
                raise InputError(f"{path}.{key} is now called {today}.")
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
                resolved[key] = _value(f"{path}.{key}", _default(argument), argument)
            except ValueError:
                continue  # an expression: it stays the signature's own affair
    return resolved


def _default(argument: Argument) -> Any:
    """The plain value of a default; of a section of fields, `Updates()`, what it sets itself.

    Raises:
      ValueError: it is another expression.
    """
    default = argument.default
    if isinstance(default, ast.Call) and name_of(default.func) == name_of(argument.annotation) and not default.args:
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in default.keywords}
    return ast.literal_eval(default)


def _value(path: str, value: Any, argument: Argument) -> Any:
    """Checks one value against its annotation; a section comes back with its defaults filled in."""
    annotation, module = argument.annotation, argument.module
    options = options_of(annotation) or [annotation]
    if value is None and "None" in map(name_of, options):
        return None
    for option in options:
        kind = _kind(option, module)
        if kind and (name_of(option) not in KINDS or isinstance(value, Mapping)):
            return (_specs if kind.many else _spec)(path, value, kind)
    section = resolve(annotation, module) if name_of(annotation) not in KINDS else None
    if section and isinstance(section.node, ast.ClassDef):
        if not isinstance(value, Mapping):
            raise InputError(f"{path} = {value!r}: allowed is a section with keys {', '.join(signature(section))}.")
        return _section(path, value, section, section.node.name)
    if not _fits(value, annotation, module):
        raise InputError(f"{path} = {value!r}: allowed is {_allowed(annotation, module)}.{_near(value, annotation)}")
    return value


def _kind(annotation: ast.expr | None, module: str) -> Named | None:
    """The row of the kind of section that an annotation names: one of SPECS, or one that its own package defines."""
    if name_of(annotation) in SPECS or not isinstance(annotation, ast.Name):
        return SPECS.get(name_of(annotation))
    match source.assigned(module, annotation.id):
        case ast.Subscript(value=base, slice=ast.Tuple(elts=[_, ast.Call() as row])) if name_of(base) == "Annotated":
            values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in row.keywords}
            return Named(*map(ast.literal_eval, row.args), **values) if name_of(row.func) == "Named" else None
    return None


def _specs(path: str, values: Any, named: Named) -> tuple[dict[str, Any], ...]:
    """Checks a sequence of sections."""
    if not isinstance(values, list | tuple):
        raise InputError(f"{path} = {values!r}: allowed is a sequence of sections {_where(named)}.")
    return tuple(_spec(f"{path}[{index}]", value, named) for index, value in enumerate(values))


def _spec(path: str, value: Any, named: Named) -> dict[str, Any]:
    """Checks {"name": ..., **arguments} against the definition of that name."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path} = {value!r}: allowed is a section {_where(named)}.")
    if "name" not in value:
        raise InputError(f"{path}.name is missing: it says what is meant out of {' or '.join(named.modules)}.")
    definition = _definition(f"{path}.name", value["name"], named)
    arguments = signature(definition)
    given = {
        *list(arguments)[: len(named.begins)],
        *(name for name in (*named.takes, *named.may_take) if name in arguments),
        *(name for name in named.whole_run if name not in value),
    }
    rest = {key: argument for key, argument in value.items() if key != "name"}
    return {"name": value["name"], **_section(path, rest, definition, value["name"], given)}


def _definition(path: str, name: Any, named: Named) -> Definition:
    """What a name stands for: public in the modules of its kind, or "package.module.it" anywhere."""
    if isinstance(name, str) and "." in name:
        module, _, own = name.rpartition(".")
        definition = lookup(module, own)
        if definition is None:
            raise InputError(f"{path} = {name!r}: {source.why_not(module, own)}")
        if lacks := _lacks(definition, named):
            where = f"{source.read(definition.module).file}, line {definition.node.lineno}"
            raise InputError(f"{path} = {name!r}: it must {lacks} to be used here, and does not ({where}).")
        return definition
    definitions = _definitions(named)
    if not isinstance(name, str) or name not in definitions:
        modules, near, allowed = " or ".join(named.modules), did_you_mean(name, definitions), ", ".join(definitions)
        raise InputError(f"{path} = {name!r}: no such name in {modules}.{near} There are: {allowed or 'none'}.")
    return definitions[name]


def _definitions(named: Named) -> dict[str, Definition]:
    """All that a kind of section may name in the modules of its kind."""
    definitions = {}
    for home in named.modules:
        for public in source.read(home).public:
            if (definition := lookup(home, public)) and not _lacks(definition, named):
                definitions.setdefault(public, definition)
    return definitions


def _lacks(definition: Definition, named: Named) -> str:
    """What a definition lacks to be one that is meant, in words; or ""."""
    arguments = list(signature(definition))
    firsts = [*arguments, *[None] * len(named.begins)]
    if not all(first in names for first, names in zip(firsts, named.begins, strict=False)):
        return f"begin with ({', '.join(' or '.join(names) for names in named.begins)})"
    if missing := [name for name in (*named.takes, *named.has) if name not in arguments]:
        return f"take {', '.join(missing)}"
    if named.returns and name_of(getattr(definition.node, "returns", None)) not in named.returns:
        return f"be annotated to return {' or '.join(named.returns)}"
    return ""


def _where(named: Named) -> str:
    return f"with a `name` out of {' or '.join(named.modules)}, and its arguments"


def _fits(value: Any, annotation: ast.expr | None, module: str) -> bool:
    """Whether a plain value fits an annotation; one that says nothing we know of allows anything."""
    name = name_of(annotation)
    if name == "Literal":
        return any(type(value) is type(choice) and value == choice for choice in _choices(annotation))
    if options := options_of(annotation):
        return any(_fits(value, option, module) for option in options)
    return KINDS[name][1](value) if name in KINDS else True


def _allowed(annotation: ast.expr | None, module: str) -> str:
    """What an annotation allows, in words."""
    name = name_of(annotation)
    if name == "Literal":
        return ", ".join(map(repr, _choices(annotation)))
    if options := options_of(annotation):
        return " or ".join(_allowed(option, module) for option in options)
    return KINDS[name][0] if name in KINDS else "a section" if name else "any value"


def _typed(default: ast.expr) -> str:
    """A default as a command line has it, on which the words of a tuple stand side by side."""
    return " ".join(ast.literal_eval(default)) if isinstance(default, ast.Tuple) else ast.unparse(default)


def _near(value: Any, annotation: ast.expr | None) -> str:
    return did_you_mean(value, map(str, _choices(annotation))) if name_of(annotation) == "Literal" else ""


def _choices_of(options: Sequence[ast.expr | None]) -> list[Any]:
    """The values of an annotation's literals and bools, None where it is one of several."""
    found = [_choices(option) for option in options if name_of(option) == "Literal"]
    found += [[True, False] for option in options if name_of(option) == "bool"]
    found += [[None]] * (bool(found) and "None" in map(name_of, options))
    return [value for values in found for value in values]


def _choices(literal: ast.Subscript) -> list[Any]:
    values = ast.literal_eval(literal.slice)
    return list(values) if isinstance(values, tuple) else [values]
