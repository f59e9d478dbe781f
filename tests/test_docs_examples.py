"""The examples of docs/examples/: of sixty lines at most, on the library alone, and true of what they show."""

import ast
import importlib.util
import pathlib

import pytest

EXAMPLES = sorted((pathlib.Path(__file__).parents[1] / "docs" / "examples").glob("*.py"))

# Name -> the short form that is run, and what has to be true of what it returns.
CLAIMS = {
    "byol": ({"steps": 400, "seed": 1}, lambda found: found["trained"] > found["untrained"] + 0.05),
    "distillation": ({"steps": 1000}, lambda found: found["taught"] > found["alone"] + 0.01),
    "flow_matching": ({"steps": 300}, lambda found: found["after"] < found["before"] / 10),
    "k_fold": ({"steps": 150, "folds": 3}, lambda found: found["accuracy"] > 0.85 and found["programs"] == 3),
    "lora": (
        {"steps": 80},
        lambda found: found["adapted"] > found["base"] + 0.3 and found["adapters"] < found["parameters"] / 10,
    ),
    "mean_teacher": ({"steps": 1000}, lambda found: found["mean_teacher"] > found["labels_alone"] + 0.03),
    "other_library": (
        {"steps": 150},
        lambda found: abs(found["accuracy"] - found["accuracy_in_nnx"]) < 1e-6 and found["accuracy"] > 0.7,
    ),
    "pcgrad": (
        {"steps": 300},
        lambda found: found["conflicts"] > 0.5 and found["both_fall"] > found["both_fall_by_sum"] + 0.3,
    ),
    "sam": ({"steps": 1000}, lambda found: found["sharpness_aware"] > found["plain"] + 0.02),
    "seeds_at_once": (
        {"steps": 100, "seeds": 3},
        lambda found: found["accuracy"] > 0.6 and found["furthest_parameter"] < 1e-2,
    ),
    "segmentation": ({"steps": 150}, lambda found: found["mean_iou"] > 0.5),
    "simclr": ({"steps": 200}, lambda found: found["trained"] > found["untrained"] + 0.05),
    "vq_vae": (
        {"steps": 200},
        lambda found: found["error"] < found["error_of_the_mean_image"] / 2 and found["perplexity"] > 8,
    ),
}
SLOW = (  # five to ten seconds each
    *("byol", "distillation", "flow_matching", "lora", "mean_teacher", "seeds_at_once", "segmentation", "simclr"),
    "vq_vae",
)


def test_every_example_makes_a_claim():
    assert [path.stem for path in EXAMPLES] == sorted(CLAIMS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_stands_on_the_library_alone(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 60
    tree = ast.parse(path.read_text())
    assert f"python docs/examples/{path.name}" in ast.get_docstring(tree)
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [module for module in modules if module.startswith("experiments")]


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_an_example_shows_what_it_says(path, one_device, monkeypatch):
    # Eight devices of one CPU take up to five times as long, and give the same: tests/engine/test_sharding.py.
    monkeypatch.setattr("jaxrec.engine.program.data_parallel", lambda: one_device)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options, claim = CLAIMS[path.stem]
    found = module.main(**options)
    assert claim(found), found
