"""Exported runs, in a process where jax alone can be imported, against what the runs themselves say."""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from test_configs import SMALLER

import jaxrec
import launch
from experiments.exported import Program, _generate, answers, programs_of, serialized
from experiments.restored import task_of
from experiments.settings.flags import from_flags
from jaxrec import models
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.layers.platform import on_cpu
from jaxrec.output.workdir import read_json, write_json
from jaxrec.tasks.task import State

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ("--config.train.batch_size=64", "--config.train.epochs=None", "--config.train.steps=4")
# Runs a program of a folder on arrays; whatever load.py imports besides jax, and what jax itself needs, is an error.
ALONE = """
import sys
BLOCKED = {"jaxrec", "experiments", "flax", "optax", "orbax", "tensorflow", "ml_collections", "sklearn", "matplotlib"}
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
folder, name, inputs, outputs = sys.argv[1:]
sys.path.insert(0, folder)
import numpy as np
import load
arrays = np.load(inputs)
rows = [arrays[key] for key in load.about["programs"][name]["inputs"]]
np.savez(outputs, all=getattr(load, name)(*rows), one=getattr(load, name)(*(row[:1] for row in rows)))
"""
needs_onnx = pytest.mark.skipif(
    not (find_spec("jax2onnx") and find_spec("onnxruntime")),
    reason="jax2onnx and onnxruntime are not installed: pip install -e '.[onnx]'",
)


def trained(folder: pathlib.Path, config: str, *more: str) -> pathlib.Path:
    assert launch.main([f"--config={ROOT}/configs/{config}.py", *SMALL, *more, f"--workdir={folder}"]) == 0
    return folder


def alone(model: pathlib.Path, name: str, folder: pathlib.Path, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    """What the exported program says, to all rows and to the first, in a process of its own."""
    np.savez(folder / "inputs.npz", **arrays)
    command = [sys.executable, "-c", ALONE, str(model), name, str(folder / "inputs.npz"), str(folder / "outputs.npz")]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    with np.load(folder / "outputs.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A recogniser's run: a moving average, and a temperature."""
    network = "--config.model={'name': 'CNN', 'widths': (4,), 'hidden': ()}"
    more = (network, "--config.updates.ema=0.9", "--config.train.evaluate_train=False")
    folder = trained(tmp_path_factory.mktemp("runs") / "run", "digits_cnn", *more)
    assert launch.main(["calibrate", f"--run={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def model(run, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("models") / "below" / "model"
    assert launch.main(["export", f"--run={run}", f"--out={folder}"]) == 0
    return folder


def refused(capsys, *words: str) -> str:
    assert launch.main(["export", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_where_jax_alone_is_installed_it_says_what_predict_says(run, model, digits, tmp_path):
    image = digits.image[digits.splits["test"]]
    found = alone(model, "predict", tmp_path, image=image)
    predictor = jaxrec.load(run)
    np.testing.assert_allclose(found["all"], predictor(image), atol=1e-6, rtol=0)
    np.testing.assert_allclose(found["one"], predictor(image[:1]), atol=1e-6, rtol=0)
    assert found["all"].dtype == np.float32


def test_the_folder_says_what_it_is(run, model):
    about = json.loads((model / "model.json").read_text())
    result = read_json(run / "result.json")
    written = (run / "checkpoints" / str(result["step"]) / "manifest.json").read_bytes()
    assert about["manifest"] == hashlib.sha256(written).hexdigest()
    assert about["metrics"] == result["metrics"]
    assert about["classes"] == [str(digit) for digit in range(10)]
    assert about["image"] == [8, 8, 1]
    assert about["versions"]["jax"] == jax.__version__
    assert about["programs"]["predict"]["inputs"] == {"image": {"type": "uint8", "shape": ["N", 8, 8, 1]}}
    assert about["programs"]["predict"]["output"] == {"type": "float32", "shape": ["N", 10]}
    stored = export.deserialize(bytearray((model / "predict.bin").read_bytes()))
    assert set(stored.platforms) == {"cpu", "cuda", "tpu"}
    assert sorted(file.name for file in model.iterdir() if file.is_file()) == ["load.py", "model.json", "predict.bin"]


def test_probabilities_are_calibrated_where_that_is_asked_for(run, digits, tmp_path):
    assert launch.main(["export", f"--run={run}", f"--out={tmp_path}/model", "--calibrated"]) == 0
    image, predictor = digits.image[:7], jaxrec.load(run)
    stored = export.deserialize(bytearray((tmp_path / "model" / "predict.bin").read_bytes()))
    found, wanted = stored.call(image), predictor(image, calibrated=True)
    np.testing.assert_allclose(found, wanted, atol=1e-6, rtol=0)
    assert np.abs(wanted - predictor(image)).max() > 1e-3


def test_each_platform_has_the_form_that_was_chosen_for_it():
    """Ones on a CPU, twos elsewhere: what a layer chooses by platform is chosen where the program runs."""

    def ones_or_twos(x):
        return on_cpu(lambda x: x * 0 + 1, lambda x: x * 0 + 2, x)

    inputs = {"x": jax.ShapeDtypeStruct((), jnp.float32)}
    stored = serialized(Program("some", "none", ones_or_twos, inputs, [], np.zeros(0)))
    exported = export.deserialize(bytearray(stored))
    np.testing.assert_array_equal(exported.call(np.zeros(3, np.float32)), np.ones(3))
    elsewhere = export.export(jax.jit(exported.call), platforms=["tpu"])(jax.ShapeDtypeStruct((3,), jnp.float32))
    text = elsewhere.mlir_module()
    assert "dense<2.0" in text or "2.000000e+00" in text


FAMILIES = {name: SMALLER.get(name, {}) for name in vars(models) if name[0].isupper()}
VARIANTS = {
    "RNN_bidirectional": ("RNN", {"cell": "gru", "bidirectional": True, "hidden": 8}),
    "RNN_simple": ("RNN", {"cell": "simple", "read": "rows", "hidden": 8}),
    "MLP_bfloat16": ("MLP", {"dtype": "bfloat16", "widths": (16,)}),
    **{name: (name, arguments) for name, arguments in FAMILIES.items()},
}


def untrained(folder: pathlib.Path, network: dict, shape: tuple[int, ...]) -> pathlib.Path:
    """What a finished run leaves, of a network that nothing has trained: compiling a step takes longest."""
    flags = [f"--config={ROOT}/configs/digits_cnn.py", f"--config.model={network}"]
    config, _, _ = from_flags(flags)
    mean = [0.5] * shape[-1]
    notes = {"classes": list("abcdefghij"), "shape": shape, "mean": mean, "std": mean, "several": False}
    batch = {"image": np.zeros((2, *shape), np.float32), "label": np.zeros(2, np.int32), "mask": np.ones(2, bool)}
    state = jax.jit(task_of(config, notes).init)(jax.random.key(0), batch)
    folder.mkdir()
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(0, state)
    for name, value in (("config", config), ("data", notes), ("result", {"step": 0, "metrics": {}, "notes": notes})):
        write_json(folder / f"{name}.json", value)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", VARIANTS)
def test_every_family_of_networks_says_what_predict_says(name, tmp_path):
    network, arguments = VARIANTS[name]
    run = untrained(tmp_path / "run", {"name": network, **arguments}, (32, 32, 3))
    (program,), _ = programs_of(run, "run")  # with what `jaxrec.load` says to an example
    assert program.error(answers(serialized(program), program.example)) < 1e-6


def test_a_key_makes_the_image_that_it_makes_in_the_run():
    """Of a model that draws its code from the key, and of one that is told the label as well."""
    weights = {"w": np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)}

    def images(state, keys, label):
        code = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
        image = jax.nn.sigmoid(code @ state.params["w"]).reshape(-1, 2, 4, 1)
        return image if label is None else image * label.reshape(-1, 1, 1, 1)

    state = State(np.int32(0), weights, (), {})
    keys = jax.random.split(jax.random.key(3), 6)
    for classes, label in ((0, []), (4, [np.arange(6, dtype=np.int32)])):
        program = _generate(images, state, classes, {"experiment": "some"})
        exported = export.deserialize(bytearray(serialized(program)))
        found = exported.call(jax.random.key_data(keys), *label)
        np.testing.assert_allclose(found, images(state, keys, *(label or [None])), atol=1e-6, rtol=0)
        assert list(program.inputs) == ["key", "label"][: 1 + len(label)]


@pytest.mark.slow
@pytest.mark.parametrize("config", ["digits_vae", "digits_gan", "digits_autoencoder"])
def test_what_makes_images_makes_those_of_its_run(config, digits, tmp_path):
    more = ["--config.updates.ema=0.9", *(["--config.conditional=True"] if config != "digits_autoencoder" else [])]
    run = trained(tmp_path / "run", config, *more, *(["--config.nll_samples=2"] if config == "digits_vae" else []))
    model = tmp_path / "model"
    assert launch.main(["export", f"--run={run}", f"--out={model}"]) == 0  # 1 beyond 1e-6
    if config == "digits_autoencoder":
        code = alone(model, "encode", tmp_path, image=digits.image[:9])["all"]
        made = alone(model, "decode", tmp_path, code=code)["all"]
        assert code.shape == (9, read_json(model / "model.json")["programs"]["decode"]["inputs"]["code"]["shape"][1])
        assert np.square(made - digits.image[:9] / 255).mean() < 0.2  # no autoencoder yet, but these pictures
        return
    assert launch.main(["sample", f"--workdir={run}", "--images=12", "--seed=5"]) == 0
    (file,) = run.glob("samples_*_seed5_12.npz")
    with np.load(file) as sampled:
        wanted, label = sampled["image"], sampled["label"]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(5), np.arange(12, dtype=np.uint32))
    arrays = {"key": np.asarray(jax.random.key_data(keys)), "label": label.astype(np.int32)}
    found = alone(model, "generate", tmp_path, **arrays)["all"]
    assert np.abs(found * 255 - wanted).max() <= 0.5 + 1e-3  # these are rounded


def test_what_cannot_be_exported_is_one_line(run, model, tmp_path, capsys):
    new = f"--out={tmp_path}/new"
    assert "not empty" in refused(capsys, f"--run={run}", f"--out={model}")
    assert "no run with checkpoints" in refused(capsys, f"--run={tmp_path}/nowhere", new)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(capsys, f"--run={run}", f"--out={tmp_path}/file")
    going_on = tmp_path / "going_on"
    shutil.copytree(run, going_on)
    (going_on / "result.json").unlink()
    assert "not finished" in refused(capsys, f"--run={going_on}", new)
    (going_on / "calibration.json").unlink()
    shutil.copy(run / "result.json", going_on)
    assert "not calibrated" in refused(capsys, f"--run={going_on}", new, "--calibrated")
    checkpoint = going_on / "checkpoints" / str(read_json(run / "result.json")["step"])
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != "manifest.json"]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    assert "holds other bytes" in refused(capsys, f"--run={going_on}", new)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.skipif(bool(find_spec("jax2onnx")), reason="the extra onnx is installed: the tests below run instead")
def test_without_its_extra_onnx_is_refused(run, tmp_path, capsys):
    assert "pip install -e '.[onnx]'" in refused(capsys, f"--run={run}", f"--out={tmp_path}/model", "--onnx")


ON_ONNX = (
    {"name": "CNN", "widths": (4, 8), "padding": "SAME"},
    {"name": "MLP", "widths": (16,)},
    {"name": "ResNet", "blocks": (1, 1, 1)},
)


def converted(run: pathlib.Path, model: pathlib.Path) -> subprocess.CompletedProcess:
    """In a process of its own: the converter changes flax for the rest of one."""
    command = [sys.executable, "launch.py", "export", f"--run={run}", f"--out={model}", "--onnx"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("network", ON_ONNX, ids=lambda network: network["name"])
def test_onnx_says_what_predict_says(network, tmp_path, digits):
    import onnxruntime

    run = untrained(tmp_path / "run", network, (8, 8, 1))
    done = converted(run, tmp_path / "model")
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(tmp_path / "model" / "predict.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 50):
        (found,) = session.run(None, {"image": digits.image[:count]})
        np.testing.assert_allclose(found, jaxrec.load(run)(digits.image[:count]), atol=1e-4, rtol=0)


@needs_onnx
@pytest.mark.slow
def test_a_network_that_onnx_cannot_express_is_refused_by_its_name(tmp_path):
    run = untrained(tmp_path / "run", {"name": "RNN", "bidirectional": True, "hidden": 8}, (8, 8, 1))
    done = converted(run, tmp_path / "model")
    assert done.returncode == 2
    assert "'predict' of RNN" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "model").iterdir())
