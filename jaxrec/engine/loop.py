"""The trainer's loop: restore, take steps, call the hooks.

With `jaxrec/engine/program.py`, which compiles, it owns time and devices. Neither ever mentions a model, a loss, an
optimizer or a config.
"""

import functools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.batches import Batches
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.program import Program
from jaxrec.errors import InputError, check_is
from jaxrec.tasks.task import State
from jaxrec.trees import check_same


class Moment(NamedTuple):
    """What a hook sees, every `log_every` steps and at the last. The hooks of one moment run in order."""

    step: int  # steps taken
    steps: int  # steps in the run
    previous: int  # steps taken at the moment before
    state: State
    examples: int  # that the steps since the moment before trained on
    seconds: float  # that those steps took, hooks left out
    evaluate: Callable[[Batches], dict[str, float | np.ndarray]]
    scalars: dict[str, float]  # "train/loss", ...: means since the moment before; hooks add what they find
    warnings: list[str]  # what a hook thinks is going wrong, in plain language, for a later hook to show
    arrays: Mapping[str, np.ndarray] = {}  # train metrics that are arrays, such as one for each of several seeds
    waited: float = 0.0  # of the seconds, those in which the devices waited for data


LAST_STEP = np.iinfo(np.int32).max

Hook = Callable[[Moment], bool | None]  # True ends the run after this moment; hooks may use jax as they like


def fit(
    program: Program,
    *,
    steps: int,
    state: State | None = None,
    hooks: Sequence[Hook] = (),
    checkpoints: Checkpoints | None = None,
) -> State:
    """Runs a program up to `steps` steps, or until a hook asks to stop, and returns the last state.

    Goes on from the newest checkpoint where there is one. The host waits for the devices once every `log_every`
    steps; between, nothing moves from or to them but the batch.

    Args:
      program: from `compile_task`.
      steps: to have taken at the end, those before a restored checkpoint included.
      state: where to start without a checkpoint, such as what an earlier `fit` returned; it stays usable. By default
        the program's first state.
      hooks: called in order every `log_every` steps and after the last.
      checkpoints: where to look for the state to go on from; saving is a hook's work.

    Raises:
      InputError: the newest checkpoint or the state is past `steps` or of another model, or the checkpoint is damaged;
        a hook returns something else than True, False or None.
    """
    check_is(program, Program, "fit takes a program, which compile_task makes of a task and batches")
    if steps > LAST_STEP:
        raise InputError(f"steps = {steps}: steps are counted up to {LAST_STEP:,} (int32). Ask for fewer.")
    if steps < 0 or steps != int(steps):
        raise InputError(f"steps = {steps}: a whole number of steps in all, 0 or more.")
    steps = int(steps)  # it may have been an array: state.step + 500
    saved = (checkpoints.latest() if checkpoints else None) or 0
    step = saved or (0 if state is None else int(state.step))
    if step > steps:
        taken = "newest checkpoint" if saved else "state"
        raise InputError(f"steps = {steps}: the {taken} has taken {step} steps already. Ask for more.")
    if saved:
        state = checkpoints.restore(program.template, saved)
    else:
        state = program.init() if state is None else _copied(state, program.template)
    finite = True
    while step < steps:
        previous, began, waited = step, time.perf_counter(), program.waited()
        step = min(steps, previous - previous % program.log_every + program.log_every)
        with jax.transfer_guard("disallow"):
            state, means = program.train(state, previous, step)
        moment = Moment(
            step=step,
            steps=steps,
            previous=previous,
            state=state,
            examples=(step - previous) * program.batch_size,
            seconds=time.perf_counter() - began,
            waited=program.waited() - waited,
            evaluate=functools.partial(program.evaluate, state),
            scalars={f"train/{name}": value for name, value in means.items() if isinstance(value, float)},
            warnings=[],
            arrays={f"train/{name}": value for name, value in means.items() if not isinstance(value, float)},
        )
        stop = [_asks_to_stop(hook, moment) for hook in hooks]
        if finite and not all(np.isfinite(value).all() for value in means.values()):
            finite = False
            warnings.warn(
                f"Not all train metrics are finite in steps {previous} to {step}, and the run goes on. Look at rate "
                "and at the images; jaxrec.engine.hooks.stop_if_diverged is a hook that ends such a run.",
                stacklevel=2,
            )
        if any(stop):
            break
    return state


def _copied(state: State, template: State) -> State:
    """The state once more, laid as the template says: training uses up what it is given."""
    check_same(state, template, "fit(state=...)")
    return jax.tree.map(lambda leaf, like: jax.device_put(jnp.copy(leaf), like.sharding), state, template)


def _asks_to_stop(hook: Hook, moment: Moment) -> bool:
    """What a hook returns."""
    answer = hook(moment)
    if answer is None or isinstance(answer, bool | np.bool_):
        return bool(answer)
    name = getattr(hook, "__qualname__", type(hook).__name__)
    raise InputError(
        f"The hook {name} returned {type(answer).__name__}; allowed is True, which ends the run, False or None. "
        "Let it return nothing."
    )
