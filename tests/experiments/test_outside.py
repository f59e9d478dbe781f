"""A config may name what lies outside the repository: found, checked and run without an edit here."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import launch
from experiments.settings import source
from experiments.settings.flags import allowing, from_flags
from experiments.settings.schema import check
from experiments.stored import config_of
from jaxrec.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]

PACKAGE = {
    "__init__.py": """
import os, pathlib
if "OUTSIDE_WAS_IMPORTED" in os.environ:
    pathlib.Path(os.environ["OUTSIDE_WAS_IMPORTED"]).touch()
""",
    "blocks.py": """
from flax import linen as nn
from jaxrec.types import Count

class Base(nn.Module):
    classes: Count = 10
    width: Count = 4
""",
    "nets.py": """
import functools
from flax import linen as nn
from . import blocks
from .blocks import Base as Renamed
from jaxrec.types import Rate

class Net(blocks.Base):
    dropout: Rate = 0.0

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.relu(nn.Dense(self.width)(image.reshape(len(image), -1)))
        return nn.Dense(self.classes)(x)

class NoNet(nn.Module):
    width: int = 4

class ByHand:
    def __init__(self, classes, *, width: "Count" = 3):
        pass

half = functools.partial(Net, width=2)
""",
    "parts.py": """
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxrec.data.batches import Dataset
from jaxrec.types import Count, Share

def scaled_error(outputs, batch, *, power: Count = 2):
    error = jnp.sum(jnp.abs(outputs - jax.nn.one_hot(batch["label"], outputs.shape[-1])) ** power, axis=-1)
    return {"loss": error, "accuracy": outputs.argmax(-1) == batch["label"]}

def negative(image, key, *, share: Share = 0.5):
    return jnp.where(jax.random.uniform(key) < share, 1 - image, image)

def stripes(*, examples: Count = 48) -> Dataset:
    label = np.arange(examples) % 2
    image = np.zeros((examples, 4, 4, 1), np.uint8)
    image[label == 1, ::2] = 255
    image[label == 0, :, ::2] = 255
    ids = np.arange(examples)
    splits = {"train": ids[: examples // 2], "validation": ids[examples // 2 :]}
    return Dataset({"image": image, "label": np.int32(label)}, splits, ("down", "across"))

def descent(learning_rate, *, half: bool = False) -> optax.GradientTransformation:
    return optax.sgd(learning_rate)

def anything(x):
    return x
""",
    "two_heads.py": '''
"""An experiment whose sections are of kinds of its own."""
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from flax import linen as nn

from experiments import experiment
from experiments.images import read_images
from experiments.settings.make import make
from experiments.settings.specs import DataSpec, Named, OptimizerSpec
from experiments.updates import Updates, make_optimizer
from jaxrec import from_loss
from jaxrec.data import transforms
from jaxrec.types import Count, Positive, Seed
from outside_package.parts import scaled_error

HeadSpec = Annotated[Mapping, Named(modules=("outside_package.nets",), takes=("classes",))]

class Extent(NamedTuple):
    width: Count = 3

def build(*, train: experiment.Train, data: DataSpec, head: HeadSpec, optimizer: OptimizerSpec, seed: Seed = 0,
          extent: Extent = Extent(width=5), updates: Updates = Updates(), weight: Positive = 0.5):
    images = read_images(data, train, seed=seed)
    shuffled, splits = images.batches(transforms.unit_range, transforms.unit_range)
    network = make(HeadSpec, {**head, "width": extent.width})(classes=2)
    task = from_loss(network, scaled_error, make_optimizer(optimizer, updates, steps=images.steps))
    return experiment.Experiment(
        task=task, steps=images.steps, train=shuffled, splits=splits, monitor=None, mode="min", headline=(),
        table=lambda: f"two heads of {network.width}", notes=images.notes,
    )
''',
    "no_build.py": "def make():\n    pass\n",
    "no_train.py": "def build(*, seed=0, train=None):\n    pass\n",
    "broken.py": "def build(:\n",
    "raises.py": "class Net:\n    classes: int = 3\n\nraise OSError('no such\\ndisk')\n",
}
CONFIG = {
    "experiment": "classify",
    "train": {"batch_size": 8, "steps": 2},
    "data": {"name": "outside_package.parts.stripes"},
    "augment": ({"name": "outside_package.parts.negative", "share": 1.0},),
    "model": {"name": "outside_package.nets.Net", "width": 6},
    "loss": {"name": "outside_package.parts.scaled_error"},
    "optimizer": {"name": "outside_package.parts.descent", "learning_rate": {"name": "warmup_linear", "peak": 0.1}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the package, on Python's path."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "outside_package").mkdir()
    for name, text in PACKAGE.items():
        (folder / "outside_package" / name).write_text(text)
    (folder / "outside_file.py").write_text("def build(*, train, seed):\n    pass\n")
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.startswith("outside_")]:
        del sys.modules[name]
    source._parsed.cache_clear()


@pytest.fixture(scope="module")
def run(folder):
    """The folder of a finished run that names the package's model, loss, augmentation, data and optimizer."""
    file = folder / "mine.py"
    file.write_text(f"def get_config():\n    return {CONFIG!r}\n")
    assert launch.main([f"--config={file}", f"--workdir={folder}/run"]) == 0
    return folder / "run"


def test_model_loss_augmentation_data_and_optimizer_may_lie_in_a_package_outside(run, capsys):
    config = json.loads((run / "config.json").read_text())
    assert config["model"] == {"name": "outside_package.nets.Net", "width": 6, "dropout": 0.0}
    assert config["loss"] == {"name": "outside_package.parts.scaled_error", "power": 2}
    assert config["data"] == {"name": "outside_package.parts.stripes", "examples": 48}
    assert config["augment"] == [{"name": "outside_package.parts.negative", "share": 1.0}]
    assert config["optimizer"]["half"] is False
    result = json.loads((run / "result.json").read_text())
    assert result["notes"]["classes"] == ["down", "across"]
    assert {"loss", "accuracy"} <= set(result["metrics"]["validation"])


def test_an_experiment_may_lie_there_with_kinds_of_its_own(folder, capsys):
    config = {
        "experiment": "outside_package.two_heads",
        "train": {"batch_size": 8, "steps": 1},
        "data": {"name": "outside_package.parts.stripes", "examples": 16},
        "head": {"name": "Net"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
    }
    file = folder / "heads.py"
    file.write_text(f"def get_config():\n    return {config!r}\n")
    assert launch.main([f"--config={file}", f"--workdir={folder}/heads", "--config.updates.l2=0.1"]) == 0
    assert "two heads of 5" in capsys.readouterr().out
    stored = json.loads((folder / "heads" / "config.json").read_text())
    assert stored["head"] == {"name": "Net", "width": 4, "dropout": 0.0}
    assert (stored["extent"], stored["updates"]["l2"], stored["updates"]["ema"]) == ({"width": 5}, 0.1, 0.0)
    for key, value, said in [
        ("head", {"name": "NoNet"}, "config.head.name = 'NoNet': no such name in outside_package.nets. Did you mean"),
        ("extent", {"widht": 3}, "config.extent.widht = 3: Extent takes no such key. Did you mean 'width'"),
        ("weight", 0, "config.weight = 0: allowed is a number above 0"),
        ("freeze", "x", "config.freeze is now called config.updates.freeze"),
    ]:
        with pytest.raises(InputError, match=said):
            check({**config, key: value})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model", {"name": "outside_package.nets.Net", "widht": 3}, r"widht = 3: .* Did you mean 'width'"),
        ("model", {"name": "outside_package.nets.Net", "width": 0}, "width = 0: allowed is a whole number, 1 or more"),
        ("model", {"name": "outside_package.nets.ByHand", "width": 0}, "width = 0: allowed is a whole number"),
        ("model", {"name": "outside_package.nets.Net", "classes": 3}, "classes = 3: .* takes no such key"),
        ("model", {"name": "outside_package.nets.Nett"}, r"no 'Nett' in .*nets\.py\. Did you mean 'Net'"),
        ("model", {"name": "outside_package.nets.NoNet"}, r"it must take classes to be used here.*nets\.py, line"),
        ("model", {"name": "outside_package.nets.half"}, r"half is no function or class in .*nets\.py"),
        ("model", {"name": "outside_package.nests.Net"}, r"no module 'outside_package\.nests': outside_package is /"),
        ("model", {"name": "outside_pakage.nets.Net"}, r"no module 'outside_pakage' .*sys\.path.*PYTHONPATH"),
        ("model", {"name": "outside_package..Net"}, "no module"),
        ("model", {"name": "../nets.Net"}, "no module"),
        ("model", {"name": "outside_package.broken.Net"}, r"broken\.py, line 1: "),
        ("loss", {"name": "outside_package.parts.anything"}, r"it must begin with \(outputs or logits, batch\)"),
        ("augment", [{"name": "outside_package.parts.anything"}], r"augment\[0\]\.name = .*\(image or example, key\)"),
        ("data", {"name": "outside_package.parts.anything"}, "it must be annotated to return Dataset"),
        ("data", {"name": "outside_package.parts.stripes", "examples": 0.5}, "examples = 0.5: allowed is a whole"),
        ("optimizer", {"name": "outside_package.parts.descent"}, "optimizer.learning_rate is missing"),
        ("experiment", "outside_package.no_build", r"no 'build' in .*no_build\.py.*There are: make"),
        ("experiment", "outside_package.no_train", r"no_train\.build must take `train: Train`.* and `seed`"),
        ("experiment", "outside_package.none", "no module 'outside_package.none'"),
        ("experiment", "outside_file", "outside_file.build must take"),
        ("experiment", "outside_fil", "allowed is autoencode, classify, gan, vae, or a module of yours"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(folder, key, value, said):
    with pytest.raises(InputError, match=said) as caught:
        check({**CONFIG, key: value})
    assert "\n" not in str(caught.value)


def test_a_module_that_raises_is_one_line(folder, capsys):
    (folder / "mine.py").write_text(f"def get_config():\n    return {CONFIG!r}\n")
    model = "--config.model={'name': 'outside_package.raises.Net'}"
    assert launch.main([f"--config={folder}/mine.py", f"--workdir={folder}/none", model]) == 2
    assert capsys.readouterr().err == "launch.py: Importing outside_package.raises: OSError: no such disk\n"


def in_a_process(folder, *flags, allowed_path: bool = True, cwd: pathlib.Path = ROOT) -> tuple[int, str, bool]:
    """Exit code and errors of launch.py, whose JAX is blocked, and whether it has imported the package."""
    marker = folder / "imported"
    marker.unlink(missing_ok=True)
    script = f"runpy.run_path({str(ROOT / 'launch.py')!r}, run_name='__main__')"
    blocked = f"import sys, runpy; sys.modules['jax'] = None; sys.path[0] = {str(ROOT)!r}; {script}"
    paths = {"PYTHONPATH": str(folder)} if allowed_path else {}
    environment = {**os.environ, **paths, "OUTSIDE_WAS_IMPORTED": str(marker)}
    done = subprocess.run(
        [sys.executable, "-c", blocked, *flags], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr, marker.exists()


def test_a_stored_config_imports_nothing_that_the_command_line_does_not_name(folder, run):
    code, said, imported = in_a_process(folder, f"--config={run}/config.json")
    assert (code, imported) == (2, False)
    assert said.startswith("launch.py: config.augment[0].name = 'outside_package.parts.negative' in ")
    assert said.endswith("say so: --allow=outside_package.\n")
    assert said.count("\n") == 1
    code, said, imported = in_a_process(folder, f"--config={run}/config.json", "--allow=other,outside_pack")
    assert (code, imported, "--allow=outside_package" in said) == (2, False, True)


def test_a_typo_in_what_lies_outside_is_found_before_anything_is_imported(folder, run):
    flags = ["--config=mine.py", "--config.model.widht=3"]
    code, said, imported = in_a_process(folder, *flags, allowed_path=False, cwd=folder)  # found in the current folder
    assert (code, imported) == (2, False)
    assert said.startswith(
        "launch.py: config.model.widht = 3: outside_package.nets.Net takes no such key. Did you mean"
    )


def test_who_names_the_package_may_use_a_stored_config(run, capsys):
    flags = [f"--config={run}/config.json", f"--workdir={run}"]
    assert launch.main(flags) == 2
    assert launch.main([*flags, "--allow=some.thing,outside_package"]) == 0
    assert launch.main([*flags, "--allow=some", "--allow", "outside_package"]) == 0
    assert "This run is finished" in capsys.readouterr().out
    assert launch.main(["sample", f"--workdir={run}"]) == 2
    assert "--allow=outside_package" in capsys.readouterr().err
    assert launch.main(["sample", f"--workdir={run}", "--allow=outside_package"]) == 2
    assert "a run of 'classify' makes no images" in capsys.readouterr().err


def test_a_name_on_the_command_line_is_named_by_the_user(run):
    stored = f"--config={run}/config.json"
    config, _, _ = from_flags([stored, "--config.model.name=outside_package.nets.Net"])
    assert config["loss"]["name"] == "outside_package.parts.scaled_error"  # of the same package
    from_flags([stored, "--config.augment=[{'name': 'outside_package.parts.negative'}]"])
    with pytest.raises(InputError, match="--allow=outside_package"):
        from_flags([stored, "--config.model.width=3"])


def test_readers_of_a_run_ask_too(run):
    with pytest.raises(InputError, match=r"features = '.*run'.*--allow=outside_package"):
        config_of(run, "features")
    with allowing(["outside_package"]):
        assert config_of(run, "features")["model"]["name"] == "outside_package.nets.Net"
    with allowing(["outside_package.nets"]), pytest.raises(InputError, match=r"config\.augment\[0\]\.name .*--allow"):
        config_of(run, "features")
