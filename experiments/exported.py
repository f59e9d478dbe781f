"""What a finished run can do, as programs that go without it: functions of arrays, the weights inside, for any N.

A program is StableHLO by `jax.export`, lowered for each platform at once: the forms that `jaxrec.layers.platform`
chooses between are all in it, and each platform compiles its own.
"""

import contextlib
import hashlib
import io
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import export

from experiments.experiment import prepare
from experiments.predictor import load
from experiments.restored import logits_of
from experiments.settings.make import make
from experiments.settings.specs import AutoencoderSpec
from experiments.stored import chosen_checkpoint, config_of, notes_of, result_of, state_of
from jaxrec.data.transforms import unit_range
from jaxrec.engine import manifest
from jaxrec.engine.program import state_template
from jaxrec.errors import InputError, reason
from jaxrec.layers import plain
from jaxrec.output.workdir import versions
from jaxrec.tasks.average import averaged
from jaxrec.tasks.task import State
from jaxrec.types import Array, PyTree

PLATFORMS = ("cpu", "cuda", "tpu")
EXAMPLES = 5  # on which a program is compared with its run


class Program(NamedTuple):
    """A function that a run goes by.

    Attributes:
      name: what it does: predict, encode, decode, generate.
      network: that does it, for messages.
      call: arrays [N, ...], one for each of `inputs` -> one array [N, ...]. It holds the weights, on the host.
      inputs: what each is called, and its type and shape without N.
      example: such arrays.
      expected: what the run itself says to `example`.
    """

    name: str
    network: str
    call: Callable[..., Array]
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    example: Sequence[np.ndarray]
    expected: np.ndarray

    def error(self, found: np.ndarray) -> float:
        """The largest difference of what was found for `example`, over the largest expected where that is above 1."""
        far = np.max(np.abs(np.asarray(found, np.float64) - self.expected))
        return float(far / max(1, np.max(np.abs(self.expected))))


def programs_of(folder: pathlib.Path, what: str, *, calibrated: bool = False) -> tuple[list[Program], dict[str, Any]]:
    """The programs of a finished run, and what there is to say about it.

    A recogniser's is predict; of a run that makes images generate; of an autoencoder encode and decode. Where the run
    keeps a moving average, that goes into them. The data of a run that is no recogniser's are read, as by `sample`.

    Args:
      folder: of the run.
      what: names it, as the user knows it, in what this raises.
      calibrated: divide logits by the temperature of `launch.py calibrate`.

    Returns:
      The programs; and {"experiment", "classes", "image": [H, W, C], "temperature", "step", "metrics" by split,
      "manifest": SHA-256 of that of the checkpoint, "versions"}.

    Raises:
      InputError: there is no such run, it is not finished, its checkpoint is not as it was written, it was not
        calibrated where that is asked for, has diverged, or is of an experiment that makes no images.
    """
    with chosen_checkpoint(folder, what) as (_, step):
        result = result_of(folder)
    if result is None:
        raise InputError(f"{what} = '{folder}': that run is not finished. Let the same command go on, then export it.")
    config = config_of(folder, what)
    recogniser = config["experiment"] == "classify"
    if calibrated and not recogniser:
        raise InputError(f"--calibrated: a run of '{config['experiment']}' has no probabilities. Leave it out.")
    programs, more = _predict(folder, what, calibrated) if recogniser else _makers(folder, what, config)
    file = folder / "checkpoints" / str(step) / manifest.NAME
    about = {"step": step, "manifest": hashlib.sha256(file.read_bytes()).hexdigest(), "metrics": result["metrics"]}
    about |= {"experiment": config["experiment"], "classes": list(notes_of(folder, what)["classes"]), **more}
    return programs, {**about, "versions": versions()}


def serialized(program: Program) -> bytes:
    """The program for all of `PLATFORMS` and for any N, as `jax.export.deserialize` reads it."""
    (size,) = export.symbolic_shape("N")
    inputs = [jax.ShapeDtypeStruct((size, *each.shape), each.dtype) for each in program.inputs.values()]
    return bytes(export.export(jax.jit(program.call), platforms=PLATFORMS)(*inputs).serialize())


def answers(stored: bytes, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """What a stored program says, here."""
    return np.asarray(jax.jit(export.deserialize(bytearray(stored)).call)(*inputs))


def as_onnx(program: Program) -> tuple[bytes, float]:
    """The program as an ONNX model, and how far onnxruntime's answers to `example` are from the run's.

    Raises:
      InputError: the extra `onnx` is not installed, or the converter cannot express the network.
    """
    for name in ("jax2onnx", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # of what is missing for libraries that are not used here
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ModuleNotFoundError:
        raise InputError("--onnx needs jax2onnx and onnxruntime: pip install -e '.[onnx]'.") from None
    inputs = [jax.ShapeDtypeStruct(("N", *each.shape), each.dtype) for each in program.inputs.values()]
    try:
        with plain(), contextlib.redirect_stdout(io.StringIO()):  # it knows no forms by platform, and is talkative
            model = to_onnx(program.call, inputs, input_names=list(program.inputs)).SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, dict(zip(program.inputs, program.example, strict=True)))
    except Exception as error:  # of many kinds, by what it meets
        why = f"jax2onnx cannot express '{program.name}' of {program.network} ({reason(error)[:200]})"
        raise InputError(f"--onnx: {why}. Leave --onnx out.") from error
    return model, program.error(found)


def _predict(folder: pathlib.Path, what: str, calibrated: bool) -> tuple[list[Program], dict[str, Any]]:
    """Images to probabilities, scaled inside; and what there is to say besides."""
    predictor = load(folder, what=what)
    config, notes = config_of(folder, what), notes_of(folder, what)
    logits_of_images, state = logits_of(config, notes), jax.device_get(averaged(state_of(folder, what)[0]))
    rng, shape = np.random.default_rng(0), (EXAMPLES, *predictor.shape)
    bytes_ = predictor.unit_range  # else it has learned from floats, and takes these
    image = rng.integers(0, 256, shape, np.uint8) if bytes_ else rng.normal(size=shape).astype(np.float32)
    expected = predictor(image, calibrated=calibrated)
    temperature = predictor.temperature if calibrated else None

    def predict(image: Array) -> Array:
        logits = logits_of_images(state, image)
        logits = logits / temperature if temperature else logits
        return jax.nn.sigmoid(logits) if predictor.several else jax.nn.softmax(logits)

    inputs = {"image": jax.ShapeDtypeStruct(predictor.shape, image.dtype)}
    program = Program("predict", config["model"]["name"], predict, inputs, [image], expected)
    return [program], {"image": list(predictor.shape), "temperature": temperature}


def _makers(folder: pathlib.Path, what: str, config: Mapping[str, Any]) -> tuple[list[Program], dict[str, Any]]:
    """What makes images: of keys, or of an autoencoder's codes; and what there is to say besides."""
    experiment, _, parallel = prepare(config)
    with chosen_checkpoint(folder, what) as (checkpoints, step):
        state = checkpoints.restore(state_template(experiment.task, experiment.train, parallel), step)
    state = jax.device_get(averaged(state))
    batch = jax.eval_shape(experiment.train.fetch, experiment.train.resident, experiment.train.host(0))
    shape = batch["image"].shape[1:]
    if config["experiment"] == "autoencode":
        programs = _halves(make(AutoencoderSpec, config["model"])(shape=shape), state.variables, shape)
    elif experiment.generate:
        programs = [_generate(experiment.generate, state, len(experiment.conditions), config)]
    else:
        raise InputError(f"{what} = '{folder}': a run of '{config['experiment']}' neither recognises nor makes images.")
    if not all(np.isfinite(program.expected).all() for program in programs):
        raise InputError(f"{what} = '{folder}': what it makes is not finite, it has diverged. Take another run.")
    return programs, {"image": list(shape)}


def _halves(network: nn.Module, variables: PyTree, shape: Sequence[int]) -> list[Program]:
    """The encoder, of images to codes, and the decoder, of codes to images, of an autoencoder."""

    def encode(image: Array) -> Array:
        return network.apply(variables, unit_range({"image": image})["image"], method="encode")

    def decode(code: Array) -> Array:
        return jax.nn.sigmoid(network.apply(variables, code, method="decode"))

    def whole(image: Array) -> tuple[Array, Array]:
        outputs = network.apply(variables, image, train=False)
        return outputs["code"], jax.nn.sigmoid(outputs["logits"])

    image = np.random.default_rng(0).integers(0, 256, (EXAMPLES, *shape), np.uint8)
    code, made = jax.device_get(jax.jit(whole)(image.astype(np.float32) / 255))
    name, codes = type(network).__name__, jax.ShapeDtypeStruct(code.shape[1:], code.dtype)
    return [
        Program("encode", name, encode, {"image": jax.ShapeDtypeStruct(tuple(shape), jnp.uint8)}, [image], code),
        Program("decode", name, decode, {"code": codes}, [code], made),
    ]


def _generate(make_images: Callable[..., Array], state: State, classes: int, config: Mapping[str, Any]) -> Program:
    """Images of keys, and of labels where there are `classes`: a key makes the image that it does in `sample`."""

    def generate(key: Array, label: Array | None = None) -> Array:
        return make_images(state, jax.random.wrap_key_data(key), label)

    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), np.arange(EXAMPLES, dtype=np.uint32))
    label = np.arange(EXAMPLES, dtype=np.int32) % max(1, classes)
    more = [label] if classes else []
    data = np.asarray(jax.random.key_data(keys))
    example = dict(zip(("key", "label"), [data, *more], strict=False))
    inputs = {name: jax.ShapeDtypeStruct(rows.shape[1:], rows.dtype) for name, rows in example.items()}
    expected = np.asarray(jax.jit(make_images)(state, keys, *(more or [None])))
    network = next((config[name]["name"] for name in ("generator", "model") if name in config), config["experiment"])
    return Program("generate", network, generate, inputs, list(example.values()), expected)
