"""Functions and classes as their source text has them: what a module defines, and what it takes. Nothing is imported.

Importing JAX to find a typing error takes longer than finding it, and what a run's file names must not run unasked.
"""

import ast
import contextlib
import functools
import importlib.machinery
import importlib.util
import os
import pathlib
from typing import NamedTuple

from jaxrec.errors import InputError, did_you_mean


class Definition(NamedTuple):
    """A function or class in the source text."""

    module: str
    node: ast.FunctionDef | ast.ClassDef


class Argument(NamedTuple):
    """One argument of a signature: source trees of its annotation and default, and where their names are looked up."""

    annotation: ast.expr | None
    default: ast.expr | None
    module: str


class Source(NamedTuple):
    """A module's source."""

    file: pathlib.Path
    definitions: dict[str, ast.FunctionDef | ast.ClassDef]
    imports: dict[str, tuple[str, str | None]]  # local name -> (module, the name in it; None where it is the module)
    assigned: dict[str, ast.expr]

    @property
    def public(self) -> list[str]:
        """What it offers by name: its own definitions, or what a package re-exports."""
        return [name for name in self.definitions or self.imports if not name.startswith("_")]


def read(module: str) -> Source | None:
    """The source of a module, or None where there is none.

    Raises:
      InputError: it is no Python.
    """
    try:
        return _parsed(module)
    except ModuleNotFoundError:
        return None


def lookup(module: str, name: str) -> Definition | None:
    """The function or class that `name` stands for in a module, through re-exports, or None."""
    seen = set()
    while module and module not in seen and (source := read(module)):
        if name in source.definitions:
            return Definition(module, source.definitions[name])
        seen.add(module)
        module, name = source.imports.get(name, (None, None))  # of a submodule the name is None: no definition
    return None


def assigned(module: str, name: str) -> ast.expr | None:
    """What is assigned to a name of a module, through re-exports, or None."""
    seen = set()
    while module and module not in seen and (source := read(module)):
        if name in source.assigned:
            return source.assigned[name]
        seen.add(module)
        module, name = source.imports.get(name, (None, None))
    return None


def resolve(node: ast.expr | None, module: str) -> Definition | None:
    """The function or class that an expression stands for in a module: `CNN`, or `models.CNN`."""
    if isinstance(node, ast.Name):
        return lookup(module, node.id)
    if not isinstance(node, ast.Attribute) or not (source := read(module)):
        return None
    first, *inner, last = ast.unparse(node).split(".")
    home, name = source.imports.get(first, (None, None))
    return lookup(".".join(filter(None, (home, name, *inner))), last) if home else None


def signature(definition: Definition) -> dict[str, Argument]:
    """The arguments of a function, or of a class: of its `__init__`, or else its fields and those of its bases."""
    module, node = definition
    if isinstance(node, ast.FunctionDef):
        return _arguments(module, node)
    made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    if made:
        return dict(list(_arguments(module, made[0]).items())[1:])
    # What flax gives every module, `name` and `parent`, is no setting.
    bases = [base for base in (resolve(base, module) for base in node.bases) if base and package(base.module) != "flax"]
    inherited = [signature(base) for base in bases if isinstance(base.node, ast.ClassDef)]
    fields = {
        field.target.id: Argument(_unquoted(field.annotation), field.value, module)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if name_of(field.annotation) != "ClassVar"
    }
    return {name: argument for part in (*inherited, fields) for name, argument in part.items()}


def package(module: str) -> str:
    """The package that a module lies in."""
    return module.partition(".")[0]


def name_of(annotation: ast.expr | None) -> str | None:
    """The last name of an annotation: `Count`, jax.typing.`ArrayLike`, `Sequence`[...]."""
    if isinstance(annotation, ast.Subscript):
        return name_of(annotation.value)
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "None"
    return getattr(annotation, "attr", None) or getattr(annotation, "id", None)


def options_of(annotation: ast.expr | None) -> list[ast.expr]:
    """The members of `A | B`, Optional[A] or Union[A, B]; else []."""
    if isinstance(annotation, ast.BinOp):
        sides = annotation.left, annotation.right
        return [option for side in sides for option in options_of(side) or [side]]
    if name_of(annotation) == "Optional":
        return [annotation.slice, ast.Constant(None)]
    if name_of(annotation) == "Union":
        return list(annotation.slice.elts)
    return []


def why_not(module: str, name: str) -> str:
    """Says why `lookup` finds nothing: no such module, no such name in it, or no function or class."""
    source, whole = read(module), package(module)
    if source is None and _file(whole) is None:
        return (
            f"no module {whole!r} on Python's path (sys.path) or in {os.getcwd()}. Put the folder that holds it on "
            "PYTHONPATH."
        )
    if source is None:
        return f"no module {module!r}: {whole} is {_file(whole)}."
    if name in {**source.assigned, **source.imports}:
        return f"{name} is no function or class in {source.file}: only their arguments can be read."
    known = [*source.definitions, *source.imports]
    return f"no {name!r} in {source.file}.{did_you_mean(name, known)} There are: {', '.join(known) or 'none'}."


def _arguments(module: str, node: ast.FunctionDef) -> dict[str, Argument]:
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults = [None] * (len(positional) - len(node.args.defaults)) + node.args.defaults
    pairs = [*zip(positional, defaults, strict=True), *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
    return {argument.arg: Argument(_unquoted(argument.annotation), default, module) for argument, default in pairs}


def _unquoted(annotation: ast.expr | None) -> ast.expr | None:
    """An annotation that is written as a string, as one that is not."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        with contextlib.suppress(SyntaxError):
            return ast.parse(annotation.value, mode="eval").body
    return annotation


def _file(module: str) -> pathlib.Path | None:
    """The file of a module's source: on Python's path, where installed packages lie, or in the current folder."""
    whole, *rest = module.split(".")
    if not all(part.isidentifier() for part in (whole, *rest)):
        return None
    try:
        spec = importlib.util.find_spec(whole)  # of a package's name alone: this imports nothing
    except ValueError:  # such as __main__
        return None
    spec = spec or importlib.machinery.PathFinder.find_spec(whole, [os.getcwd()])
    if spec is None:
        return None
    folders = [pathlib.Path(folder).joinpath(*rest) for folder in spec.submodule_search_locations or ()]
    files = [file for folder in folders for file in (folder / "__init__.py", folder.with_suffix(".py"))]
    if not folders and not rest and spec.origin and spec.origin.endswith(".py"):
        files = [pathlib.Path(spec.origin)]
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _parsed(module: str) -> Source:
    file = _file(module)
    if file is None:
        raise ModuleNotFoundError(module)  # which no cache remembers: it may be there the next time
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{file}, line {getattr(error, 'lineno', '?')}: {error.args[0]}.") from None
    definitions, imports, assigned = {}, {}, {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            home = _absolute(node, module, inside=file.name == "__init__.py")
            imports.update({alias.asname or alias.name: (home, alias.name) for alias in node.names})
        elif isinstance(node, ast.Import):
            homes = {alias.asname or package(alias.name): alias for alias in node.names}
            imports.update({own: (alias.name if alias.asname else own, None) for own, alias in homes.items()})
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            assigned.update({target.id: node.value for target in targets if isinstance(target, ast.Name)})
    return Source(file, definitions, imports, assigned)


def _absolute(node: ast.ImportFrom, module: str, *, inside: bool) -> str:
    """The module that `from ..a import b` means in a module, or inside of the package that it is."""
    above = module.split(".")[: len(module.split(".")) + inside - node.level] if node.level else []
    return ".".join([*above, *filter(None, [node.module])])
