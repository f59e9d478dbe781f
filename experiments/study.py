"""A search that several processes work on, and that goes on after any of them was killed: Optuna's, in a folder.

What Optuna knows lies in a journal. Who works on a trial holds a lock that the system lets go of when its process
ends, however it ends: a trial that is running and that nobody holds was killed, and the next who looks goes on with it.
"""

import contextlib
import fcntl
import importlib.util
import io
import json
import math
import os
import pathlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from experiments.settings.space import Choice, Pick, Range
from jaxrec.errors import InputError

try:
    import optuna
except ModuleNotFoundError:
    raise InputError("A search needs Optuna: pip install -e '.[search]'.") from None
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

Method = Literal["grid", "random", "tpe", "gp"]
Pruner = Literal["none", "asha", "hyperband"]

WHY, SAME = "why", "same as"  # attributes of a trial: what stopped it; the one that picked the same before
TAIL = 2**20  # bytes at the end of a journal in which its last whole line is looked for
WAIT = 1.0  # seconds, between looks at trials that others work on
FACTOR, RUNGS = 3, 2  # a trial is judged after 1/9 and 1/3 of its steps; a third goes on each time


class Journal:
    """The lock of a journal, and what mends its last line where a kill has cut it short.

    Optuna's own locks outlast a killed process by half a minute, and a line that is cut short makes a journal one that
    nobody can read once another line follows.
    """

    def __init__(self, file: pathlib.Path):
        self._file = file
        self._held: io.BufferedRandom | None = None

    def acquire(self) -> bool:
        """Waits for the lock."""
        self._held = self._file.open("rb+")
        fcntl.flock(self._held, fcntl.LOCK_EX)
        size = self._held.seek(0, os.SEEK_END)
        begin = self._held.seek(max(size - TAIL, 0))
        tail = self._held.read()
        if not tail.endswith(b"\n"):
            self._held.truncate(begin + tail.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Lets go of it."""
        self._held.close()


class Study(NamedTuple):
    """A search in a folder.

    Attributes:
      folder: in which its journal and its trials lie.
      mode: whether a larger or a smaller value is better.
      optuna: the study.
      method: how the next trial is chosen.
      seed: of what is drawn for that.
    """

    folder: pathlib.Path
    mode: Literal["max", "min"]
    optuna: optuna.Study
    method: Method
    seed: int

    def trial_folder(self, number: int) -> pathlib.Path:
        """Where the run of a trial lies."""
        return self.folder / "trials" / f"{number:04d}"

    def ranked(self) -> list[FrozenTrial]:
        """The trials that came to their end, the best first; of equals the first. Repeated ones are left out."""
        trials = self.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        trials = [trial for trial in trials if SAME not in trial.user_attrs]
        return sorted(trials, key=lambda trial: -trial.value if self.mode == "max" else trial.value)


def open_study(
    folder: pathlib.Path, *, mode: Literal["max", "min"], method: Method, pruner: Pruner, seed: int
) -> Study:
    """Opens the study of a folder, or begins it.

    Raises:
      InputError: the method needs what is not installed, or the journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = folder / "study.journal"
    pruners = {
        "none": optuna.pruners.NopPruner,
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(1, FACTOR),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(1, FACTOR**RUNGS, FACTOR),
    }
    with locked(folder / "lock"), quiet():
        _sampler(method, seed)
        _check_journal(file)
        storage = JournalStorage(JournalFileBackend(str(file), lock_obj=Journal(file)))
        direction = {"max": "maximize", "min": "minimize"}[mode]
        study = optuna.create_study(
            storage=storage, study_name="sweep", direction=direction, load_if_exists=True, pruner=pruners[pruner]()
        )
    return Study(folder, mode, study, method, seed)


def _check_journal(file: pathlib.Path) -> None:
    """Raises InputError for a line that is no record; a last one that a kill has cut short, `Journal` takes away."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)
        except ValueError:
            raise InputError(
                f"{file}, line {number}: is no record, so the file is damaged. Put it back as it was, or search in "
                "another folder."
            ) from None


def work(
    study: Study,
    trials: int,
    choose: Callable[[Pick], object],
    points: Sequence[Mapping[str, Any]] | None,
    carry_out: Callable[[Trial, Pick], None],
) -> None:
    """Carries trials out until all are, those of others who were killed included. Several processes may do so at once.

    Args:
      study: of the trials.
      trials: how many there are to be.
      choose: makes all choices of a trial by picking.
      points: what the trials pick, instead of the study's method.
      carry_out: told a trial, in whose folder nobody else works meanwhile, and what repeats its picks, it comes to an
        `end` with it, one way or another. Where it raises, the trial stays as it is, and goes on another time.
    """
    if points is not None:
        with locked(study.folder / "lock"), quiet():
            for point in points[len(study.optuna.trials) :]:
                study.optuna.enqueue_trial(point)
    while True:
        with contextlib.ExitStack() as stack:
            with locked(study.folder / "lock"), quiet():
                trial = _next(study, trials, stack)
                if trial:
                    choose(_picking(trial))
                    known = _known(study, trial)
            if trial is None:
                if not _running(study):
                    return
                time.sleep(WAIT)  # others work on those; one of them may be killed
            elif known:
                _tell_as(study, trial, known)
            else:
                carry_out(trial, _picking(trial))


def goes_on(study: Study, trial: Trial, resource: int, value: float) -> bool:
    """Reports what a trial has reached, and ends it where others were better by then; says whether it goes on."""
    if resource not in study.optuna.trials[trial.number].intermediate_values:  # else a kill came right after
        trial.report(value, resource)
    if resource == FACTOR**RUNGS or not trial.should_prune():
        return True
    study.optuna.tell(trial, state=TrialState.PRUNED)
    return False


def end(study: Study, trial: Trial, value: float) -> bool:
    """Ends a trial with its value; says whether it is one."""
    if math.isnan(value):
        give_up(study, trial, "no value", diverged=True)
        return False
    study.optuna.tell(trial, value)
    return True


def give_up(study: Study, trial: Trial, why: str, *, diverged: bool) -> None:
    """Ends a trial without a value: one that diverged is worse than any, one that is refused says nothing of others."""
    trial.set_user_attr(WHY, why)
    if diverged:
        trial.report(math.nan, FACTOR**RUNGS + 1)
    study.optuna.tell(trial, state=TrialState.PRUNED if diverged else TrialState.FAIL)


def _next(study: Study, trials: int, stack: contextlib.ExitStack) -> Trial | None:
    """A trial that nobody works on, its folder held from now on; None where there is none to be begun."""
    for number in [trial.number for trial in _running(study)]:
        with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as claim:
            claim.enter_context(locked(_claim(study, number), wait=False))
            if frozen := next((trial for trial in _running(study) if trial.number == number), None):  # still
                stack.enter_context(claim.pop_all())
                study.optuna.sampler = _sampler(study.method, study.seed + number)
                return Trial(study.optuna, frozen._trial_id)
    found = study.optuna.get_trials(deepcopy=False)
    if len(found) >= trials and not any(trial.state == TrialState.WAITING for trial in found):
        return None
    study.optuna.sampler = _sampler(study.method, study.seed + len(found))  # a study that was killed draws the same
    trial = study.optuna.ask()
    stack.enter_context(locked(_claim(study, trial.number), wait=False))
    return trial


def _running(study: Study) -> list[FrozenTrial]:
    return study.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _claim(study: Study, number: int) -> pathlib.Path:
    """The file whose lock is held by whoever works on a trial."""
    folder = study.trial_folder(number)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "claim"


def _known(study: Study, trial: Trial) -> FrozenTrial | None:
    """An earlier trial that picked the same and is over."""
    over = study.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return next((one for one in over if one.number < trial.number and one.params == trial.params), None)


def _tell_as(study: Study, trial: Trial, known: FrozenTrial) -> None:
    """Ends a trial as one of the same choices ended: it would come out the same."""
    trial.set_user_attr(SAME, known.number)
    if WHY in known.user_attrs:
        trial.set_user_attr(WHY, known.user_attrs[WHY])
    for step, value in known.intermediate_values.items():
        trial.report(value, step)
    study.optuna.tell(trial, known.value if known.state == TrialState.COMPLETE else None, state=known.state)


def _picking(trial: Trial) -> Pick:
    """Picks what a trial suggests."""

    def pick(name: str, choice: Range | Choice) -> object:
        if isinstance(choice, Choice):
            return trial.suggest_categorical(name, list(choice.options))
        suggest = trial.suggest_int if choice.whole else trial.suggest_float
        return suggest(name, choice.low, choice.high, log=choice.log)

    return pick


def _sampler(method: Method, seed: int) -> optuna.samplers.BaseSampler:
    if method == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    if method == "gp":
        if importlib.util.find_spec("torch") is None:
            raise InputError("--method=gp needs PyTorch besides Optuna: pip install torch. Or take --method=tpe.")
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def draw(study: Study, metric: str) -> list[pathlib.Path]:
    """Draws what the search found: the values over the trials, the trials over what they picked, and what matters."""
    import matplotlib

    matplotlib.use("Agg")  # the library below asks for a window else
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as pictures

    kinds = {
        "history": pictures.plot_optimization_history,
        "parallel": pictures.plot_parallel_coordinate,
        "importance": pictures.plot_param_importances,
    }
    written = []
    for name, plot in kinds.items():
        with quiet():
            try:
                axes = plot(study.optuna, target_name=metric)
            except (ValueError, RuntimeError):  # too few trials, or all of one value, have no importance
                continue
            figure = axes.figure
            figure.set_size_inches(9, 4.5)
            written.append(study.folder / f"{name}.png")
            figure.savefig(written[-1], dpi=100, bbox_inches="tight")
            pyplot.close("all")
    return written


def rungs(steps: int, moment: int) -> dict[int, int]:
    """Resource -> the steps after which a trial is judged, rounded up to a moment at which it is measured anyhow."""
    shares = (FACTOR**rung for rung in range(RUNGS + 1))
    return {share: min(math.ceil(steps * share / FACTOR**RUNGS / moment) * moment, steps) for share in shares}


@contextlib.contextmanager
def locked(file: pathlib.Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a file's lock.

    Raises:
      BlockingIOError: another holds it, and nobody is to wait.
    """
    with file.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps to itself which of Optuna's functions may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
