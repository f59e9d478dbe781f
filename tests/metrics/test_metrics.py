"""Metrics that merge exactly, and evaluation that is exact for every batch size and device count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxrec import losses, metrics
from jaxrec.data.batches import Batches, eval_batches, train_batches
from jaxrec.engine.program import compile_task
from jaxrec.metrics import Mean
from jaxrec.models import CNN
from jaxrec.sharding import data_parallel
from jaxrec.tasks.task import from_loss

# One program evaluates in many batch sizes here.
pytestmark = pytest.mark.filterwarnings("ignore:eval_step is compiled once more")


class Linear(nn.Module):
    """The smallest recogniser: the logits are a linear map of the pixels."""

    classes: int = 3

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dense(self.classes)(image.reshape(len(image), -1))


# Compiled for a CPU, mask * value becomes a selection: uncompiled, the product would show itself by a NaN.
@pytest.mark.parametrize("means", [metrics.means, jax.jit(metrics.means)], ids=["plain", "jit"])
@pytest.mark.parametrize("padding", [0.0, np.nan, np.inf])
def test_means_look_at_unmasked_rows_alone(padding, means):
    mask = np.array([True, False, True, True, False])
    loss = np.where(mask, [1.0, 0, 2.5, -0.5, 0], padding).astype(np.float32)
    accuracy = np.where(mask, [1.0, 0, 0, 1, 0], padding).astype(np.float32)
    result = means({"loss": loss, "accuracy": accuracy}, mask)
    assert metrics.compute([result]) == {"loss": 3.0 / 3, "accuracy": 2 / 3}


def test_means_of_half_precision_values_are_summed_in_float32():
    values = jnp.ones(1000, jnp.bfloat16)  # a bfloat16 sum stops at 256
    assert metrics.compute([metrics.means({"loss": values}, np.ones(1000, bool))]) == {"loss": 1.0}


def test_the_mean_of_nothing_is_nan():
    result = metrics.compute([metrics.means({"loss": np.ones(2, np.float32)}, np.zeros(2, bool))])
    assert np.isnan(result["loss"])


def test_parts_merge_exactly():
    rng = np.random.default_rng(0)
    # Quarters: every sum is exact in float64, so any order of adding must give the very same number.
    values, sizes = rng.integers(-40, 40, 100) / 4, [1, 64, 5, 30]
    parts = [
        metrics.means({"loss": part.astype(np.float32)}, np.ones(len(part), bool))
        for part in np.split(values, np.cumsum(sizes)[:-1])
    ]
    assert metrics.compute(parts) == {"loss": values.mean()}
    assert metrics.compute(parts[::-1]) == {"loss": values.mean()}


def test_many_parts_lose_no_digits():
    one = {"loss": Mean(np.float32(1), np.float32(1))}
    large = {"loss": Mean(np.float32(2**24), np.float32(1))}  # 2**24 + 1 is not a float32
    assert metrics.compute([large, one, one, one]) == {"loss": (2**24 + 3) / 4}


def random_images(examples: int, side: int, classes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(examples, side, side, 1)).astype(np.float32)
    return {"image": image, "label": rng.integers(0, classes, examples).astype(np.int32)}


def numpy_evaluation(logits: np.ndarray, label: np.ndarray) -> dict[str, float]:
    logits = logits.astype(np.float64)
    top = logits.max(-1, keepdims=True)
    log_softmax = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    loss = -log_softmax[np.arange(len(label)), label].mean()
    return {"loss": float(loss), "accuracy": float((logits.argmax(-1) == label).mean())}


def poisoned(batches: Batches) -> Batches:
    """The same batches with padded rows of NaN images and impossible labels, the worst that padding may hold."""

    def fetch(resident, rows):
        batch = batches.fetch(resident, rows)
        image = jnp.where(batch["mask"][:, None, None, None], batch["image"], jnp.nan)
        return {**batch, "image": image, "label": jnp.where(batch["mask"], batch["label"], 99)}

    return batches._replace(fetch=fetch)


@functools.cache  # one compiled program for all batch sizes
def program_and_state(model: nn.Module, devices: int, parallel: str, examples: int, side: int):
    arrays = random_images(examples, side, model.classes)
    task = from_loss(model, losses.softmax_cross_entropy, optax.sgd(0.1))
    program = compile_task(
        task,
        train_batches(arrays, batch_size=2 * devices),  # evaluation has a batch size of its own
        parallel=data_parallel(jax.devices()[:devices], parallel=parallel),
    )
    state = program.init()
    return arrays, program, state, jax.device_get(state)


def assert_exact(arrays, program, state, expected: dict[str, float], batch_size: int) -> None:
    """Evaluates and holds the result against `expected`; where batches are padded, also with poisoned padding."""
    batches = eval_batches(arrays, batch_size=batch_size)
    for case in (batches, poisoned(batches)) if batches.examples % batch_size else (batches,):
        result = program.evaluate(state, case)
        assert result.keys() == expected.keys()
        # A count of right answers divided by the examples: exact. The loss is summed in float32 in each batch.
        assert result["accuracy"] == expected["accuracy"]
        np.testing.assert_allclose(result["loss"], expected["loss"], rtol=2e-6)


# Batch size 1 is for one device alone; on 3 and 8 the sizes are rounded up to what the devices divide.
@pytest.mark.parametrize(
    ("batch_size", "devices"),
    [(1, 1), (7, 1), (64, 1), (10_001, 1), (9, 3), (66, 3), (10_002, 3), (8, 8), (64, 8), (10_008, 8)],
)
def test_evaluation_of_10000_images_equals_numpy(batch_size, devices):
    arrays, program, state, host_state = program_and_state(Linear(), devices, "jit", 10_000, 2)
    layer = host_state.params["Dense_0"]
    logits = arrays["image"].reshape(10_000, -1).astype(np.float64) @ layer["kernel"] + layer["bias"]
    assert_exact(arrays, program, state, numpy_evaluation(logits, arrays["label"]), batch_size)


@pytest.mark.parametrize(
    ("batch_size", "devices", "parallel"),
    [(1, 1, "jit"), (258, 1, "jit"), (9, 3, "jit"), (64, 8, "jit"), (264, 8, "jit"), (64, 8, "pmap")],
)
def test_evaluation_of_a_network_equals_numpy(batch_size, devices, parallel):
    # Batch norm would notice padding if evaluation used the batch's statistics.
    model = CNN(widths=(4,), hidden=(), norm="batch")
    arrays, program, state, host_state = program_and_state(model, devices, parallel, 257, 8)
    variables = {"params": host_state.params, **host_state.extra}
    logits = jax.jit(lambda image: model.apply(variables, image, train=False))(arrays["image"])
    assert_exact(arrays, program, state, numpy_evaluation(np.asarray(logits), arrays["label"]), batch_size)


def test_one_compiled_step_evaluates_every_split_of_a_set():
    arrays = random_images(20, side=2, classes=3)
    task = from_loss(Linear(), losses.softmax_cross_entropy, optax.sgd(0.1))
    program = compile_task(task, train_batches(arrays, batch_size=8))
    state = program.init()
    splits = [eval_batches(arrays, batch_size=8, ids=np.arange(*part)) for part in ((0, 5), (5, 20))]
    parts = [program.evaluate(state, split) for split in (*splits, *splits)]
    whole = program.evaluate(state, eval_batches(arrays, batch_size=8))
    np.testing.assert_allclose((5 * parts[0]["loss"] + 15 * parts[1]["loss"]) / 20, whole["loss"], rtol=1e-6)
    assert program.compiled.count("eval_step") == 1
