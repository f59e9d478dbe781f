"""Checks a config against the signatures of what it calls, before JAX is imported.

A config is a call: its keys are the keyword arguments of `experiments.<name>.build`, and a nested {"name": ...} those
of the function or class it names. So signatures are the schema, and a new model, loss or data set brings its own. They
are read from the source text (`ast`), because importing JAX to find a typing error takes longer than finding it.
"""

import ast
import functools
import importlib.util
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from experiments.settings.kinds import KINDS
from jaxrec.errors import InputError, did_you_mean


class Definition(NamedTuple):
    """A function or class in the source text."""

    module: str
    node: ast.FunctionDef | ast.ClassDef


class Named(NamedTuple):
    """Where the `name` of a section is looked up: in these modules, the first that has it."""

    modules: tuple[str, ...]
    given: Collection[str] = ()  # arguments that the experiment gives, and a config cannot
    whole_run: Collection[str] = ()  # arguments that the experiment gives where a config leaves them out
    wanted: Callable[[Definition], bool] = bool  # which definitions of these modules are meant
    many: bool = False  # whether it is a sequence of sections


def _is_optimizer(definition: Definition) -> bool:
    transformation = ("GradientTransformation", "GradientTransformationExtraArgs")
    returns = _name(getattr(definition.node, "returns", None))
    return returns in transformation and next(iter(_signature(definition)), None) == "learning_rate"


def _returns(name: str) -> Callable[[Definition], bool]:
    return lambda definition: _name(getattr(definition.node, "returns", None)) == name


def _begins(*names: str) -> Callable[[Definition], bool]:
    """Whether these are the first arguments."""
    return lambda definition: tuple(_signature(definition))[: len(names)] == names


def _has_code(definition: Definition) -> bool:
    return "latent" in _signature(definition)


# Arguments of a schedule that may be left out: they are the whole run then.
WHOLE_RUN = ("steps", "decay_steps", "transition_steps")

# Annotation -> what its section may name: see `experiments/experiment.py` and `experiments/settings/make.py`. Where the
# annotation is one of KINDS as well, a plain value will do.
SPECS: dict[str, Named] = {
    "Data": Named(("jaxrec.data.sources",)),
    "Augment": Named(("jaxrec.augment",), ("image", "key"), wanted=_begins("image", "key"), many=True),
    "Mix": Named(("jaxrec.augment.mix",), ("batch", "keys"), wanted=_begins("batch", "keys")),
    "Model": Named(("jaxrec.models",), ("classes",)),
    "VariationalModel": Named(("jaxrec.models.vae",), ("shape", "classes", "scaled"), wanted=_has_code),
    "Likelihood": Named(("jaxrec.losses.variational",), wanted=_returns("Likelihood")),
    "Loss": Named(("jaxrec.losses",), ("logits", "batch")),
    "Autoencoder": Named(("jaxrec.models.autoencoders",), ("shape",), wanted=_has_code),
    "Reconstruction": Named(
        ("jaxrec.losses.reconstruction",), ("outputs", "batch"), wanted=_begins("outputs", "batch")
    ),
    "Decoder": Named(("jaxrec.models.decoders",), ("shape",)),
    "Critic": Named(("jaxrec.models.critics",), ("classes",)),
    "AdversarialLoss": Named(("jaxrec.losses.adversarial",), wanted=_returns("AdversarialLoss")),
    "Optimizer": Named(("jaxrec.optim.optimizers", "optax"), ("mask", "weight_decay_mask"), wanted=_is_optimizer),
    "ScalarOrSchedule": Named(
        ("jaxrec.optim.schedules", "optax.schedules"), whole_run=WHOLE_RUN, wanted=_returns("Schedule")
    ),
}


class Argument(NamedTuple):
    """One argument of a signature: source trees of its annotation and default, and where their names are looked up."""

    annotation: ast.expr | None
    default: ast.expr | None
    module: str


def experiments() -> list[str]:
    """The names a config's `experiment` may have: the modules of `experiments` that define `build`."""
    names = (path.stem for path in sorted(pathlib.Path(__file__).parents[1].glob("*.py")))
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
        raise InputError(
            f"{given}: give exactly one of them and set the other to None, such as --config.train.epochs=None."
        )
    return resolved


def arguments_of(module: str, name: str) -> list[str]:
    """The names of a function's arguments, read from the source."""
    return list(_signature(_lookup(module, name)))


def check_call(module: str, name: str, values: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Checks keyword arguments of a function as `check` does a config's, and fills in its defaults.

    Args:
      module: where the function is defined.
      name: the function's.
      values: to be checked.
      given: arguments that come from elsewhere.
    """
    return _section(name, values, _lookup(module, name), f"The command '{name}'", given)


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
    options = [_name(option) for option in _options(annotation)] or [name]
    if value is None and "None" in options:
        return None
    for option in options:
        if option in SPECS and (option not in KINDS or isinstance(value, Mapping)):
            return (_specs if SPECS[option].many else _spec)(path, value, SPECS[option])
    section = _lookup(module, name) if name and name not in KINDS else None
    if section and isinstance(section.node, ast.ClassDef):
        if not isinstance(value, Mapping):
            raise InputError(f"{path} = {value!r}: allowed is a section with keys {', '.join(_signature(section))}.")
        return _section(path, value, section, section.node.name)
    if not _fits(value, annotation, module):
        raise InputError(f"{path} = {value!r}: allowed is {_allowed(annotation, module)}.{_near(value, annotation)}")
    return value


def _specs(path: str, values: Any, named: Named) -> tuple[dict[str, Any], ...]:
    """Checks a sequence of sections."""
    if not isinstance(values, list | tuple):
        raise InputError(f"{path} = {values!r}: allowed is a sequence of sections {_where(named)}.")
    return tuple(_spec(f"{path}[{index}]", value, named) for index, value in enumerate(values))


def _spec(path: str, value: Any, named: Named) -> dict[str, Any]:
    """Checks {"name": ..., **arguments} against the public definition of that name."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path} = {value!r}: allowed is a section {_where(named)}.")
    modules = " or ".join(named.modules)
    if "name" not in value:
        raise InputError(f"{path}.name is missing: it says what is meant out of {modules}.")
    definitions = {}
    for home, public in ((module, public) for module in named.modules for public in _public(module)):
        if (definition := _lookup(home, public)) and named.wanted(definition):
            definitions.setdefault(public, definition)
    name = value["name"]
    if name not in definitions:
        near, allowed = did_you_mean(name, definitions), ", ".join(definitions)
        raise InputError(f"{path}.name = {name!r}: no such name in {modules}.{near} There are: {allowed or 'none'}.")
    rest = {key: argument for key, argument in value.items() if key != "name"}
    given = {*named.given, *(key for key in named.whole_run if key not in value)}
    return {"name": name, **_section(path, rest, definitions[name], name, given)}


def _where(named: Named) -> str:
    return f"with a `name` out of {' or '.join(named.modules)}, and its arguments"


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
