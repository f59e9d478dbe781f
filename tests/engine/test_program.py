"""What a compiled task offers besides training: predictions, any measure, arrays that are no constants."""

import functools
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import losses
from jaxrec.data.batches import eval_batches, train_batches
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.hooks import stop_if_diverged
from jaxrec.engine.loop import fit
from jaxrec.engine.lowering import lower
from jaxrec.engine.program import compile_task
from jaxrec.errors import DivergedError, InputError
from jaxrec.metrics import Mean
from jaxrec.models import MLP
from jaxrec.sharding import Parallel, data_parallel
from jaxrec.tasks.average import with_average
from jaxrec.tasks.one_loss import from_apply, from_loss
from jaxrec.trees import paths

VALUES = np.arange(10, dtype=np.float32) - 4
TEACHER = np.arange(6000, dtype=np.float32).reshape(3, 2000)


def task_of(rate=0.1, *, teacher=None):
    """One parameter p; predicts p * value and twice the value as an integer; learns p = 3, or the teacher's sum."""
    target = 3.0 if teacher is None else teacher

    def start(key, batch):
        return jnp.ones(()), {}

    def apply(params, extra, batch, key, train):
        return {"product": params * batch["value"], "twice": (2 * batch["value"]).astype(jnp.int32)}, extra

    def loss(outputs, batch, *, params):
        return {"loss": jnp.broadcast_to(jnp.square(params - jnp.mean(target)), batch["mask"].shape)}

    return from_apply(start, apply, loss, optax.sgd(rate))


def program_of(task, **options):
    return compile_task(task, train_batches({"value": VALUES}, batch_size=8), log_every=5, **options)


@pytest.fixture(scope="module")
def program():
    return program_of(with_average(task_of(), 0.5))


def test_predictions_are_of_exactly_the_examples_in_their_order(program):
    """Three examples out of order, in batches of eight on eight devices: padding leaves no trace, types are kept."""
    state, _ = program.train(program.init(), 0, 3)
    ids = np.array([7, 2, 9])
    found = program.predict(state, eval_batches({"value": VALUES}, batch_size=8, ids=ids))
    average = float(state.extra["ema"]["params"])
    assert average != float(state.params)
    np.testing.assert_allclose(found["product"], average * VALUES[ids], rtol=1e-6)
    assert found["twice"].dtype == np.int32
    np.testing.assert_array_equal(found["twice"], 2 * VALUES[ids])


def test_a_task_that_predicts_nothing_says_so(one_device):
    program = program_of(task_of()._replace(predict_step=None), parallel=one_device)
    with pytest.raises(InputError, match="predicts nothing: give it a `predict_step`"):
        program.predict(program.init(), eval_batches({"value": VALUES}, batch_size=8))


def test_any_callable_measures_and_what_is_the_same_is_compiled_once(program):
    state, split = program.init(), eval_batches({"value": VALUES}, batch_size=8)
    before = len(program.compiled)

    def power(state, batch, key, exponent):
        kept = jnp.where(batch["mask"], batch["value"] ** exponent, 0)
        return {"power": Mean(jnp.sum(kept), jnp.sum(batch["mask"], dtype=jnp.float32))}

    class Measure:
        def __call__(self, state, batch, key):
            return power(state, batch, key, 3)

    for _ in range(3):  # a fresh callable each time
        assert program.evaluate(state, split, functools.partial(power, exponent=2)) == {"power": np.mean(VALUES**2)}
        cubes = program.evaluate(state, split, lambda state, batch, key: power(state, batch, key, 3))
        assert cubes == program.evaluate(state, split, Measure()) == {"power": np.mean(VALUES**3)}
    assert len(program.compiled) - before == 2


def test_measures_of_one_text_keep_their_own_arrays(program):
    state, split = program.init(), eval_batches({"value": VALUES}, batch_size=8)
    before = len(program.compiled)

    def shifted(by):
        count = jnp.float32(1)
        return lambda state, batch, key: {"found": Mean(by, count)}

    found = [program.evaluate(state, split, shifted(jnp.float32(by)))["found"] for by in (1, 2)]
    assert found == [1.0, 2.0]
    assert len(program.compiled) - before == 1


def test_a_metric_may_be_an_array(program):
    def by_row(state, batch, key):
        kept = jnp.where(batch["mask"], batch["value"], 0)
        return {"two": Mean(jnp.stack([jnp.sum(kept), jnp.sum(2 * kept)]), jnp.sum(batch["mask"], dtype=jnp.float32))}

    found = program.evaluate(program.init(), eval_batches({"value": VALUES}, batch_size=8), by_row)
    np.testing.assert_allclose(found["two"], [VALUES.mean(), 2 * VALUES.mean()])


def test_arrays_that_a_task_closes_over_are_no_constants_and_in_no_checkpoint(tmp_path, one_device):
    teacher = jnp.asarray(TEACHER)

    def text(teacher):
        lowered = lower(lambda x: x + jnp.mean(teacher), jnp.zeros(()), place=lambda tree: tree)
        np.testing.assert_allclose(lowered.compile()(jnp.zeros(())), np.mean(teacher), rtol=1e-6)
        return lowered.text

    assert len(text(teacher)) < 2000 < len(text(TEACHER))  # of numpy, it is written into the program
    assert text(teacher) == text(teacher + 1)

    program = program_of(task_of(teacher=teacher), parallel=one_device)
    state, _ = program.train(program.init(), 0, 200)
    np.testing.assert_allclose(state.params, TEACHER.mean(), rtol=1e-5)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(200, state)
        stored = paths(checkpoints.read(200))
    assert max(leaf.size for leaf in stored.values()) == 1


def test_what_is_closed_over_reaches_eight_devices_under_each_way():
    from jaxrec.sharding import data_parallel

    teacher, found = jnp.asarray(TEACHER), []
    for way in ({}, {"rule": "fsdp"}, {"parallel": "pmap"}):
        program = program_of(task_of(teacher=teacher), parallel=data_parallel(**way))
        found.append(float(program.train(program.init(), 0, 3)[0].params))
    np.testing.assert_allclose(found, found[0], rtol=1e-6)
    assert found[0] > 100


def test_a_learning_rate_that_is_an_array_is_an_input_of_the_program():
    """So that many rates, like many seeds, are one program in the cache of compiled ones."""

    def text(rate, seed):
        task, train = task_of(rate), train_batches({"value": VALUES}, batch_size=8, seed=seed)

        def step(state, rows, key):
            return task.train_step(state, train.fetch(train.resident, rows), key)

        state = jax.eval_shape(lambda: task.init(jax.random.key(0), train.fetch(train.resident, train.host(0))))
        return lower(step, state, train.host(0), jax.random.key(seed), place=lambda tree: tree).text

    assert text(jnp.asarray(0.1), 0) == text(jnp.asarray(0.2), 1)
    assert text(0.1, 0) != text(0.2, 0)


def test_other_batches_of_the_same_arrays_need_no_other_program(program):
    """Two folds are two runs of one compiled step: each that of a program compiled for it alone."""
    arrays = {"value": VALUES}
    whole = program_of(task_of())
    folds = [train_batches(arrays, batch_size=8, ids=ids, seed=3) for ids in (np.arange(8), np.arange(2, 10))]
    together = compile_task(task_of(), folds[0], log_every=5)
    for fold in folds:
        shared, _ = together.on(fold).train(together.init(), 0, 4)
        alone = compile_task(task_of(), fold, log_every=5)
        np.testing.assert_array_equal(shared.params, alone.train(alone.init(), 0, 4)[0].params)
    assert together.compiled == ["train_step", "init"]
    others = ({"value": VALUES + 1}, {}), (arrays, {"transform": lambda batch: batch})
    for other in (train_batches(values, batch_size=8, **options) for values, options in others):
        with pytest.raises(InputError, match=r"Program.on: these batches are of other arrays, or of \d+ examples"):
            whole.on(other)


class Product(NamedTuple):
    """A metric of the same arrays as a mean, and with a field that is no array."""

    total: jax.Array
    count: jax.Array
    power: int = 1

    @classmethod
    def merge(cls, parts):
        return parts[0]

    def compute(self):
        return float(self.total * self.count) ** self.power


jax.tree_util.register_pytree_node(
    Product, lambda metric: ((metric.total, metric.count), metric.power), lambda power, pair: Product(*pair, power)
)


def test_measures_of_one_text_and_other_metrics_are_not_taken_for_each_other(program):
    state, split = program.init(), eval_batches({"value": VALUES[:8]}, batch_size=8)

    def of(metric):
        return lambda state, batch, key: {"found": metric(jnp.sum(batch["value"]), jnp.sum(batch["mask"] * 1.0))}

    total = float(VALUES[:8].sum())
    found = [
        program.evaluate(state, split, of(metric))["found"]
        for metric in (Mean, Product, lambda *pair: Product(*pair, power=2))
    ]
    np.testing.assert_allclose(found, [total / 8, total * 8, (total * 8) ** 2])


def test_measures_that_call_the_host_are_not_taken_for_each_other(program):
    state, split = program.init(), eval_batches({"value": VALUES[:8]}, batch_size=8)

    def of(function):
        def measure(state, batch, key):
            called = jax.pure_callback(function, jax.ShapeDtypeStruct((), jnp.float32), jnp.sum(batch["value"]))
            return {"found": Mean(called, jnp.float32(1))}

        return measure

    found = [program.evaluate(state, split, of(function))["found"] for function in (np.sign, np.abs)]
    assert found == [np.sign(VALUES[:8].sum()), abs(VALUES[:8].sum())]


def test_passes_and_training_have_batches_of_their_own(program):
    """A pass over endless batches would show examples twice; training on a pass would come to batches of padding."""
    train, split = train_batches({"value": VALUES}, batch_size=8), eval_batches({"value": VALUES}, batch_size=8)
    for measure in (program.evaluate, program.predict):
        with pytest.raises(InputError, match=r"no end: make them of the same arrays by eval_batches"):
            measure(program.init(), train)
    with pytest.raises(InputError, match="end after one pass: make them of the same arrays by train_batches"):
        compile_task(task_of(), split)


def test_a_prediction_without_a_row_for_each_example_is_named(one_device):
    def predict(state, batch, key):
        return {"rows": batch["value"], "scale": state.params}

    program = program_of(task_of()._replace(predict_step=predict), parallel=one_device)
    with pytest.raises(InputError, match=r"a row for each of 8 examples; scale is \[\]"):
        program.predict(program.init(), eval_batches({"value": VALUES}, batch_size=8))


def test_an_array_of_train_metrics_that_diverged_is_said(one_device):
    """As of several seeds, of which one has diverged."""
    one = task_of()

    def train_step(state, batch, key):
        new, _ = one.train_step(state, batch, key)
        return new, {"loss": Mean(jnp.array([jnp.nan, 1.0]), jnp.float32(1))}

    program = program_of(one._replace(train_step=train_step), parallel=one_device)
    with pytest.raises(DivergedError, match="train/loss"):
        fit(program, steps=10, hooks=[stop_if_diverged])


def test_a_measure_that_gives_no_metrics_is_told_how_they_are_made(program):
    state, split = program.init(), eval_batches({"value": VALUES}, batch_size=8)
    for wrong in (lambda s, b, k: b["value"], lambda s, b, k: {"m": b["value"]}, lambda s, b, k: 1.0):
        with pytest.raises(InputError, match=r"gives .*wanted are metrics by name: jaxrec.metrics.means"):
            program.evaluate(state, split, wrong)


def test_a_state_of_another_model_is_refused_by_name(program):
    split = eval_batches({"value": VALUES}, batch_size=8)
    state = program.init()
    with pytest.raises(InputError, match=r"of another task: params is float32\[2\], wanted is float32\[\]"):
        program.evaluate(state.replace(params=jnp.zeros(2)), split)
    with pytest.raises(InputError, match="This state is of another task: step is missing"):
        program.predict({"params": state.params}, split)


def test_a_run_that_goes_on_with_nan_says_so_once(one_device):
    one = task_of()

    def train_step(state, batch, key):
        return one.train_step(state, batch, key)[0], {"loss": Mean(jnp.float32(jnp.nan), jnp.float32(1))}

    program = program_of(one._replace(train_step=train_step), parallel=one_device)
    with pytest.warns(UserWarning, match="Not all train metrics are finite in steps 0 to 5") as said:
        fit(program, steps=20)
    assert len(said) == 1


def test_what_is_lowered_needs_no_name():
    """A schedule of somebody's own may be a functools.partial."""
    times = functools.partial(lambda rate, step: rate * step, jnp.float32(3))
    assert lower(times, np.float32(0), place=lambda array: array).compile()(np.float32(2)) == 6


def test_every_program_of_a_gpu_adds_up_in_a_fixed_order(monkeypatch, one_device):
    card = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform="gpu")]))
    options, asked = Parallel(card, None, None).repeatable, []
    assert options
    assert data_parallel().repeatable == {}

    # XLA knows the options on a CPU too, and ignores them there.
    monkeypatch.setattr(Parallel, "repeatable", property(lambda _: asked.append("options") or options))
    program = program_of(task_of(), parallel=one_device)
    state = program.init()
    program.evaluate(state, eval_batches({"value": VALUES}, batch_size=8))
    assert asked == ["options"] * len(program.compiled) == ["options"] * 3


def test_what_is_no_task_batches_or_program_is_said():
    task, batches = task_of(), train_batches({"image": np.zeros((4, 1), np.float32)}, batch_size=4)
    module = MLP(classes=3)
    for call, message in (
        (lambda: compile_task(task, {"image": np.zeros((4, 1))}), "takes batches second, .*; this is a dict"),
        (lambda: compile_task(batches, task), "takes a task first, .*; this is a Batches"),
        (lambda: fit(task, steps=1), "fit takes a program, .*; this is a Task"),
        (lambda: from_loss(MLP, losses.softmax_cross_entropy, optax.sgd(0.1)), "this is the class MLP itself"),
        (lambda: from_loss(losses.softmax_cross_entropy, module, optax.sgd(0.1)), "linen module first, .* a function"),
        (lambda: from_loss(module, losses.softmax_cross_entropy, 1e-3), r"tx is a float: .* optax\.adam\(1e-3\)"),
    ):
        with pytest.raises(InputError, match=message):
            call()
