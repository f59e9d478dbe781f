"""Metrics that merge exactly, and evaluation that is exact for every batch size and device count."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxrec import losses, metrics
from jaxrec.data.batches import Batches, eval_batches, train_batches
from jaxrec.engine.program import compile_task
from jaxrec.errors import InputError
from jaxrec.metrics import Mean
from jaxrec.models import CNN
from jaxrec.sharding import data_parallel
from jaxrec.tasks.one_loss import from_loss

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


@pytest.mark.parametrize("shape", [(), (8, 1), (1, 8), (8, 8), (8, 4, 4), (4,), (0,)], ids=str)
@pytest.mark.parametrize("means", [metrics.means, jax.jit(metrics.means)], ids=["plain", "jit"])
def test_values_that_are_not_one_for_each_example_are_refused_by_name(means, shape):
    values = {"accuracy": np.ones(8, bool), "pixel_loss": np.ones(shape, np.float32)}
    kind = re.escape(f"float32{list(shape)}")
    with pytest.raises(InputError, match=rf"^The metric 'pixel_loss' is {kind}, .* each of the 8 examples .* \[8\]\. "):
        means(values, np.ones(8, bool))


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (np.float32(1), "Do not average over the batch"),
        (1.0, "is a float, .* Do not average over the batch"),
        (np.ones((8, 1)), re.escape("jnp.mean(values, axis=(1,))")),
        (np.ones((8, 4, 4)), re.escape("jnp.mean(values, axis=(1, 2))")),
        (np.ones((4, 8)), "Its first axis has to be the batch's"),
        ([1.0] * 8, "is a list, .* Return an array"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(np.shape(value)),
)
def test_a_refusal_says_what_to_do(value, advice):
    with pytest.raises(InputError, match=advice):
        metrics.means({"loss": value}, np.ones(8, bool))


@pytest.mark.parametrize(("values", "kind"), [(np.ones(8), r"float64\[8\]"), (None, "a NoneType"), ([1], "a list")])
def test_a_loss_that_returns_no_mapping_is_told_to(values, kind):
    with pytest.raises(InputError, match=rf"returned {kind}\. Return {{'loss': values}}"):
        metrics.means(values, np.ones(8, bool))


def test_a_value_that_is_required_is_missed_by_name():
    values = {"nll": np.ones(8), "kl": np.ones(8)}
    with pytest.raises(InputError, match=r"^'loss' is missing: a loss returned only 'nll', 'kl'\.$"):
        metrics.means(values, np.ones(8, bool), required=("nll", "loss"))
    with pytest.raises(InputError, match="returned only nothing"):
        metrics.per_example({}, np.ones(8, bool), required=("loss",))
    assert metrics.per_example(values, np.ones(8, bool), required=("nll",)) is values


def test_a_mask_is_one_value_for_each_example():
    with pytest.raises(InputError, match=r"^A mask is \[B\], .* bool\[8, 1\]"):
        metrics.means({"loss": np.ones(8)}, np.ones((8, 1), bool))


@pytest.mark.parametrize("dtype", [bool, np.int32, np.uint8, jnp.bfloat16])
def test_values_of_any_number_type_are_averaged(dtype):
    values = jnp.asarray([1, 0, 1, 1], dtype)
    assert metrics.compute([metrics.means({"right": values}, np.array([True, True, True, False]))]) == {"right": 2 / 3}


def by_class(correct: jax.Array, label: jax.Array, mask: jax.Array, classes: int = 3) -> Mean:
    """The accuracy of each class: an array of means, each over examples of its own."""
    own = jax.nn.one_hot(label, classes, dtype=bool) & mask[:, None]  # [B, K]
    return Mean(jnp.sum(own & correct[:, None], axis=0), jnp.sum(own, axis=0))


def test_a_mean_may_be_an_array_with_a_count_for_each_entry_or_for_all():
    rng = np.random.default_rng(0)
    correct, label = rng.random(90) < 0.6, rng.integers(0, 2, 90)  # no example is of class 2
    values = rng.normal(size=(90, 2, 2))
    parts = [
        {
            "by_class": by_class(correct[rows], label[rows], np.ones(len(rows), bool)),
            "of_all": Mean(values[rows].sum(0), len(rows)),
        }
        for rows in np.split(np.arange(90), [1, 30, 77])
    ]
    result = metrics.compute(parts)
    wanted = [correct[label == 0].mean(), correct[label == 1].mean(), np.nan]
    np.testing.assert_array_equal(result["by_class"], wanted)
    np.testing.assert_allclose(result["of_all"], values.mean(0), rtol=1e-12)
    assert all(type(array) is np.ndarray and array.dtype == np.float64 for array in result.values())


def test_parts_of_an_array_lose_no_digits():
    one, large = (Mean(np.full(2, total, np.float32), np.float32(1)) for total in (1, 2**24))
    np.testing.assert_array_equal(
        metrics.compute([{"x": part} for part in (large, one, one, one)])["x"], (2**24 + 3) / 4
    )


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_an_array_of_means_adds_over_devices(parallel):
    rng = np.random.default_rng(0)
    batch = {"correct": rng.random(16) < 0.6, "label": rng.integers(0, 3, 16), "mask": np.arange(16) < 13}

    def step(state, batch, key):
        return {"by_class": by_class(batch["correct"], batch["label"], batch["mask"])}

    merged = jax.jit(data_parallel(parallel=parallel).spread(step))({}, batch, jax.random.key(0))
    correct, label = (batch[name][batch["mask"]] for name in ("correct", "label"))
    wanted = [correct[label == index].mean() for index in range(3)]
    np.testing.assert_allclose(metrics.compute([merged])["by_class"], wanted, rtol=1e-12)


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
