"""Golden files: what made them is known, a test reads each, and no test needs the programs that wrote them."""

import ast
import pathlib
import re

import golden
import numpy as np
import pytest
from references import relative_error

TESTS = pathlib.Path(__file__).parent
NAMES = sorted(path.stem for path in golden.FOLDER.glob("*.npz"))


def sources() -> dict[str, str]:
    """Of all tests, without the scripts that write golden files."""
    paths = [path for path in TESTS.rglob("*.py") if path.parent != golden.FOLDER]
    return {str(path.relative_to(TESTS)): path.read_text() for path in paths}


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_file_and_its_script_say_which_versions_made_it(name):
    versions = golden.read(name)["versions"].tolist()
    assert {"python", "numpy"} < {line.split()[0] for line in versions}
    script = ast.get_docstring(ast.parse((golden.FOLDER / f"make_{name}.py").read_text()))
    said = " ".join(script.split()).lower()
    for line in versions:
        assert re.fullmatch(r"[\w-]+ \d[\w.+]*", line)
        assert re.search(rf"\b{re.escape(line)}(?![\w.])", said), (
            f"the docstring of make_{name}.py does not say {line!r}"
        )


def test_each_golden_file_is_read_by_a_test():
    read = {name for source in sources().values() for name in re.findall(r"golden\.read\(\"(\w+)\"\)", source)}
    assert read == set(NAMES) != set()


def test_golden_files_are_small():
    sizes = [(golden.FOLDER / f"{name}.npz").stat().st_size for name in NAMES]
    assert max(sizes) < 200_000
    assert sum(sizes) < 1_000_000


def test_no_test_is_left_out_where_a_package_is_missing():
    """A comparison that continuous integration skips is none."""
    for path, source in sources().items():
        for node in ast.walk(ast.parse(source)):
            assert getattr(node, "attr", None) != "importorskip", f"{path}:{node.lineno}"
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert "torch" not in {module.partition(".")[0] for module in imported}, f"{path}:{node.lineno}"


@pytest.mark.parametrize("shape", [(5, 7), (9, 12, 20)])
def test_digests_are_as_far_apart_as_the_arrays_were(shape):
    draw = np.random.default_rng(0)
    first = draw.normal(size=shape)
    one = np.zeros(shape)
    one.flat[3] = 1e-5 * np.linalg.norm(first)
    for change in (one, first[::-1] - first, 1e-5 * draw.normal(size=shape)):
        apart = relative_error(golden.digest(first + change), golden.digest(first))
        np.testing.assert_allclose(apart, relative_error(first + change, first), rtol=0.35)  # both lengths, 9 % each
    assert golden.digest(first).size == min(first.size, golden.LENGTH)
