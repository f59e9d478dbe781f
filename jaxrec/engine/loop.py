"""The trainer's loop: restore, take steps, call the hooks.

With `jaxrec/engine/program.py`, which compiles, it owns time and devices. Neither ever mentions a model, a loss, an
optimizer or a config.
"""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxrec.data.batches import Batches
from jaxrec.engine.checkpoint import Checkpoints
from jaxrec.engine.program import Program
from jaxrec.errors import InputError, check_is
from jaxrec.machine.agreement import check_same_state
from jaxrec.machine.signals import clock
from jaxrec.metrics import Metrics
from jaxrec.tasks.task import State
from jaxrec.trees import check_same, copied

LAST_STEP = np.iinfo(np.int32).max
UNFINISHED = "unfinished"  # the name under which a checkpoint holds `Moment.unfinished`

Hook = Callable[["Moment"], bool | None]  # True ends the run after this moment; hooks may use jax as they like


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
    finite: Callable[[], bool] = lambda: True  # whether all of the state is
    sound: Callable[[], bool] = lambda: True  # whether it is, and stays so for one step more
    unfinished: Sequence[Metrics] = ()  # of a run that is stopped: what the steps since the moment before found


class Pause(NamedTuple):
    """How a run is stopped at any step, to go on later as if it had not been."""

    asked: Callable[[], bool]  # whether it is to stop; looked at between steps, and between batches of an evaluation
    checkpoints: Checkpoints  # which hold a state between two moments, apart from those that hold one at a moment
    hooks: Sequence[Hook]  # called in order when it stops, such as the one that saves

    def saved(self, program: Program, step: int) -> list[Metrics]:
        """What the steps since the moment before had found when the run stopped."""
        leaves, structure = jax.tree.flatten(program.statistics)
        return [
            structure.unflatten([np.asarray(value, leaf.dtype) for value, leaf in zip(entry, leaves, strict=True)])
            for entry in self.checkpoints.metrics(step).get(UNFINISHED, ())
        ]


class _PausedError(Exception):
    """The run is to stop, in the middle of an evaluation."""


def fit(
    program: Program,
    *,
    steps: int,
    state: State | None = None,
    hooks: Sequence[Hook] = (),
    checkpoints: Checkpoints | None = None,
    pause: Pause | None = None,
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
      pause: how the run is stopped before its end; where it was, it goes on from there.

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
    source, saved = newest(checkpoints, pause and pause.checkpoints)  # at a moment, rather than between two
    step = saved or (0 if state is None else int(state.step))
    if step > steps:
        has = "newest checkpoint" if saved else "state"
        raise InputError(f"steps = {steps}: the {has} has taken {step} steps already. Ask for more.")
    if source:
        state = source.restore(program.template, saved)
    else:
        state = program.init() if state is None else _copied(state, program.template)
    check_same_state(state)
    taken = pause.saved(program, saved) if pause and source is pause.checkpoints else []

    def asked() -> bool:
        return pause is not None and pause.asked()

    def between() -> None:
        if not program.least(not asked()):
            raise _PausedError

    finite = True
    while step < steps or taken:
        first, began, waited = step, clock(), program.waited()
        previous = step - len(taken)
        end = min(steps, previous - previous % program.log_every + program.log_every)
        with jax.transfer_guard("disallow"):
            state, found = program.take(state, first, end, asked)
        step, taken = first + len(found), [*taken, *found]
        moment = Moment(
            step=step,
            steps=steps,
            previous=previous,
            state=state,
            examples=(step - first) * program.batch_size,
            seconds=clock() - began,
            waited=program.waited() - waited,
            evaluate=functools.partial(program.evaluate, state, between=between),
            scalars={},
            warnings=[],
            finite=functools.partial(program.finite, state),
            sound=functools.partial(program.sound, state),
            unfinished=taken,
        )
        if step < end:
            if step > saved:
                _call(pause.hooks, moment)
            return state
        means = program.means(taken)
        scalars = {f"train/{name}": value for name, value in means.items() if isinstance(value, float)}
        arrays = {f"train/{name}": value for name, value in means.items() if not isinstance(value, float)}
        try:
            stop = _call(hooks, moment._replace(scalars=scalars, arrays=arrays, unfinished=()))
        except _PausedError:  # the moment comes again, and with it the evaluation
            if step > saved:
                _call(pause.hooks, moment._replace(examples=0, seconds=0.0, waited=0.0))
            return state
        if finite and not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(taken)):
            finite = False
            warnings.warn(
                f"Not all train metrics are finite in steps {previous} to {step}, and the run goes on. Look at rate "
                "and at the images; jaxrec.engine.hooks.stop_if_diverged is a hook that ends such a run.",
                stacklevel=2,
            )
        if stop:
            break
        taken = []
    return state


def newest(*kept: Checkpoints | None) -> tuple[Checkpoints | None, int]:
    """Which of these hold the newest state, the first of equals, and its step: (None, 0) where none holds any."""
    found = [(checkpoints, checkpoints.latest() or 0) for checkpoints in kept if checkpoints]
    source, step = max(found, key=lambda each: each[1], default=(None, 0))
    return (source, step) if step else (None, 0)


def _copied(state: State, template: State) -> State:
    """The state once more, laid as the template says: training uses up what it is given."""
    check_same(state, template, "fit(state=...)")
    return jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), copied(state), template)


def _call(hooks: Sequence[Hook], moment: Moment) -> bool:
    """Calls hooks in order, and says whether one of them asks to stop."""
    stop = False
    for hook in hooks:
        answer = hook(moment)
        if answer is not None and not isinstance(answer, bool | np.bool_):
            name = getattr(hook, "__qualname__", type(hook).__name__)
            raise InputError(
                f"The hook {name} returned {type(answer).__name__}; allowed is True, which ends the run, False or "
                "None. Let it return nothing."
            )
        stop |= bool(answer)
    return stop
