"""What the speed benchmark writes into a document: tables between markers, and a chart."""

import os
import pathlib
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

# How many times as fast as a peer jaxrec means to be: as the fastest of its settings, layout and malloc.
BARS = {
    "seed CNN, 128": {"Keras-TF": 1.0, "torch": 1.0, "Keras-JAX": 3.0, "flax": 3.0},
    "seed CNN, 32": {"Keras-TF": 1.4, "flax": 3.0},
    "MLP, 128": {"Keras-TF": 1.2, "torch": 2.0},
    "dense autoencoder, 128": {"Keras-TF": 1.4, "torch": 1.8},
    "ViT-tiny, 128": {"Keras-TF": 1.1, "torch": 1.3},
    "DCGAN, 128": {"torch": 0.9, "flax": 3.0},
    "LSTM, 128": {"Keras-TF": 1.3, "torch": 1.0},
    "ResNet-20, 128": {"Keras-TF": 1.2, "torch": 0.9, "Keras-JAX": 3.0, "flax": 3.0},
}
SETTINGS = (" channels_last", ", memory kept")  # what stands behind a peer's name in a contender's

Answers = Sequence[Mapping[str, Any]]  # of one contender, one for each round


def cores() -> str:
    """What the benchmark runs on, in words."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU, {count} cores"


def speeds(answers: Answers) -> list[float]:
    """Images/s of each round."""
    return [answer["images"] / answer["seconds"] for answer in answers]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile, which lie within the values."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def speed_table(name: str, measured: Mapping[str, Any]) -> list[str]:
    """The table of one network, with a column of ratios for each row that is jaxrec's."""
    rounds = {label: speeds(answers) for label, answers in measured["contenders"].items()}
    ours = [label for label in rounds if label.startswith("jaxrec")]
    head = ["contender", "images/s", "quartiles", *(f"{label} / it" for label in ours)]
    lines = [f"### {name}", "", f"{measured['conditions']}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for label, values in sorted(rounds.items(), key=lambda row: -statistics.median(row[1])):
        low, middle, high = quartiles(values)
        cells = [label, f"{middle:,.0f}", f"{low:,.0f} to {high:,.0f}"]
        for reference in ours:
            ratios = [one / other for one, other in zip(rounds[reference], values, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            cells.append("" if reference == label else spread)
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def bars_table(results: Mapping[str, Any]) -> list[str]:
    """Ratios of medians against the bars, a column for each row that is jaxrec's."""
    ours = dict.fromkeys(
        label for measured in results.values() for label in measured["contenders"] if label.startswith("jaxrec")
    )
    lines = [f"| network, batch | against | bar | {' | '.join(ours)} |", "|---" * (3 + len(ours)) + "|"]
    for name, bars in BARS.items():
        rounds = results.get(name, {"contenders": {}})["contenders"]
        medians = {label: statistics.median(speeds(answers)) for label, answers in rounds.items()}
        for peer, bar in bars.items():
            cells = [_against(medians, one, peer, bar) for one in ours]
            lines.append(f"| {name} | {peer} | {bar:g} | {' | '.join(cells)} |")
    return [*lines, ""]


def _against(medians: Mapping[str, float], one: str, peer: str, bar: float) -> str:
    """The ratio to a peer at its fastest setting; to one in JAX, with the same JAX."""
    version = one.removeprefix("jaxrec").removeprefix(", oneDNN")
    rivals = {name + setting for name in (peer + version, peer) for setting in ("", *SETTINGS, "".join(SETTINGS))}
    fastest = max((medians[label] for label in rivals & medians.keys()), default=None)
    if fastest is None or one not in medians:
        return "not measured"
    ratio = medians[one] / fastest
    return f"{ratio:.2f}, {'met' if ratio >= bar else 'missed'}"


def draw(results: Mapping[str, Any], file: pathlib.Path) -> None:
    """Draws images/s of every contender, a panel for each network, whiskers from quartile to quartile."""
    from matplotlib.figure import Figure  # takes half a second to import

    rows = -(-len(results) // 2)
    figure = Figure(figsize=(11, 0.4 + 2.8 * rows), layout="constrained")
    for place, (name, measured) in enumerate(results.items(), start=1):
        axes = figure.add_subplot(rows, 2, place)
        bars = {label: quartiles(speeds(answers)) for label, answers in measured["contenders"].items()}
        for label, (low, middle, high) in sorted(bars.items(), key=lambda bar: bar[1][1]):
            color = "tab:blue" if label.startswith("jaxrec") else "lightgray"
            axes.barh(label, middle, color=color, xerr=[[middle - low], [high - middle]], ecolor="dimgray", capsize=2)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("images/s", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=90)


def check(file: pathlib.Path, marker: str) -> tuple[str, re.Pattern]:
    """The text of a document and what lies between its markers; exits with one line where they are missing."""
    begin, end = f"<!-- {marker} -->", f"<!-- end of {marker} -->"
    text, between = file.read_text() if file.exists() else "", re.compile(f"(?<={begin}\n).*(?={end})", flags=re.S)
    if not between.search(text):
        sys.exit(f"{file} needs two lines, {begin} and {end}: the tables go between them.")
    return text, between


def write_between(file: pathlib.Path, marker: str, lines: Sequence[str]) -> None:
    """Puts lines between <!-- marker --> and <!-- end of marker -->."""
    text, between = check(file, marker)
    file.write_text(between.sub(lambda _: "\n".join([*lines, ""]), text))
