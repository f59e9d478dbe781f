"""The loop, with tasks small enough to know every number of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec import losses
from jaxrec.data.batches import Batches, eval_batches, train_batches
from jaxrec.engine import hooks
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.loop import Moment, fit
from jaxrec.engine.program import Program, compile_task
from jaxrec.errors import DivergedError, InputError
from jaxrec.metrics import Mean
from jaxrec.models import CNN
from jaxrec.output.records import Records
from jaxrec.sharding import data_parallel
from jaxrec.tasks.one_loss import from_loss
from jaxrec.tasks.task import State, Task


def counting_task() -> Task:
    """Adds 1 to its only parameter at each step; its metric "step" is the step it takes."""

    def init(key, batch):
        del key, batch
        return State(jnp.zeros((), jnp.int32), {"sum": jnp.zeros(())}, {}, {})

    def train_step(state, batch, key):
        del key
        count = jnp.float32(batch["mask"].shape[0])
        metrics = {"step": Mean(state.step * count, count)}
        return state.replace(step=state.step + 1, params={"sum": state.params["sum"] + 1}), metrics

    def eval_step(state, batch, key):
        del key
        return {"sum": Mean(state.params["sum"] * jnp.sum(batch["mask"]), jnp.sum(batch["mask"]))}

    return Task(init, train_step, eval_step)


@pytest.fixture(scope="module")
def numbers() -> Batches:
    return train_batches({"image": np.zeros((24, 1), np.float32)}, batch_size=8)


@pytest.fixture(scope="module")
def counting(numbers) -> Program:
    return compile_task(counting_task(), numbers, log_every=10)


@pytest.fixture(scope="module")
def digit_batches(digits) -> functools.partial:
    arrays = {"image": digits.image.astype(np.float32) / 255, "label": digits.label}
    return functools.partial(train_batches, arrays, batch_size=16, ids=digits.splits["train"])


@pytest.fixture(scope="module")
def recogniser(digit_batches, one_device) -> Program:
    """Everything that has state: batch statistics, dropout, an optimizer with moments."""
    model = CNN(widths=(4,), hidden=(8,), dropout=0.5, norm="batch")
    task = from_loss(model, losses.softmax_cross_entropy, optax.adamw(1e-2))
    return compile_task(task, digit_batches(seed=3), seed=3, log_every=10, parallel=one_device)


def test_moments_come_every_log_steps_and_at_the_end(counting):
    moments: list[Moment] = []
    state = fit(counting, steps=25, hooks=[moments.append])
    assert [(m.previous, m.step, m.steps, m.examples) for m in moments] == [
        (0, 10, 25, 80),
        (10, 20, 25, 80),
        (20, 25, 25, 40),
    ]
    assert [m.scalars["train/step"] for m in moments] == [4.5, 14.5, 22.0]  # means over each interval
    assert float(state.params["sum"]) == 25
    assert all(m.seconds > 0 for m in moments)


def test_a_run_that_goes_on_in_between_has_the_moments_of_the_unbroken_one(counting):
    seven, moments = fit(counting, steps=7), []
    fit(counting, steps=25, state=seven, hooks=[moments.append])
    assert [(m.previous, m.step, m.examples) for m in moments] == [(7, 10, 24), (10, 20, 80), (20, 25, 40)]
    assert [m.scalars["train/step"] for m in moments] == [8.0, 14.5, 22.0]


@pytest.mark.parametrize(
    ("period", "fired"),
    [(10, [10, 20, 30, 35]), (20, [20, 35]), (15, [20, 30, 35]), (100, [35]), (1, [10, 20, 30, 35])],
)
def test_every_fires_once_past_each_multiple_and_at_the_end(counting, period, fired):
    steps = []
    fit(counting, steps=35, hooks=[hooks.every(period, lambda moment: steps.append(moment.step))])
    assert steps == fired


def test_hooks_share_scalars_in_order(counting):
    split = eval_batches({"image": np.zeros((5, 1), np.float32)}, batch_size=8)
    seen = []
    fit(counting, steps=10, hooks=[hooks.evaluate(validation=split), lambda moment: seen.append(dict(moment.scalars))])
    assert seen == [{"train/step": 4.5, "validation/sum": 10.0}]


def test_a_state_that_goes_in_is_used_up(counting):
    state = counting.init()
    counting.train(state, 0, 1)
    assert state.params["sum"].is_deleted()


def test_hooks_may_use_jax_as_they_like_and_steps_may_not_transfer_behind_the_back(counting):
    seen = []
    fit(counting, steps=10, hooks=[lambda moment: seen.append(float(jnp.add(moment.state.params["sum"], np.ones(()))))])
    assert seen == [11.0]

    def careless(state, first, stop, asked):
        jnp.add(state.params["sum"], np.ones(3))

    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        fit(counting._replace(take=careless), steps=10)


def test_a_hook_answers_true_false_or_nothing(counting):
    answers = {"True": True, "False": False, "None": None, "numpy": np.bool_(True)}
    stops = {name: int(fit(counting, steps=20, hooks=[lambda _, a=a: a]).step) for name, a in answers.items()}
    assert stops == {"True": 10, "False": 20, "None": 20, "numpy": 10}

    def measures(moment: Moment) -> dict:
        return {"sum": 1.0}

    with pytest.raises(InputError, match=r"The hook .*measures returned dict; allowed is True, which ends the run"):
        fit(counting, steps=20, hooks=[measures])


def test_a_run_starts_from_a_state_and_leaves_it_usable(recogniser):
    """A run of 10 steps gone on by 10 more is that of 20, twice, from the same state."""
    unbroken, ten = fit(recogniser, steps=20), fit(recogniser, steps=10)
    for steps in (20, ten.step + 10):
        assert_bits_equal(fit(recogniser, steps=steps, state=ten), unbroken)
    assert int(ten.step) == 10
    with pytest.raises(InputError, match="steps = 5: the state has taken 10 steps already"):
        fit(recogniser, steps=5, state=ten)
    other = ten.replace(params={**ten.params, "Dense_0": {"kernel": jnp.zeros((2, 2))}})
    with pytest.raises(InputError, match=r"fit\(state=...\) is of another task: params/Dense_0/bias is missing"):
        fit(recogniser, steps=20, state=other)


def test_labels_that_the_network_has_no_class_for_are_said(digits, one_device):
    arrays = {"image": digits.image.astype(np.float32) / 255, "label": digits.label + 5}
    task = from_loss(CNN(widths=(2,), hidden=()), losses.softmax_cross_entropy, optax.sgd(0.1))
    program = compile_task(task, train_batches(arrays, batch_size=64), log_every=1, parallel=one_device)
    with pytest.raises(InputError, match="Labels reach from 5 to 14; the network tells 10 classes apart, 0 to 9"):
        fit(program, steps=5)


def test_each_step_function_compiles_once_in_a_whole_run(digit_batches, digits, compilations):
    task = from_loss(CNN(widths=(2,), hidden=()), losses.softmax_cross_entropy, optax.sgd(0.1))
    program = compile_task(task, digit_batches(), log_every=5)
    arrays = digit_batches().resident
    splits = {
        name: eval_batches(arrays, batch_size=16, ids=digits.splits[name]) for name in ("train", "validation", "test")
    }
    at_moments = []
    state = fit(
        program,
        steps=100,
        hooks=[
            hooks.every(50, hooks.evaluate(validation=splits["validation"])),
            lambda moment: at_moments.append(len(compilations)),
        ],
    )
    for batches in splits.values():
        program.evaluate(state, batches)
    assert program.compiled == ["train_step", "init", "eval_step"]
    assert len(set(at_moments[:9])) == 1, "something was compiled between two moments without an evaluation"
    assert len(compilations) == at_moments[9] == at_moments[0] + 1, "only the first evaluation may compile anything"


def test_another_compilation_says_what_changed(counting):
    program = compile_task(counting_task(), train_batches({"image": np.zeros((24, 1), np.float32)}, batch_size=8))
    state = program.init()
    image = np.zeros((5, 1), np.float32)
    program.evaluate(state, eval_batches({"image": image}, batch_size=8))
    program.evaluate(state, eval_batches({"image": image + 1}, batch_size=8))  # other values, the same program
    with pytest.warns(UserWarning, match=r"^eval_step is compiled once more, .* differ: batch_size 8 -> 16\. "):
        program.evaluate(state, eval_batches({"image": image}, batch_size=16))
    with pytest.warns(UserWarning, match=r"differ: image float32\[5, 1\] -> float32\[6, 1\]\."):
        program.evaluate(state, eval_batches({"image": np.zeros((6, 1), np.float32)}, batch_size=16))
    assert program.compiled == ["train_step", "init", "eval_step", "eval_step", "eval_step"]


@pytest.mark.parametrize(
    ("steps_per_call", "way"),
    [
        (4, {}),
        pytest.param(100, {"parallel": "pmap"}, marks=pytest.mark.slow),
        pytest.param(3, {"rule": "fsdp"}, marks=pytest.mark.slow),
    ],
)
def test_steps_taken_without_the_host_are_the_same_steps(digit_batches, tmp_path, steps_per_call, way):
    """Bit for bit, in whole intervals and in parts of them, through a checkpoint."""
    model = CNN(widths=(4,), hidden=(32,), dropout=0.5, norm="none" if way else "batch")
    task = from_loss(model, losses.softmax_cross_entropy, optax.adam(1e-2))

    def run(folder: str, steps_per_call: int, *stops: int) -> tuple[State, str]:
        (tmp_path / folder).mkdir()
        devices = jax.devices()[: 2 if way else 1]
        program = compile_task(
            task,
            digit_batches(),
            log_every=10,
            steps_per_call=steps_per_call,
            parallel=data_parallel(devices, **way),
        )
        for stop in stops:
            with (
                Checkpoints(tmp_path / folder / "checkpoints") as checkpoints,
                Records(tmp_path / folder, checkpoints.latest() or 0) as record,
            ):
                state = fit(program, steps=stop, checkpoints=checkpoints, hooks=[record, hooks.save(checkpoints)])
        assert program.compiled == ["train_step", "init", "finite", "copy"]
        return state, (tmp_path / folder / "metrics.jsonl").read_text()

    one_by_one, expected = run("one", 1, 27)
    at_once, metrics = run("many", steps_per_call, 20, 27)
    assert_bits_equal(one_by_one, at_once)
    assert metrics == expected


def test_memory_of_keys_is_not_needed_dropout_follows_seed_and_step(recogniser):
    first, second = fit(recogniser, steps=7), fit(recogniser, steps=7)
    assert_bits_equal(first, second)


def test_every_step_of_every_seed_draws_by_a_key_of_its_own(numbers):
    def draws(state, batch, key):
        return state.replace(step=state.step + 1), {"drawn": Mean(jax.random.uniform(key), jnp.float32(1))}

    drawn = []
    for seed in (0, 1):
        program = compile_task(counting_task()._replace(train_step=draws), numbers, seed=seed, log_every=1)
        fit(program, steps=5, hooks=[lambda moment: drawn.append(moment.scalars["train/drawn"])])
    assert len(set(drawn)) == len(drawn) == 10


def test_resumed_run_is_the_unbroken_run(recogniser, digits, digit_batches, tmp_path):
    split = eval_batches(digit_batches().resident, batch_size=16, ids=digits.splits["validation"])

    def run(folder, *stops):
        for stop in stops:
            with (
                Checkpoints(folder / "checkpoints", monitor="validation/accuracy") as checkpoints,
                Records(folder, checkpoints.latest() or 0) as record,
            ):
                state = fit(
                    recogniser,
                    steps=stop,
                    checkpoints=checkpoints,
                    hooks=[hooks.evaluate(validation=split), record, hooks.save(checkpoints)],
                )
        return state, (folder / "metrics.jsonl").read_text()

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    unbroken, unbroken_metrics = run(tmp_path / "whole", 40)
    resumed, resumed_metrics = run(tmp_path / "parts", 20, 40)
    assert_bits_equal(unbroken, resumed)
    assert resumed_metrics == unbroken_metrics
    assert resumed_metrics.count("\n") == 4


def test_a_run_goes_on_on_other_devices_under_another_rule(digit_batches, one_device, tmp_path):
    """A whole State, optimizer moments and batch statistics included, from 1 device to 8 that share it out."""
    model = CNN(widths=(8,), hidden=(16,), norm="batch")
    task = from_loss(model, losses.softmax_cross_entropy, optax.adam(1e-3))
    single = compile_task(task, digit_batches(), log_every=5, parallel=one_device)
    shared = compile_task(task, digit_batches(), log_every=5, parallel=data_parallel(rule="fsdp"))
    with Checkpoints(tmp_path) as checkpoints:
        fit(single, steps=5, hooks=[hooks.save(checkpoints)])
        unbroken = fit(single, steps=10)
        moved = fit(shared, steps=10, checkpoints=checkpoints)
    assert not moved.params["Dense_0"]["kernel"].sharding.is_fully_replicated
    for leaf, other in zip(jax.tree.leaves(unbroken), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-5, atol=1e-5)


def test_a_run_without_an_end_is_refused(counting):
    with pytest.raises(InputError, match=r"steps = 100000000000000000000: steps are counted up to 2,147,483,647"):
        fit(counting, steps=10**20)


def test_a_checkpoint_past_the_end_is_refused(counting, tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        fit(counting, steps=20, hooks=[hooks.save(checkpoints)])
        with pytest.raises(InputError, match="has taken 20 steps already"):
            fit(counting, steps=10, checkpoints=checkpoints)


def test_a_diverged_run_stops_before_it_is_saved(digit_batches, one_device, tmp_path):
    task = from_loss(CNN(widths=(2,), hidden=()), losses.mean_squared_error, optax.sgd(1e20))
    program = compile_task(task, digit_batches(), log_every=1, parallel=one_device)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(DivergedError, match=r"train/\w+ is (nan|inf): training diverged in steps \d+ to \d+"):
            fit(program, steps=50, hooks=[hooks.stop_if_diverged])
        with pytest.raises(DivergedError, match="The state after step 1 is not finite, or is not after one step more"):
            fit(program, steps=50, hooks=[hooks.save(checkpoints)])
        assert checkpoints.latest() is None


def test_metrics_past_the_checkpoint_are_taken_back(recogniser, tmp_path):
    """A run killed between its last save and its end has written moments that it will live through again."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints, Records(tmp_path) as record:
        fit(recogniser, steps=20, hooks=[hooks.every(20, hooks.save(checkpoints))])
        fit(recogniser, steps=30, hooks=[record])
    unbroken = (tmp_path / "metrics.jsonl").read_text()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "train/l')  # the kill
    with Checkpoints(tmp_path / "checkpoints") as checkpoints, Records(tmp_path, checkpoints.latest()) as record:
        assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 2
        fit(recogniser, steps=30, checkpoints=checkpoints, hooks=[record])
    assert (tmp_path / "metrics.jsonl").read_text() == unbroken


def test_batch_size_is_checked_before_anything_compiles(numbers, eight_devices):
    def never(*_):
        raise AssertionError("reached the task")

    bad = numbers._replace(batch_size=12)
    with pytest.raises(InputError, match=r"batch_size = 12.*8 devices.*such as 8 or 16"):
        compile_task(Task(never, never, never), bad, parallel=eight_devices)


def assert_bits_equal(first: State, second: State) -> None:
    leaves, others = (jax.tree_util.tree_leaves_with_path(state) for state in (first, second))
    assert [path for path, _ in leaves] == [path for path, _ in others]
    for (path, leaf), (_, other) in zip(leaves, others, strict=True):
        assert np.asarray(leaf).tobytes() == np.asarray(other).tobytes(), path
