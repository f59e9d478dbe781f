"""The README's code runs, and its commands exist."""

import pathlib
import re

import launch

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_notebook_example_learns(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names: dict = {}
    exec(compile(code.replace("steps=300", "steps=100"), "README.md", "exec"), names)
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 15
    assert names["program"].evaluate(names["state"], names["test"])["accuracy"] > 0.8
    capsys.readouterr()


def test_every_file_and_flag_the_readme_names_exists():
    for path in re.findall(r"`((?:jaxrec|experiments|configs|tests|docs|benchmarks)/[\w./]+)`", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"--config=(configs/\S+)", README):
        assert (ROOT / path).exists(), path
    for flag in re.findall(r"--(\w+)(?=[ =`])", README):
        assert flag == "config" or f"--{flag}" in launch.__doc__, flag
