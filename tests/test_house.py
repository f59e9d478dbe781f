"""The house rules, read from the source without importing it: arrows, homes, forbidden calls, style."""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
OURS = ("jaxrec", "experiments", "configs", "launch", "benchmarks", "tests")

# What each module may import from jaxrec. Every module may import these two as well.
ANYONE_MAY = {"jaxrec.errors", "jaxrec.types"}
NETWORKS = (
    *("alexnet", "cct", "cnn", "densenet", "googlenet", "lenet", "mlp", "preact", "resnet", "rnn", "vgg", "vit"),
    "whitened",
)
ARROWS = {
    # leaves: none imports another
    "jaxrec": set(),
    "jaxrec.preprocess": set(),
    "jaxrec.views": set(),
    "jaxrec.codes": set(),
    "jaxrec.data": set(),
    "jaxrec.data.pipeline": set(),
    "jaxrec.distances": {"jaxrec.metrics"},
    "jaxrec.errors": set(),
    "jaxrec.folders": set(),
    "jaxrec.gallery": set(),
    "jaxrec.losses": set(),
    "jaxrec.metrics": set(),
    "jaxrec.optimizers": {"jaxrec.trees"},
    "jaxrec.reconstruction": set(),
    "jaxrec.schedules": set(),
    "jaxrec.sharding": set(),
    "jaxrec.summary": set(),
    "jaxrec.trees": set(),
    "jaxrec.types": set(),
    "jaxrec.workdir": set(),
    # what images go through in training
    "jaxrec.augment.color": set(),
    "jaxrec.augment.geometry": set(),
    "jaxrec.augment.noise": set(),
    "jaxrec.augment.policy": {"jaxrec.augment.geometry"},
    "jaxrec.augment": {f"jaxrec.augment.{name}" for name in ("color", "geometry", "noise", "policy")},
    "jaxrec.mix": {"jaxrec.augment.noise"},
    # layers, from the choice of platform up
    "jaxrec.layers.platform": set(),
    "jaxrec.layers.blocks": set(),
    "jaxrec.layers.normalization": {"jaxrec.layers.platform"},
    "jaxrec.layers.pooling": {"jaxrec.layers.platform"},
    "jaxrec.layers.convolution": {"jaxrec.layers.platform"},
    "jaxrec.layers.transposed": {"jaxrec.layers.convolution"},
    "jaxrec.layers": {
        "jaxrec.layers.blocks",
        "jaxrec.layers.convolution",
        "jaxrec.layers.normalization",
        "jaxrec.layers.platform",
        "jaxrec.layers.pooling",
        "jaxrec.layers.transposed",
    },
    # what is learned
    "jaxrec.data.sources": {"jaxrec.data.pipeline", "jaxrec.folders"},
    "jaxrec.models": {f"jaxrec.models.{name}" for name in NETWORKS},
    "jaxrec.models.blocks": {"jaxrec.layers"},
    "jaxrec.models.alexnet": {"jaxrec.layers", "jaxrec.models.blocks"},
    "jaxrec.models.autoencoders": {f"jaxrec.models.{name}" for name in ("blocks", "cnn", "decoders", "mlp")},
    "jaxrec.models.cct": {"jaxrec.layers", "jaxrec.models.blocks", "jaxrec.models.transformer"},
    "jaxrec.models.cnn": {"jaxrec.layers", "jaxrec.models.blocks"},
    "jaxrec.models.decoders": {"jaxrec.layers", "jaxrec.models.blocks"},
    "jaxrec.models.critics": {"jaxrec.layers", "jaxrec.models.blocks"},
    "jaxrec.models.densenet": {"jaxrec.layers", "jaxrec.models.blocks"},
    "jaxrec.models.generators": set(),
    "jaxrec.models.googlenet": {"jaxrec.layers", "jaxrec.models.blocks"},
    "jaxrec.models.lenet": {"jaxrec.models.cnn"},
    "jaxrec.models.mlp": {"jaxrec.models.blocks"},
    "jaxrec.models.preact": {"jaxrec.models.blocks"},
    "jaxrec.models.resnet": {"jaxrec.layers", "jaxrec.models.blocks"},
    "jaxrec.models.rnn": {"jaxrec.layers.platform", "jaxrec.models.blocks"},
    "jaxrec.models.transformer": {"jaxrec.models.blocks"},
    "jaxrec.models.variational": {"jaxrec.models.cnn", "jaxrec.models.decoders", "jaxrec.models.mlp"},
    "jaxrec.models.vgg": {"jaxrec.layers", "jaxrec.models.blocks"},
    "jaxrec.models.vit": {"jaxrec.layers", "jaxrec.models.blocks", "jaxrec.models.transformer"},
    "jaxrec.models.whitened": {"jaxrec.layers"},
    "jaxrec.task": {"jaxrec.metrics", "jaxrec.sharding"},
    "jaxrec.average": {"jaxrec.metrics", "jaxrec.task"},
    "jaxrec.spectral": set(),
    "jaxrec.adversarial": {
        "jaxrec.average",
        "jaxrec.layers",
        "jaxrec.metrics",
        "jaxrec.preprocess",
        "jaxrec.sharding",
        "jaxrec.spectral",
        "jaxrec.task",
    },
    "jaxrec.transfer": {"jaxrec.average", "jaxrec.task", "jaxrec.trees"},
    "jaxrec.variational": {"jaxrec.average", "jaxrec.metrics", "jaxrec.models.variational", "jaxrec.task"},
    # how it is run
    "jaxrec.checkpoint": {"jaxrec.trees"},
    "jaxrec.program": {
        "jaxrec.data.pipeline",
        "jaxrec.metrics",
        "jaxrec.sharding",
        "jaxrec.steps",
        "jaxrec.task",
        "jaxrec.trees",
    },
    "jaxrec.steps": {"jaxrec.metrics", "jaxrec.task"},
    "jaxrec.train": {"jaxrec.checkpoint", "jaxrec.data.pipeline", "jaxrec.program", "jaxrec.task"},
    "jaxrec.hooks": {"jaxrec.checkpoint", "jaxrec.data.pipeline", "jaxrec.train"},
    "jaxrec.alarms": {"jaxrec.train"},
    "jaxrec.sampling": {"jaxrec.task", "jaxrec.train"},
    "jaxrec.progress": {"jaxrec.train"},
    "jaxrec.records": {"jaxrec.train"},
    "jaxrec.report": {"jaxrec.hooks", "jaxrec.progress", "jaxrec.records", "jaxrec.workdir"},
    "jaxrec.startup": {"jaxrec.folders"},
    "jaxrec.doctor": {"jaxrec.folders", "jaxrec.startup"},
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


def test_every_module_has_its_arrows():
    assert set(ARROWS) == MODULES


@by_path("jaxrec")
def test_arrows(path):
    found = {name for name in imports(parse(path), MODULES) if package(name) in OURS}
    assert found <= ARROWS[module_name(path)] | ANYONE_MAY


@by_path("experiments")
def test_experiments_import_the_library_and_each_other(path):
    assert {package(name) for name in imports(parse(path))} & set(OURS) <= {"jaxrec", "experiments"}


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
    if home != "jaxrec/checkpoint.py":
        assert "orbax" not in packages
    if home != "jaxrec/sharding.py":
        assert not {"Mesh", "make_mesh", "pmap"} & names(tree)
    if home.startswith("jaxrec/"):
        assert "ml_collections" not in packages
    if not home.startswith("jaxrec/data/"):
        assert not {"tensorflow", "tensorflow_datasets"} & packages


def test_the_homes_are_lived_in():
    """Else the test above would pass on names that nobody uses any more."""
    assert "orbax" in {package(name) for name in imports(parse(ROOT / "jaxrec/checkpoint.py"))}
    assert {"Mesh", "make_mesh", "pmap"} <= names(parse(ROOT / "jaxrec/sharding.py"))
    assert "tensorflow" in set(imports(parse(ROOT / "jaxrec/data/sources.py")))


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


def forbidden_calls(tree: ast.AST) -> Iterator[str]:
    """What runs code that arrives as data."""
    for name in imports(tree):
        if package(name) in {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}:
            yield f"import {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            if function in {"eval", "exec", "__import__", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}:
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
        "eval(x)",
        "exec(x)",
        "yaml.load(x)",
        "np.load(x, allow_pickle=True)",
        "np.load(x, allow_pickle=trust)",
        "subprocess.run(x, shell=True)",
        "os.system(x)",
    ],
)
def test_the_search_for_such_code_finds_it(line):
    assert len(list(forbidden_calls(ast.parse(line)))) == 1


def test_such_code_is_not_seen_where_there_is_none():
    harmless = "ast.literal_eval(x)\nnp.load(x, allow_pickle=False)\nspec.loader.exec_module(x)"
    assert list(forbidden_calls(ast.parse(harmless))) == []


def test_no_file_is_named_utils():
    assert not [path for path in files(*OURS) if path.stem in {"utils", "util", "helpers", "misc"}]


def test_ruff_is_clean():
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
