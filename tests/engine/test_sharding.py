"""The same task on other devices, by other rules and under pmap learns the same."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import losses, sharding
from jaxrec.data import sources
from jaxrec.data.batches import train_batches
from jaxrec.data.transforms import unit_range
from jaxrec.engine.program import compile_task, state_template
from jaxrec.errors import InputError
from jaxrec.metrics import Mean
from jaxrec.models import CNN, MLP
from jaxrec.sharding import data_parallel
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State, Task, descend

STEPS = 20

# way -> (devices, how data_parallel spreads over them)
WAYS = {
    "one device": (1, {}),
    "jit": (8, {}),
    "fsdp": (8, {"rule": "fsdp"}),
    "pmap": (8, {"parallel": "pmap"}),
}


@functools.cache
def learned(way: str, norm: str):
    """(losses of the steps, last state on the host, last state where it lies) of 20 steps on real images."""
    data = sources.digits()
    arrays = {"image": data.image, "label": data.label}
    batches = train_batches(arrays, batch_size=32, ids=data.splits["train"], transform=unit_range)
    # The dense kernel of 256 x 10 is large enough for fsdp to split it.
    model = CNN(widths=(16,), hidden=(), padding="SAME", norm=norm)
    task = from_loss(model, losses.softmax_cross_entropy, optax.sgd(0.1, momentum=0.9))
    devices, spread = WAYS[way]
    program = compile_task(task, batches, parallel=data_parallel(jax.devices()[:devices], **spread))
    state, history = program.init(), []
    for step in range(STEPS):
        state, means = program.train(state, step, step + 1)
        history.append(means["loss"])
    return np.array(history), jax.device_get(state), state


@pytest.mark.parametrize(
    ("way", "norm"),
    [(way, norm) for norm in ("none", "batch") for way in ("jit", "fsdp", "pmap")],
)
def test_twenty_steps_learn_the_same_as_on_one_device(way, norm):
    history, state, _ = learned(way, norm)
    expected_history, expected, _ = learned("one device", norm)
    assert expected_history[-1] < 0.8 * expected_history[0]  # something was learned, so there is something to compare
    np.testing.assert_allclose(history, expected_history, rtol=1e-5)
    # Each device sums its own rows first: other roundings of float32, of size 1e-7 beside numbers of size 0.1 to 1.
    # Parameters near 0 hold that error too, hence the absolute part.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6), state, expected)
    assert state.step == STEPS
    assert bool(state.extra) == (norm == "batch")


def test_fsdp_splits_large_arrays_and_what_the_optimizer_keeps_of_them():
    _, _, state = learned("fsdp", "none")
    momentum = state.opt_state[0].trace
    for tree in (state.params, momentum):
        assert tree["Dense_0"]["kernel"].shape == (256, 10)
        assert {shard.data.shape for shard in tree["Dense_0"]["kernel"].addressable_shards} == {(32, 10)}
        assert {shard.data.shape for shard in tree["Dense_0"]["bias"].addressable_shards} == {(10,)}
    assert len({shard.device for shard in state.params["Dense_0"]["kernel"].addressable_shards}) == 8


def test_fsdp_gathers_parameters_for_the_gradient_and_nothing_else():
    """In the compiled text: each array that is split is gathered whole, once, and no activation is.

    A CPU adds gradients up by an all-reduce of which each device keeps its part; where XLA has a reduce-scatter, that.
    """
    arrays = {"image": np.zeros((16, 4, 4, 1), np.float32), "label": np.zeros(16, np.int32)}
    train, parallel = train_batches(arrays, batch_size=16), data_parallel(rule="fsdp")
    task = from_loss(MLP(widths=(96, 136), classes=24), losses.softmax_cross_entropy, optax.sgd(0.1))
    template = state_template(task, train, parallel)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, template)

    def step(state, rows, key):
        return parallel.spread(task.train_step)(state, train.fetch(train.resident, rows), key)[0]

    arguments = template, parallel.split(train.host(0)), jax.random.key(0)
    text = jax.jit(step, out_shardings=shardings).lower(*arguments).compile().as_text()
    gathered = sorted(re.findall(r"= f32\[([\d,]+)\]\S* all-gather\(", text))
    assert gathered == sorted(["16,96", "96,136", "136,24"])  # the kernels; biases are too small to be split
    assert "all-to-all" not in text
    assert "collective-permute" not in text


def test_replicate_keeps_every_array_whole_everywhere():
    _, _, state = learned("jit", "none")
    for leaf in jax.tree.leaves(state):
        assert {shard.data.shape for shard in leaf.addressable_shards} == {leaf.shape}
        assert len(leaf.sharding.device_set) == 8


@pytest.mark.parametrize(
    ("shape", "part"),
    [
        ((16, 128), (16, 16)),  # the largest dimension
        ((1000, 12), (125, 12)),
        ((1001, 16), (1001, 2)),  # the largest that 8 divides
        ((1001, 3), (1001, 3)),  # none
        ((8, 64), (8, 64)),  # too small to be worth it
        ((3, 3, 32, 64), (3, 3, 32, 8)),
        ((), ()),
    ],
    ids=str,
)
def test_fsdp_rule(shape, part, eight_devices):
    placement = sharding.fsdp(jax.ShapeDtypeStruct(shape, jnp.float32), eight_devices.mesh)
    assert placement.shard_shape(shape) == part


def test_a_batch_is_split_over_the_devices_in_order(eight_devices):
    rows = np.arange(16, dtype=np.int32)
    placed = eight_devices.split({"id": rows})["id"]
    parts = sorted(placed.addressable_shards, key=lambda shard: shard.device.id)
    assert [shard.data.tolist() for shard in parts] == rows.reshape(8, 2).tolist()


def test_a_subset_of_the_devices():
    some = jax.devices()[2:5]
    parallel = data_parallel(some)
    assert parallel.everywhere(np.zeros(3)).sharding.device_set == set(some)
    assert parallel.split(np.zeros(6)).sharding.device_set == set(some)
    parallel.check_batch(9)
    with pytest.raises(InputError):
        parallel.check_batch(8)


@pytest.mark.parametrize(("size", "advice"), [(30, [24, 32]), (33, [32, 40]), (3, [8])])
def test_a_batch_that_the_devices_do_not_divide_is_refused_with_sizes_that_work(size, advice, eight_devices):
    for good in advice:
        eight_devices.check_batch(good)
    with pytest.raises(InputError) as caught:
        eight_devices.check_batch(size)
    message = str(caught.value)
    assert message.startswith(f"batch_size = {size}:")
    assert "8 devices" in message
    assert "\n" not in message
    proposed = re.search(r"such as (.*)\.$", message)[1]
    assert [int(number) for number in re.findall(r"\d+", proposed)] == advice


def test_the_trainer_refuses_such_a_batch_before_it_compiles(eight_devices):
    arrays = {"image": np.zeros((12, 8, 8, 1), np.uint8), "label": np.zeros(12, np.int32)}
    with pytest.raises(InputError, match="batch_size = 12"):
        compile_task(Task(None, None, None), train_batches(arrays, batch_size=12), parallel=eight_devices)


def test_pmap_with_fsdp_is_refused():
    with pytest.raises(InputError, match="pmap replicates the state"):
        data_parallel(rule="fsdp", parallel="pmap")


def test_mean_over_devices_is_the_identity_where_a_step_is_global():
    tree = {"a": jnp.arange(3.0)}
    assert sharding.mean_over_devices(tree) is tree
    np.testing.assert_array_equal(jax.jit(sharding.mean_over_devices)(tree)["a"], [0, 1, 2])


def pmapped(train_step, state, value):
    """The state after a step under pmap on eight devices, each of which has one row of `value`."""
    spread = data_parallel(parallel="pmap").spread(train_step)
    return jax.jit(spread)(state, {"value": value}, jax.random.key(0))[0]


def test_pmap_refuses_a_gradient_that_is_not_averaged():
    tx, value = optax.sgd(1.0), np.arange(8, dtype=np.float32)

    def objective(params, batch):
        return jnp.mean(jnp.square(params["w"] - batch["value"])) / 2

    def by_hand(state, batch, key, mean=lambda grads: grads):
        grads = mean(jax.grad(objective)(state.params, batch))
        updates, opt_state = tx.update(grads, state.opt_state)
        return state.replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state), {}

    params = {"w": jnp.zeros(())}
    state = State(jnp.zeros((), jnp.int32), params, tx.init(params), {})
    with pytest.raises(InputError, match=r"each device finds a params/w of its own.*descend"):
        pmapped(by_hand, state, value)
    averaged = pmapped(functools.partial(by_hand, mean=sharding.mean_over_devices), state, value)
    np.testing.assert_allclose(averaged.params["w"], value.mean())

    def descends(state, batch, key):
        gradient = jax.grad(lambda params: (objective(params, batch), None), has_aux=True)
        params, opt_state, _, _ = descend(gradient, tx, state.params, state.opt_state)
        return state.replace(params=params, opt_state=opt_state), {}

    np.testing.assert_allclose(pmapped(descends, state, value).params["w"], value.mean())


def test_under_pmap_what_is_collected_merges_as_its_collection_says():
    """Batch statistics by their mean; a counter, equal everywhere, as it is; a queue of features not at all."""
    value = np.arange(8, dtype=np.float32)

    def collects(what):
        def step(state, batch, key):
            found = {
                "batch_stats": {"mean": batch["value"].mean()},
                "counter": {"steps": state.extra["counter"]["steps"] + 1},
                "queue": {"last": batch["value"]},
            }
            return state.replace(extra={**state.extra, **{name: found[name] for name in what}}), {}

        return step

    extra = {
        "batch_stats": {"mean": jnp.zeros(())},
        "counter": {"steps": jnp.int32(4)},
        "queue": {"last": jnp.zeros(1)},
    }
    state = State(jnp.zeros((), jnp.int32), {}, {}, extra)
    with pytest.warns(UserWarning, match="each device normalises its part of the batch"):
        new = pmapped(collects(["batch_stats", "counter"]), state, value)
    np.testing.assert_allclose(new.extra["batch_stats"]["mean"], value.mean())
    assert new.extra["counter"]["steps"] == 5
    assert new.extra["counter"]["steps"].dtype == jnp.int32
    with pytest.raises(InputError, match="each device finds a extra/queue/last of its own"):
        pmapped(collects(["queue"]), state, value)


def test_pmap_gives_each_device_noise_of_its_own():
    """Dropout under pmap must not drop the same on every device."""

    def step(state, batch, key):
        return {"noise": Mean(jax.random.uniform(key) * jnp.eye(8)[batch["device"][0]], jnp.ones(()))}

    spread = data_parallel(parallel="pmap").spread(step)
    noise = spread({}, {"device": np.arange(8)}, jax.random.key(0))["noise"].total
    assert len(set(noise.tolist())) == 8
