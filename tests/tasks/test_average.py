"""The moving average of a task's state, against the sums it stands for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from jaxrec import losses
from jaxrec.data.batches import eval_batches, train_batches
from jaxrec.engine.program import compile_task
from jaxrec.errors import InputError
from jaxrec.metrics import Mean
from jaxrec.models import CNN
from jaxrec.tasks.average import averaged, with_average
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State, Task


def counting(key, batch) -> State:
    return State(jnp.zeros((), jnp.int32), {"x": jnp.float32(100)}, {}, {"seen": {"y": jnp.float32(100)}})


def count(state, batch, key):
    value = (state.step + 1).astype(jnp.float32)
    return state.replace(step=state.step + 1, params={"x": value}, extra={"seen": {"y": -value}}), {}


def read(state, batch, key):
    return {"x": Mean(state.params["x"], 1), "y": Mean(state.extra["seen"]["y"], 1)}


COUNTING = Task(counting, count, read)


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_average_is_the_recursion(decay):
    task = with_average(COUNTING, decay)
    state, expected = task.init(None, None), None
    for t in range(1, 31):
        state, _ = task.train_step(state, None, None)
        keep = min(decay, (t - 1) / (t + 9))
        expected = keep * (expected or 0) + (1 - keep) * t  # keeps nothing of the initial 100
    metrics = {name: metric.compute() for name, metric in task.eval_step(state, None, None).items()}
    assert metrics.keys() == {"x", "y", "ema_x", "ema_y"}
    assert (metrics["x"], metrics["y"]) == (30, -30)
    np.testing.assert_allclose(metrics["ema_x"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["ema_y"], -expected, rtol=1e-5)


def test_of_several_networks_one_can_be_averaged_alone():
    def both(key, batch) -> State:
        one = {"params": {"x": jnp.float32(0)}, "extra": {"y": jnp.float32(0)}}
        trees = {kind: {"made": tree, "judged": tree} for kind, tree in one.items()}
        return State(jnp.zeros((), jnp.int32), trees["params"], {}, trees["extra"])

    def step(state, batch, key):
        rise = functools.partial(jax.tree.map, lambda leaf: leaf + 1)
        return state.replace(step=state.step + 1, params=rise(state.params), extra=rise(state.extra)), {}

    def read(state, batch, key):
        trees = {"params": state.params, "extra": state.extra}
        return {name: Mean(leaf, 1) for name, leaf in flatten_dict(trees, sep="/").items()}

    task = with_average(Task(both, step, read), 0.5, submodule="made")
    state = task.init(None, None)
    for _ in range(3):
        state, _ = task.train_step(state, None, None)
    found = {name: float(metric.compute()) for name, metric in task.eval_step(state, None, None).items()}
    mean = 3 * (1 - 2 / 12) + (2 / 12) * (2 * (1 - 1 / 11) + 1 / 11)
    for kind, leaf in (("params", "x"), ("extra", "y")):
        assert found[f"{kind}/made/{leaf}"] == found[f"{kind}/judged/{leaf}"] == found[f"ema_{kind}/judged/{leaf}"] == 3
        np.testing.assert_allclose(found[f"ema_{kind}/made/{leaf}"], mean, rtol=1e-6)


def test_training_is_what_it_is_without_and_batch_statistics_are_averaged(digits, eight_devices):
    arrays = {"image": digits.image.astype(np.float32) / 255, "label": digits.label}
    train = train_batches(arrays, batch_size=16, ids=digits.splits["train"])
    test = eval_batches(arrays, batch_size=16, ids=digits.splits["test"][:40])
    task = from_loss(CNN(widths=(4,), hidden=(), norm="batch"), losses.softmax_cross_entropy, optax.sgd(0.1))
    plain, averaged = (compile_task(t, train, parallel=eight_devices) for t in (task, with_average(task, 0.8)))
    first, _ = plain.train(plain.init(), 0, 5)
    second, _ = averaged.train(averaged.init(), 0, 5)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(first.params), jax.device_get(second.params))
    results = averaged.evaluate(second, test)
    # What "ema_" measures is the plain task at the averaged parameters and statistics.
    average = first.replace(params=second.extra["ema"]["params"], extra=second.extra["ema"]["extra"])
    for name, value in plain.evaluate(average, test).items():
        np.testing.assert_allclose(results[f"ema_{name}"], value, rtol=1e-6)
    for name, value in plain.evaluate(first, test).items():
        np.testing.assert_allclose(results[name], value, rtol=1e-6)
    assert results["ema_loss"] != results["loss"]


def test_what_is_no_floating_point_number_is_the_newest_value():
    """A counter among the parameters, integer codes among what is collected: an average would be none of them."""

    def start(key, batch):
        return State(jnp.zeros((), jnp.int32), {"x": jnp.float32(0), "n": jnp.int32(0)}, {}, {"codes": jnp.arange(3)})

    def step(state, batch, key):
        params = {"x": state.params["x"] + 1, "n": state.params["n"] + 1}
        return state.replace(step=state.step + 1, params=params, extra={"codes": state.extra["codes"] * 2}), {}

    task = with_average(Task(start, step, lambda *_: {}), 0.5)
    state = task.init(None, None)
    for _ in range(3):
        state, _ = jax.jit(task.train_step)(state, None, None)
    average = averaged(state)
    assert (int(average.params["n"]), average.params["n"].dtype) == (3, jnp.int32)
    np.testing.assert_array_equal(average.extra["codes"], np.arange(3) * 8)
    assert 0 < float(average.params["x"]) < 3


def test_an_average_of_an_average_is_refused():
    def start(key, batch):
        return State(jnp.zeros((), jnp.int32), {"x": jnp.float32(0)}, {}, {})

    task = with_average(with_average(Task(start, None, None), 0.5), 0.9)
    with pytest.raises(InputError, match="a state keeps one moving average"):
        task.init(None, None)
    with pytest.raises(InputError, match=r"decay = 2\): allowed is a number from 0 to below 1"):
        with_average(task, 2)
