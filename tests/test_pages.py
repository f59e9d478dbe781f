"""What the pages say can be followed: links, commands with their flags, paths, code; and each page is in the site."""

import importlib
import inspect
import json
import pathlib
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zlib
from importlib.util import find_spec

import pytest

import launch
from experiments.settings.command_line import COMMANDS
from experiments.settings.space import space_of

ROOT = pathlib.Path(__file__).parents[1]
DOCS = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "api" not in path.parts]
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")), *DOCS]
FENCED = re.compile(r"^( *)```([\w{}]*)[^\n]*\n(.*?)^\1```$", re.M | re.S)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(page: pathlib.Path) -> set[str]:
    """What a link to a heading of a page may be called, as git hosts and the site call it."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_every_link_within_the_repository_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        if not target.startswith(("http://", "https://")):
            file, _, anchor = target.partition("#")
            found = (page.parent / file).resolve() if file else page
            assert found.exists(), target
            assert found.is_relative_to(ROOT), target
            assert not anchor or anchor in anchors(found), target


@pages
def test_every_path_and_test_that_a_page_names_exists(page):
    text = page.read_text()
    for path in re.findall(r"`((?:jaxrec|experiments|configs|tests|docs|benchmarks|\.ci)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path
    for name, file in re.findall(r"`([A-Z]+)` in `(tests/[\w./]+)`", text):
        assert re.search(rf"^{name}\b", (ROOT / file).read_text(), re.M), (file, name)
    for file, name in re.findall(r"`(tests/[\w./]+)::(\w+)`", text):
        assert re.search(rf"^def {name}\b", (ROOT / file).read_text(), re.M), (file, name)


def commands(page: pathlib.Path, program: str) -> list[str]:
    """What follows a program's name on lines of its own and between backticks; what is explained beside it left out."""
    text = re.sub(r" *\\\n *", " ", page.read_text())
    found = re.findall(rf"^ *{program} (.*)$", text, re.M) + re.findall(rf"`{program} ([^`]*)`", text)
    return [re.split(r"\s{3,}", line)[0] for line in found]


@pages
def test_every_command_of_a_page_is_understood_and_all_can_be_followed_in_order(page, tmp_path, monkeypatch, capsys):
    """By the launcher itself, to the point where it would start: flags, config and its keys. No two share a folder."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for _, language, code in FENCED.findall(page.read_text()):
        name = re.match(r"# (\w+\.py)\n", code)
        if language == "python" and name:
            (tmp_path / name[1]).write_text(code)
    monkeypatch.chdir(tmp_path)
    started: dict = {}

    def start(argv, config, workdir, options, command, own):
        if "space" in own:
            space_of(own["space"], config)
        started.update(config=config, folder=None if command or options.smoke else workdir)
        return 0

    monkeypatch.setattr("experiments.start.start", start)
    folders: dict = {}
    for line in commands(page, r"python launch\.py"):
        if re.search(r"\.\.\.|KEY=|--help|doctor", line):  # a form that commands have; no work of theirs
            continue
        words = shlex.split(
            re.sub(r"[\[\]](?=--| |$)", "", line).replace("=FILE", "=configs/digits_cnn.py"), comments=True
        )
        for word in words:  # the config of a run that there would be
            given = word.removeprefix("--config=")
            if given != word and given.endswith(".json"):
                pathlib.Path(given).parent.mkdir(parents=True, exist_ok=True)
                pathlib.Path(given).write_text(json.dumps(started["config"]))
        assert launch.main(words) == 0, f"{line}: {capsys.readouterr().err}"
        if started["folder"]:
            assert folders.setdefault(started["folder"], started["config"]) == started["config"], line


@pages
def test_every_command_that_a_page_speaks_of_is_one(page):
    spoken = re.findall(r"`(?:python )?launch\.py ([a-z_]+)", page.read_text())
    assert set(spoken) <= {"doctor", *COMMANDS}


@pages
def test_every_other_command_of_a_page_exists(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = {line.split()[0] for line in commands(page, "make")}
    assert {name for name in named if re.fullmatch(r"[\w-]+", name)} <= set(targets)
    for line in commands(page, "python"):
        script, *flags = line.split()
        if re.match(r"(benchmarks|docs/examples)/", script):
            text = (ROOT / script).read_text()
            for flag in re.findall(r"--[\w-]+", " ".join(flags)):
                assert f'"{flag}"' in text, line
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"pip install -e '\.\[(\w+)\]'", page.read_text())) <= set(extras)


@pages
def test_the_python_of_a_page_compiles(page):
    for _, language, code in FENCED.findall(page.read_text()):
        if language == "python":
            compile(code, str(page), "exec")


def test_every_page_is_in_the_navigation_once():
    index = (ROOT / "docs" / "index.md").read_text()
    trees = [code for _, language, code in FENCED.findall(index) if language == "{toctree}"]
    listed = [line for code in trees for line in code.splitlines() if line and not line.startswith(":")]
    written = [str(path.relative_to(ROOT / "docs").with_suffix("")) for path in DOCS]
    assert sorted(listed) == sorted([*(name for name in written if name != "index"), "api/jaxrec"])


def test_the_results_of_the_readme_are_those_of_the_results_page():
    from benchmarks.results import front

    def rows(file: str, name: str) -> list[str]:
        table = (ROOT / file).read_text().split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[0]
        return table.splitlines()

    claims, measures = (rows("docs/results.md", name)[2:] for name in ("results", "measures"))
    assert rows("README.md", "results") == front(claims, measures)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("sphinx"), reason="needs pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning_and_has_every_public_name(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("api"))
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "jaxrec").symlink_to(ROOT / "jaxrec")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "docs", "site"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    *_, inventory = (tmp_path / "site" / "objects.inv").read_bytes().split(b"\n", 4)
    listed = {line.split(" ")[0] for line in zlib.decompress(inventory).decode().splitlines()}
    there = {id(pydoc.locate(name)) for name in listed if name.startswith("jaxrec")}
    for path in sorted((ROOT / "jaxrec").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for kind in (inspect.isclass, inspect.isfunction):
            for public, thing in inspect.getmembers(importlib.import_module(name), kind):
                if thing.__module__ == name and not public.startswith("_"):
                    assert id(thing) in there, f"{name}.{public}"
