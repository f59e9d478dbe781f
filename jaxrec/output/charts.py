"""Charts of what a recogniser is worth: whether its probabilities can be believed, what corruption costs it."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np


def reliability_diagram(
    file: pathlib.Path, diagrams: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, float]]
) -> None:
    """Draws accuracy over confidence, side by side, and how many examples each bar stands for (Guo et al., 2017).

    Args:
      file: of the PNG.
      diagrams: title -> confidence, accuracy and examples of each bin, [bins], and the calibration error, as
        `jaxrec.metrics.calibration.Reliability` has them.
    """
    from matplotlib.figure import Figure  # takes half a second to import

    figure = Figure(figsize=(4 * len(diagrams), 5), layout="constrained")
    rows = figure.subplots(2, len(diagrams), height_ratios=(3, 1), sharex=True, sharey="row", squeeze=False)
    for (title, (confidence, accuracy, examples, error)), above, below in zip(diagrams.items(), *rows, strict=True):
        bins = len(examples)
        edges, seen = np.arange(bins) / bins, examples > 0
        above.bar(edges[seen], accuracy[seen], 1 / bins, align="edge", edgecolor="white", label="accuracy")
        above.plot(confidence[seen], confidence[seen], "_", color="black", markersize=10, label="confidence")
        above.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
        above.set(title=f"{title}: error {100 * error:.2f} %", xlim=(0, 1), ylim=(0, 1))
        below.bar(edges, examples / examples.sum(), 1 / bins, align="edge", edgecolor="white", color="0.6")
        below.set(xlabel="confidence")
    rows[0, 0].set(ylabel="accuracy")
    rows[0, 0].legend(loc="upper left")
    rows[1, 0].set(ylabel="share of examples")
    figure.savefig(file)


def against_strength(file: pathlib.Path, curves: Mapping[str, Sequence[float]], metric: str, title: str) -> None:
    """Draws a metric over the strength of corruptions.

    Args:
      file: of the PNG.
      curves: corruption -> the metric without it and at each strength.
      metric: its name.
      title: of the chart.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(range(len(values)), values, marker="o", markersize=4, label=name)
    strengths = range(max(map(len, curves.values())))
    axes.set_xticks(strengths, ["none", *map(str, strengths[1:])])
    axes.set(xlabel="strength of the corruption", ylabel=metric, title=title)
    axes.grid(color="0.9")
    axes.legend()
    figure.savefig(file)
