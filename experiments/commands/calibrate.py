"""Makes a recogniser's probabilities believable: one temperature, fitted on validation (Guo et al., 2017)."""

import pathlib

import numpy as np
from rich.table import Table

from experiments.evaluation import check_takes_results, evaluation_of
from experiments.predictor import CALIBRATION
from jaxrec.errors import InputError
from jaxrec.metrics.calibration import (
    TEMPERATURES,
    Reliability,
    best_temperature,
    negative_log_likelihood,
    reliability,
    softmax,
)
from jaxrec.output.charts import reliability_diagram
from jaxrec.output.console import plain_console
from jaxrec.output.workdir import write_json


def calibrate(*, run: str) -> int:
    """Finds the temperature that the logits are to be divided by; no answer changes, only how sure it is.

    Writes calibration.json, which `predict --uncertainty` and `jaxrec.load` read, and calibration.png, the reliability
    diagrams before and after, into the run's folder. The numbers after are of the images that the temperature was
    fitted on.

    Args:
      run: the folder of a recogniser's run of one label for each image: its chosen state, or its newest.

    Returns:
      The exit code.

    Raises:
      InputError: there is no such run, it has no validation split, or it has diverged.

    Example:
      python launch.py calibrate --run=runs/digits_cnn
    """
    folder = pathlib.Path(run)
    check_takes_results(folder, "--run")
    found = evaluation_of(folder, "--run")
    if found.several:
        raise InputError(f"--run = '{run}': several labels for each image; calibration is of one. Take another run.")
    logits, label = found.answers(found.batches("validation"))
    temperature = best_temperature(logits, label)
    parts = {name: (value, _judged(logits, label, value)) for name, value in (("before", 1.0), ("after", temperature))}
    measured = {
        name: {"nll": negative_log_likelihood(logits, label, value), "ece": judged.error}
        for name, (value, judged) in parts.items()
    }
    about = {"temperature": temperature, "step": found.step, "split": "validation", "examples": len(label)}
    write_json(folder / CALIBRATION, {**about, **measured})
    picture = (folder / CALIBRATION).with_suffix(".png")
    reliability_diagram(picture, {name: judged for name, (_, judged) in parts.items()})
    title = f"temperature {temperature:.4g}, step {found.step}, {len(label):,} images of validation"
    table = Table("", "negative log-likelihood, nats", "calibration error", title=title, title_justify="left")
    for name, values in measured.items():
        table.add_row(name, f"{values['nll']:.4f}", f"{100 * values['ece']:.2f} %")
    console = plain_console(soft_wrap=True)
    console.print(table)
    if not 1.01 * TEMPERATURES[0] < temperature < 0.99 * TEMPERATURES[1]:
        console.print("The temperature is at the end of its range: validation is all right, or all wrong. Add images.")
    console.print(f"Written: {folder / CALIBRATION} and {picture}")
    return 0


def _judged(logits: np.ndarray, label: np.ndarray, temperature: float) -> Reliability:
    """How far the probabilities at a temperature can be believed."""
    return reliability(softmax(logits, temperature).max(-1), logits.argmax(-1) == label)
