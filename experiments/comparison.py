"""A comparison in tables and words: the order of its metrics, their cells, verdicts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.sides import Side, differing
from experiments.significance import LEVEL, Interval, Verdict
from jaxrec.output.progress import text_of
from jaxrec.trees import found_at

FLOOR = "real_"  # how metrics begin that are of real images in the place of generated ones
NOT_THERE = "(not there)"  # in the place of a value that a config has no key for


def in_order(names: Iterable[str], side: Side) -> list[str]:
    """Names of metrics in the order of a table: the headline first, and each floor below what it is the floor of."""
    names = list(names)
    headline = [name for name in side.results[0].get("headline", ()) if name in names]
    measured = [name for name in dict.fromkeys([*headline, *names]) if not name.startswith(FLOOR)]
    return [each for name in measured for each in (name, f"{FLOOR}{name}") if each in names]


def cell(of: Mapping[str, Any] | None) -> str:
    """What `metrics_of` says of a metric, as a table shows it."""
    if of is None or of["mean"] is None:
        return "-"
    deviation = "" if of["std"] is None else f" ± {text_of(of['std'])}"
    interval = "" if of["interval"] is None else f" [{', '.join(map(text_of, of['interval']))}]"
    return f"{text_of(of['mean'])}{deviation}{interval}"


def differing_in_words(sides: Sequence[Side]) -> dict[str, list[str]]:
    """What `differing` finds, as tables show it: values as Python writes them, or that a side has no such key."""
    return {
        key: [
            repr(value) if found_at({"config": side.config}, key) else NOT_THERE
            for side, value in zip(sides, values, strict=True)
        ]
        for key, values in differing(sides).items()
    }


def said(first: str, second: str, one: Verdict) -> str:
    """A verdict in words."""
    parts = [f"{first} against {second}: {share(one.difference, sign='+')} of accuracy, paired by image."]
    if one.exact is not None:
        parts.append(
            f"The one alone is right on {one.alone[0]:,} images, the other alone on {one.alone[1]:,}: McNemar's exact "
            f"p = {one.exact:.2g}."
        )
        apart = one.exact < 1 - LEVEL
    else:
        apart = not one.difference.low <= 0 <= one.difference.high
    better = first if one.difference.mean > 0 else second
    parts.append(
        f"These images tell them apart: {better} is better." if apart else "These images cannot tell them apart."
    )
    if one.seeds is not None:
        apart = one.seeds < 1 - LEVEL
        parts.append(f"Over seeds, Welch's p = {one.seeds:.2g}: they {'differ' if apart else 'may be equally good'}.")
    return " ".join(parts)


def share(of: Interval, sign: str = "") -> str:
    """An interval of accuracies in percent."""
    mean, low, high = (f"{100 * value:{sign}.2f}" for value in of)
    return f"{mean} % [{low}, {high}]"
