"""The kinds of plain values: what an annotation of a signature lets a config say."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _widths(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_whole(v) and v > 0 for v in value)


def _blocks(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_widths([v]) or (v and _widths(v)) for v in value)


def _milestones(value: Any) -> bool:
    shares = isinstance(value, list | tuple) and all(_number(v) and 0 <= v <= 1 for v in value)
    return shares and all(a < b for a, b in itertools.pairwise(value))


def _weights(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_number(v) and v >= 0 for v in value) and any(value)


def _labels(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_whole(v) and v >= 0 for v in value)


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, str) and v for v in value)


def _pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _factors(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(v, list | tuple) and len(v) == 2 and _pattern(v[0]) and _number(v[1]) and v[1] >= 0 for v in value
    )


# Annotation -> what it allows, in words, and the test. Those before `bool` are the argument kinds of `jaxrec.types`;
# optax annotates its numbers, none of which may be negative, by the last two.
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Count": ("a whole number, 1 or more", lambda v: _whole(v) and v >= 1),
    "Whole": ("a whole number, 0 or more", lambda v: _whole(v) and v >= 0),
    "Positive": ("a number above 0", lambda v: _number(v) and v > 0),
    "NonNegative": ("a number, 0 or more", lambda v: _number(v) and v >= 0),
    "Rate": ("a number from 0 to below 1", lambda v: _number(v) and 0 <= v < 1),
    "Share": ("a number from 0 to 1", lambda v: _number(v) and 0 <= v <= 1),
    "Milestones": ("a sequence of increasing numbers from 0 to 1", _milestones),
    "Weights": ("a sequence of numbers, 0 or more, one of them above 0", _weights),
    "Labels": ("a sequence of whole numbers, 0 or more", _labels),
    "Names": ("one name or more, with commas between", _texts),
    "Paths": ("one path or more", _texts),
    "Assignments": ("KEY=VALUE, once or more", _texts),
    "Pattern": ("a regular expression", _pattern),
    "Factors": ("a sequence of (regular expression, number of 0 or more)", _factors),
    "Seed": ("a whole number from 0 to 2**32 - 1", lambda v: _whole(v) and 0 <= v < 2**32),
    "Widths": ("a sequence of whole numbers", _widths),
    "Blocks": ("a sequence of whole numbers or of sequences of them", _blocks),
    "bool": ("True or False", lambda v: isinstance(v, bool)),
    "int": ("a whole number", _whole),
    "float": ("a number", _number),
    "str": ("a string", lambda v: isinstance(v, str)),
    "None": ("None", lambda v: v is None),
    "ArrayLike": ("a number, 0 or more", lambda v: _number(v) and v >= 0),
    "ScalarOrSchedule": ("a number, 0 or more", lambda v: _number(v) and v >= 0),
}
