"""What is shipped: one version everywhere, a package without holes, papers that name what exists."""

import ast
import importlib.util
import pathlib
import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def test_every_python_that_ci_runs_has_a_lock():
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: \d\.", line)]
    assert [lock.name for lock in LOCKS] == [f"linux-x86_64-py{version}.txt" for version in named]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_every_requirement_by_version_and_hash_and_no_place(lock):
    comment, *lines = lock.read_text().splitlines()
    assert comment.startswith("#")
    found = [re.fullmatch(r"([\w.-]+)==([\w.+]+) --hash=sha256:[0-9a-f]{64}", line) for line in lines]
    assert None not in found
    versions = {canonicalize_name(each[1]): each[2] for each in found}
    assert {"setuptools", "wheel"} <= set(versions)  # what builds the rest
    system = {"platform_system": "Linux", "sys_platform": "linux", "platform_machine": "x86_64"}
    system["python_version"] = lock.stem.partition("-py")[2]
    for requirement in map(Requirement, PROJECT["dependencies"]):
        if requirement.marker is None or requirement.marker.evaluate(system):
            version = versions.get(canonicalize_name(requirement.name))
            assert version, f"{requirement}: make lock"
            assert requirement.specifier.contains(version), f"{requirement}: {version}, make lock"


MISSING = "ERROR: No matching distribution found for jax==0"
OTHER = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."


@pytest.mark.parametrize(
    ("words", "trouble", "code", "newest"),
    [
        ([], "", 0, False),
        (["--locked"], "", 0, False),
        ([], MISSING, 0, True),
        (["--locked"], MISSING, 1, False),
        ([], OTHER, 1, False),
    ],
)
def test_the_newest_is_installed_in_place_of_what_is_missing_and_never_of_another_file(
    capsys, words, trouble, code, newest
):
    spec = importlib.util.spec_from_file_location("install", ROOT / "requirements" / "install.py")
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    calls = []

    def pip(*words: str, stderr: int | None = None) -> subprocess.CompletedProcess:
        calls.append(words)
        failed = bool(trouble) and "--require-hashes" in words
        return subprocess.CompletedProcess(words, int(failed), stderr=trouble if failed else "")

    here = next(lock for lock in LOCKS if lock.stem.endswith("3.11"))
    install.lock_file = lambda: here
    assert install.main(words, pip) == code
    assert ("--editable" in calls[-1]) == (code == 0)
    assert any("--require-hashes" not in call and "--no-deps" not in call for call in calls) == newest
    assert trouble in capsys.readouterr().err


def test_what_was_installed_without_the_lock_is_no_installation_from_it(tmp_path):
    def planned(locked: str) -> str:
        command = ["make", "--dry-run", "train", f"VENV={tmp_path}", f"LOCKED={locked}"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    (tmp_path / "installed").touch()
    assert "requirements/install.py" not in planned("")
    assert "requirements/install.py --locked" in planned("1")
    assert f"venv --clear {tmp_path}" in planned("1")
