"""At which strengths an evaluation corrupts images, and how: the functions of `jaxrec.augment`, an argument of each."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxrec import augment
from jaxrec.errors import InputError, did_you_mean


class Corruption(NamedTuple):
    """An argument and the five values that it gets, from a weak corruption to a strong one."""

    argument: str
    strengths: Sequence[float]
    others: Mapping[str, float] = {}  # arguments that are the same at each strength


# The strengths of the two noises are those of ImageNet-C (Hendrycks and Dietterich, 2019), where "impulse noise" is
# drawn for each value alone.
CORRUPTIONS = {
    "gaussian_noise": Corruption("std", (0.08, 0.12, 0.18, 0.26, 0.38)),
    "salt_and_pepper": Corruption("share", (0.03, 0.06, 0.09, 0.17, 0.27)),
    "masking": Corruption("share", (0.1, 0.2, 0.3, 0.4, 0.5)),
    "random_erasing": Corruption("high", (0.1, 0.2, 0.3, 0.4, 0.5), {"probability": 1.0}),
    "random_rotation": Corruption("degrees", (10.0, 20.0, 30.0, 45.0, 60.0)),
    "random_translation": Corruption("share", (0.05, 0.1, 0.15, 0.2, 0.25)),
    "color_jitter": Corruption("contrast", (0.2, 0.4, 0.6, 0.8, 0.95)),
    "rand_augment": Corruption("magnitude", (2.0, 4.0, 6.0, 8.0, 10.0)),
}
PLAIN = ("random_erasing", "random_translation", "rand_augment")  # whose numbers decide what is compiled: no arrays


def corruption(name: str) -> Corruption:
    """The row of a name.

    Raises:
      InputError: there is none.
    """
    if name not in CORRUPTIONS:
        near = did_you_mean(name, CORRUPTIONS)
        raise InputError(f"--corrupt={name}: no such corruption.{near} There are: {', '.join(CORRUPTIONS)}.")
    return CORRUPTIONS[name]


def at_strength(name: str, strength: float) -> Callable:
    """The function of `jaxrec.augment` at a strength, which is an input of the program: five of them compile once."""
    row = corruption(name)
    value = strength if name in PLAIN else jnp.float32(strength)
    return functools.partial(getattr(augment, name), **row.others, **{row.argument: value})
