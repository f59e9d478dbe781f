"""Looks for a learning rate: a short run in which the rate grows until training breaks (Smith, 2017, section 3.3)."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.experiment import prepare
from jaxrec.engine.loop import Moment, fit
from jaxrec.engine.program import compile_task
from jaxrec.errors import InputError
from jaxrec.types import Count, Positive

SMOOTHING = 0.9  # of the loss, over steps
BROKEN = 4.0  # times the smallest loss: the rate is too large by far


def lr_find(
    config: Mapping[str, Any], workdir: pathlib.Path, *, low: Positive = 1e-6, high: Positive = 10.0, steps: Count = 200
) -> int:
    """Trains from fresh parameters with a rate that grows by a constant factor, and draws the loss over it.

    It reads a config and the data, and writes the picture, nothing else: no run is opened or changed.

    Args:
      config: of a run, checked and complete. Its `optimizer.learning_rate` is replaced; other rates stay.
      workdir: where lr_find.png goes.
      low: the rate of the first step.
      high: that of the last; the search ends sooner when the loss is four times its smallest, or not finite.
      steps: of the whole way.

    Returns:
      The exit code.

    Raises:
      InputError: the config does not fit the data or the devices, or the loss breaks at once.

    Example:
      python launch.py lr_find --config=configs/digits_cnn.py --high=1
    """
    if config["train"]["init_from"]:
        raise InputError("lr_find starts from fresh parameters: leave train.init_from out.")
    growth = {"name": "exponential_decay", "init_value": low, "transition_steps": steps, "decay_rate": high / low}
    settings = {**config["train"], "steps": steps, "epochs": None}
    experiment, train, parallel = prepare(
        {**config, "train": settings, "optimizer": {**config["optimizer"], "learning_rate": growth}}
    )
    program = compile_task(
        experiment.task, experiment.train, seed=config["seed"], log_every=1, steps_per_call=1, parallel=parallel
    )
    rates, losses, average = [], [], 0.0

    def watch(moment: Moment) -> bool:
        nonlocal average
        if "train/loss" not in moment.scalars:
            raise InputError("lr_find follows one loss, and this experiment has several. Try rates in short runs.")
        average = SMOOTHING * average + (1 - SMOOTHING) * moment.scalars["train/loss"]
        smooth = average / (1 - SMOOTHING**moment.step)  # without the zero it began with
        if not math.isfinite(smooth) or (losses and smooth > BROKEN * min(losses)):
            return True
        rates.append(low * (high / low) ** (moment.previous / steps))
        losses.append(smooth)
        return False

    fit(program, steps=steps, hooks=[watch])
    if len(losses) < 10:
        raise InputError(f"The loss breaks after {len(losses)} steps, at a rate of {rates[-1] if rates else low:.1e}.")
    best = suggest(rates, losses)
    workdir.mkdir(parents=True, exist_ok=True)
    picture = workdir / "lr_find.png"
    _draw(picture, rates, losses, best, f"{config['optimizer']['name']}, batch {train.batch_size}")
    print(f"The loss falls fastest at a learning rate of {best:.1e}; it is smallest at {rates[np.argmin(losses)]:.1e}.")
    print(f"A peak between the two is a good start. The curve: {picture}")
    return 0


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate at which the smoothed loss falls fastest per factor of the rate, before its minimum."""
    end = max(int(np.argmin(losses)) + 1, 2)
    return rates[int(np.argmin(np.gradient(losses[:end], np.log(rates[:end]))))]


def _draw(picture: pathlib.Path, rates: Sequence[float], losses: Sequence[float], best: float, title: str) -> None:
    """Draws the loss over the rate, and the rate that is suggested."""
    from matplotlib.figure import Figure  # takes half a second to import

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses)
    axes.axvline(best, color="tab:orange", label=f"falls fastest: {best:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=100)
