"""The house rules, read from the source without importing it: arrows, homes, forbidden calls, style."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parent.parent
OURS = ("jaxrec", "experiments", "configs", "launch", "benchmarks", "tests")

# Which rooms of jaxrec/ a room may import from. The four files at its top stand beside the rooms: everyone may import
# `errors`, `types` and `trees`, which import no room; `sharding` is an arrow like others.
ANYONE_MAY = {"errors", "types", "trees"}
ARROWS: dict[str, set[str]] = {
    # what others stand on
    "errors": set(),
    "types": set(),
    "trees": set(),
    "sharding": set(),
    "machine": set(),
    "augment": set(),
    "optim": set(),
    "metrics": set(),
    "explain": set(),
    # what is learned, and from what
    "layers": {"sharding"},
    "data": {"augment", "machine"},
    "models": {"layers"},
    "losses": {"layers"},
    "tasks": {"data", "losses", "metrics", "models", "sharding"},
    # what runs it, and what comes out
    "engine": {"data", "machine", "metrics", "sharding", "tasks"},
    "output": {"engine", "tasks"},
}


def parse(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files(*folders: str) -> list[pathlib.Path]:
    """The Python files of these folders (or files), which are there."""
    paths = [ROOT / folder for folder in folders]
    return sorted(
        found for path in paths if path.exists() for found in ([path] if path.is_file() else path.rglob("*.py"))
    )


def by_path(*folders: str):
    """Parametrizes a test over the files of these folders."""
    return pytest.mark.parametrize("path", files(*folders), ids=lambda path: str(path.relative_to(ROOT)))


def imports(tree: ast.AST, modules: set[str] = frozenset()) -> Iterator[str]:
    """Dotted names of what is imported anywhere in the tree; `from package import module` gives the module's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide the arrows"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules else node.module


def package(name: str) -> str:
    return name.partition(".")[0]


MODULES = {module_name(path) for path in files("jaxrec")}


def room(module: str) -> str:
    """The folder or file of jaxrec/ that a module lies in."""
    return module.split(".")[1] if "." in module else module


def edges() -> dict[str, set[str]]:
    """Module -> the modules of jaxrec that it imports; a package counts as its `__init__`."""
    return {
        module_name(path): {name for name in imports(parse(path), MODULES) if package(name) == "jaxrec"}
        for path in files("jaxrec")
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """What is left of a graph when everything that leads nowhere is taken away, again and again: [] without circles."""
    left = {name: set(targets) for name, targets in graph.items()}
    while ends := {name for name, targets in left.items() if not targets & set(left)}:
        left = {name: targets for name, targets in left.items() if name not in ends}
    return sorted(left)


def test_arrows_between_rooms_are_these_and_no_others():
    """An arrow that is not listed is a fault, and so is one that nothing uses."""
    found: dict[str, set[str]] = {}
    for module, targets in edges().items():
        found.setdefault(room(module), set()).update({room(name) for name in targets} - {room(module)} - ANYONE_MAY)
    assert found.pop("jaxrec") <= set(ARROWS)  # the package offers by name what a notebook needs
    assert found == ARROWS


def test_arrows_run_down():
    assert circle(ARROWS) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle({name: targets - {name} for name, targets in edges().items() if name != "jaxrec"}) == []


def test_the_search_for_circles_finds_one():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_the_package_fits_one_screen():
    """At most a dozen folders and four files, each folder with a sentence of its own."""
    inside = [path for path in (ROOT / "jaxrec").iterdir() if not path.name.startswith("_")]
    folders = [path for path in inside if path.is_dir()]
    assert len(folders) <= 12
    assert len(inside) - len(folders) <= 4
    assert all(ast.get_docstring(parse(folder / "__init__.py")) for folder in folders)


def test_tests_mirror_the_rooms():
    rooms = {path.name for path in (ROOT / "jaxrec").iterdir() if (path / "__init__.py").exists()} | {"experiments"}
    mirrored = {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))}
    assert mirrored <= rooms, "a folder of tests without a room"
    assert rooms <= mirrored, "a room without tests"


@by_path("experiments")
def test_experiments_import_the_library_and_each_other(path):
    assert {package(name) for name in imports(parse(path))} & set(OURS) <= {"jaxrec", "experiments"}


def test_a_comparison_is_sides_then_statistics_then_words():
    """Each of the three imports those before it: sides know no statistics, and these no tables."""
    parts = [f"experiments.{name}" for name in ("sides", "significance", "comparison")]
    for place, part in enumerate(parts):
        tree = parse(ROOT / f"{part.replace('.', '/')}.py")
        assert set(imports(tree)) & set(parts) == set(parts[:place])
        assert ("stats" in names(tree)) == (part == "experiments.significance")  # scipy's


def test_no_two_test_files_have_one_name():
    """pytest imports them by that name alone, and fails where both are collected."""
    names = [path.name for path in files("tests") if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


@by_path("jaxrec")
def test_the_library_names_the_experiments_in_one_place(path):
    """`jaxrec.load`, which looks them up when it is called."""
    tree = parse(path)
    assert "experiments" not in {package(name) for name in imports(tree)}
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if "import_module" in call and "experiments" in call]
    assert bool(named) == (path == ROOT / "jaxrec" / "__init__.py")


@by_path("configs")
def test_configs_hold_plain_values(path):
    assert {package(name) for name in imports(parse(path))} == {"ml_collections"}


def names(tree: ast.AST) -> set[str]:
    """Every identifier that the code uses: names, attributes, imported names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.update(node.name.split("."))
    return found


@by_path("jaxrec", "experiments", "launch.py")
def test_heavy_dependencies_have_one_home(path):
    tree, home = parse(path), str(path.relative_to(ROOT))
    packages = {package(name) for name in imports(tree)}
    if home != "jaxrec/engine/checkpoint.py":
        assert "orbax" not in packages
    if home != "jaxrec/sharding.py":
        assert not {"Mesh", "make_mesh", "pmap"} & names(tree)
    if home.startswith("jaxrec/"):
        assert "ml_collections" not in packages
    if not home.startswith("jaxrec/data/"):
        assert not {"tensorflow", "tensorflow_datasets"} & packages


def test_the_homes_are_lived_in():
    """Else the test above would pass on names that nobody uses any more."""
    assert "orbax" in {package(name) for name in imports(parse(ROOT / "jaxrec/engine/checkpoint.py"))}
    assert {"Mesh", "make_mesh", "pmap"} <= names(parse(ROOT / "jaxrec/sharding.py"))
    assert "tensorflow" in set(imports(parse(ROOT / "jaxrec/data/decoding.py")))


FOR_DEVELOPERS = ("bench", "browser", "docs", "test")  # extras that no command needs


def test_what_is_imported_is_declared_and_what_is_declared_is_imported_or_says_why():
    """What another package happens to bring, its next version may not."""
    found = {package(name) for path in files("jaxrec", "experiments", "launch.py") for name in imports(parse(path))}
    installed = importlib.metadata.packages_distributions()
    imported = {
        module: {canonicalize_name(name) for name in installed.get(module, (module,))}  # not there: of an extra
        for module in found - set(OURS) - sys.stdlib_module_names
    }
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    required = [Requirement(line) for line in project["dependencies"]]
    declared = {canonicalize_name(each.name) for each in required if each.marker is None or each.marker.evaluate()}
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in FOR_DEVELOPERS}
    optional = {canonicalize_name(Requirement(line).name) for lines in extras.values() for line in lines}
    allowed = declared | optional
    assert {module for module, names in imported.items() if not names & allowed} == set(), "imported, not declared"
    explained = {canonicalize_name(name) for name in re.findall(r'^  "([\w-]+).*",  # .', text, re.M)}
    assert declared.difference(*imported.values(), explained) == set(), "declared, not imported, and nothing says why"


@by_path("jaxrec/data")
def test_tensorflow_is_imported_late(path):
    tree = parse(path)
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]:
        function.body = []  # what is left runs when the module is imported
    assert not {"tensorflow", "tensorflow_datasets"} & {package(name) for name in imports(tree)}


@by_path("jaxrec")
def test_no_function_takes_a_config(path):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.arguments):
            parameters = [*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg]
            taken = {parameter.arg for parameter in parameters if parameter}
            assert not taken & {"config", "cfg"}, f"line {parameters[0].lineno}"


# What runs code that arrives as data: modules that do so by nature, functions by their names, called or imported.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "yaml", "torch"}
UNSAFE = {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "runpy.run_path", "os.system"}
UNSAFE |= {"os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pandas.read_pickle", "pd.read_pickle"}


def forbidden_calls(tree: ast.AST) -> Iterator[str]:
    """What runs code that arrives as data."""
    for name in imports(tree):
        if package(name) in UNSAFE_MODULES:
            yield f"import {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (name for alias in node.names if (name := f"{node.module}.{alias.name}") in UNSAFE)
        if isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            if function in UNSAFE:
                yield function
            for keyword in node.keywords:
                constant = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in {"allow_pickle", "shell"} and not constant:
                    yield f"{function}({keyword.arg}=...)"


@by_path("jaxrec", "experiments", "configs", "launch.py")
def test_no_data_is_run_as_code(path):
    assert list(forbidden_calls(parse(path))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml",
        "from torch import load",
        "from os import system",
        "eval(x)",
        "exec(x)",
        "f(compile(x, y, z))",
        "np.load(x, allow_pickle=True)",
        "np.load(x, allow_pickle=trust)",
        "subprocess.run(x, shell=True)",
        "os.system(x)",
    ],
)
def test_the_search_for_such_code_finds_it(line):
    assert len(list(forbidden_calls(ast.parse(line)))) == 1


def test_such_code_is_not_seen_where_there_is_none():
    harmless = "ast.literal_eval(x)\nnp.load(x, allow_pickle=False)\nspec.loader.exec_module(x)\nre.compile(x)"
    assert list(forbidden_calls(ast.parse(harmless))) == []


def test_no_file_is_named_utils():
    assert not [path for path in files(*OURS) if path.stem in {"utils", "util", "helpers", "misc"}]


def test_ruff_is_clean():
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
