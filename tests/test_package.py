"""What is shipped: one version everywhere, a package without holes, papers that name what exists."""

import ast
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_and_its_date_are_the_same_wherever_they_stand():
    citation, changes = ((ROOT / file).read_text() for file in ("CITATION.cff", "CHANGELOG.md"))
    released = re.findall(r"^## \[(\d[\w.]*)\] - (\d{4}-\d\d-\d\d)$", changes, re.M)
    assert released == sorted(released, key=lambda entry: entry[1], reverse=True)
    assert re.findall(r"^version: (.+)$", citation, re.M) == [PROJECT["version"]] == [released[0][0]]
    assert re.findall(r'^date-released: "(.+)"$', citation, re.M) == [released[0][1]]


def test_the_license_is_named_alike_and_is_there():
    (file,) = PROJECT["license-files"]
    text = (ROOT / file).read_text()
    assert "Apache License\n                           Version 2.0" in text
    assert text.rstrip().endswith("limitations under the License.")
    assert "[yyyy]" not in text
    assert PROJECT["license"] == "Apache-2.0"
    assert re.findall(r"^license: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M) == [PROJECT["license"]]


def test_every_folder_with_code_is_a_package_which_setuptools_finds():
    folders = {path.parent for path in (ROOT / "jaxrec").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_ci_runs_every_kind_of_test_and_the_workflow_runs_ci_on_the_pythons_that_are_named():
    script = (ROOT / ".ci" / "run").read_text()
    assert {"make test", "make train", "make test-slow"} <= set(script.splitlines())
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "run: bash .ci/run" in workflow
    tested = ast.literal_eval(re.search(r"python: (\[.*\])", workflow)[1])
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: \d\.", line)]
    assert tested == named
    assert PROJECT["requires-python"] == f">={tested[0]}"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_file_and_command_that_a_page_names_exists(page):
    text = (ROOT / page).read_text()
    for path in re.findall(r"`((?:jaxrec|experiments|configs|tests|docs|benchmarks|\.ci)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path
    for name, file in re.findall(r"`([A-Z]+)` in `(tests/[\w./]+)`", text):
        assert re.search(rf"^{name}\b", (ROOT / file).read_text(), re.M), (file, name)
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"`make ([\w-]+)", text)) <= set(targets)
