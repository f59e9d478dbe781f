"""A step taken in parts, other losses for training than for evaluation, and several views of an image."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import losses
from jaxrec.augment import views
from jaxrec.data.batches import train_batches
from jaxrec.engine.program import compile_task
from jaxrec.errors import InputError
from jaxrec.metrics import Mean
from jaxrec.models import CNN
from jaxrec.sharding import data_parallel
from jaxrec.tasks.gradients import accumulated
from jaxrec.tasks.one_loss import from_loss


def batch_of(examples: int, masked: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(examples, 6, 6, 1)).astype(np.float32),
        "label": rng.integers(0, 10, examples),
        "mask": np.arange(examples) >= masked,
    }


@pytest.mark.parametrize("masked", [0, 3])
def test_one_part_and_four_parts_take_the_same_step(masked):
    model, batch = CNN(widths=(4,), hidden=(8,)), batch_of(16, masked)
    schedule = optax.linear_schedule(0.1, 0.0, 3)
    states = {}
    for parts in (1, 4):
        task = from_loss(
            model, losses.softmax_cross_entropy, optax.sgd(schedule, momentum=0.9), gradient=accumulated(parts)
        )
        state, step = task.init(jax.random.key(0), batch), jax.jit(task.train_step)
        for _ in range(3):
            state, metrics = step(state, batch, jax.random.key(1))
        states[parts] = (state, {name: metric.compute() for name, metric in metrics.items()})
    one, four = states[1], states[4]
    assert int(four[0].step) == 3  # optimizer steps, which the schedule counts
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one[0], four[0])
    first, second = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state.params)]) for state in (one[0], four[0])
    )
    assert np.linalg.norm(first - second) <= 1e-6 * np.linalg.norm(first)
    for name, value in one[1].items():
        np.testing.assert_allclose(four[1][name], value, rtol=1e-5)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_parts_are_spread_over_devices(digits, one_device, parallel):
    arrays = {"image": digits.image.astype(np.float32) / 255, "label": digits.label}
    train = train_batches(arrays, batch_size=32)
    results = []
    for devices, parts in ((one_device, 1), (data_parallel(parallel=parallel), 2)):
        task = from_loss(
            CNN(widths=(4,), hidden=()), losses.softmax_cross_entropy, optax.adam(1e-2), gradient=accumulated(parts)
        )
        program = compile_task(task, train, parallel=devices)
        results.append(program.train(program.init(), 0, 3))
    (one, one_means), (many, many_means) = results
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one.params, many.params)
    np.testing.assert_allclose(many_means["loss"], one_means["loss"], rtol=1e-5)


def test_batch_statistics_go_through_the_parts_in_turn():
    model, batch = CNN(widths=(4,), hidden=(), norm="batch"), batch_of(8)
    task = from_loss(model, losses.softmax_cross_entropy, optax.sgd(0.0), gradient=accumulated(2))
    state, _ = jax.jit(task.train_step)(task.init(jax.random.key(0), batch), batch, jax.random.key(1))
    expected = task.init(jax.random.key(0), batch).extra
    for part in (0, 1):  # every second example
        variables = {"params": state.params, **expected}
        _, expected = model.apply(variables, batch["image"][part::2], train=True, mutable=["batch_stats"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.extra, expected)


def test_each_part_draws_by_a_key_of_its_own():
    """The gradient at each weight is what the part of its row has drawn."""

    def objective(weights, extra, batch, key):
        return jnp.sum(weights[batch["row"]]) * jax.random.uniform(key), (extra, {})

    drawn, _ = accumulated(4)(objective)(jnp.ones(8), {}, {"row": jnp.arange(8)}, jax.random.key(0))
    np.testing.assert_array_equal(drawn[:4], drawn[4:])  # every fourth row is of one part
    assert len(set(drawn.tolist())) == 4


def test_parts_that_do_not_divide_the_batch_are_refused():
    model, batch = CNN(widths=(4,)), batch_of(16)
    task = from_loss(model, losses.softmax_cross_entropy, optax.sgd(0.1), gradient=accumulated(3))
    with pytest.raises(InputError, match="accumulate = 3 does not divide a batch of 16"):
        jax.eval_shape(task.train_step, jax.eval_shape(task.init, jax.random.key(0), batch), batch, jax.random.key(1))


def test_training_minimises_its_own_loss_and_evaluation_does_not_know_it():
    def tripled(logits, batch):
        values = losses.softmax_cross_entropy(logits, batch)
        return {**values, "loss": 3 * values["loss"]}

    model, batch = CNN(widths=(), hidden=()), batch_of(8)
    plain = from_loss(model, losses.softmax_cross_entropy, optax.sgd(0.3))
    other = from_loss(model, losses.softmax_cross_entropy, optax.sgd(0.1), train_loss=tripled)
    start = plain.init(jax.random.key(0), batch)
    (first, one), (second, three) = (task.train_step(start, batch, jax.random.key(1)) for task in (plain, other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), first.params, second.params)
    np.testing.assert_allclose(three["loss"].compute(), 3 * one["loss"].compute(), rtol=1e-6)
    measured = other.eval_step(start, batch, jax.random.key(1))["loss"].compute()
    np.testing.assert_allclose(measured, one["loss"].compute(), rtol=1e-6)


def test_an_evaluation_averages_over_views_and_adds_statistics():
    def total(logits, batch):
        return {"total": Mean(jnp.sum(logits), jnp.float32(1))}

    model, batch = CNN(widths=(4,), hidden=()), batch_of(4)
    task = from_loss(model, losses.softmax_cross_entropy, optax.sgd(0.1), views=views.mirror, statistics=total)
    state = task.init(jax.random.key(0), batch)
    logits = [model.apply({"params": state.params}, np.flip(batch["image"], axes), train=False) for axes in ((), 2)]
    metrics = task.eval_step(state, batch, jax.random.key(1))
    np.testing.assert_allclose(metrics["total"].compute(), np.sum(logits) / 2, rtol=1e-5)
    expected = losses.softmax_cross_entropy(sum(logits) / 2, batch)["loss"].mean()
    np.testing.assert_allclose(metrics["loss"].compute(), expected, rtol=1e-5)


def test_shifted_views():
    image = np.arange(16.0).reshape(1, 4, 4, 1)
    seen = [np.asarray(view)[0, ..., 0] for view in views.mirror_and_shift(image)]
    assert len(seen) == 6
    np.testing.assert_array_equal(seen[0], image[0, ..., 0])
    np.testing.assert_array_equal(seen[2], np.pad(image[0, ..., 0], 1, mode="edge")[2:, 2:])
    np.testing.assert_array_equal(seen[4], np.pad(image[0, ..., 0], 1, mode="edge")[:-2, :-2])
    for straight, mirrored in zip(seen[::2], seen[1::2], strict=True):
        np.testing.assert_array_equal(mirrored, straight[:, ::-1])
