"""Names shared by every module: array aliases, argument kinds, the dimension vocabulary.

Dimension vocabulary, used in shape comments and docstrings throughout:
B batch, H W C image height, width, channels, T time or tokens, D features, K classes, Z code or
latent, S samples of it, N examples of a data set.

The argument kinds (`Count`, `Rate`, ...) document what an argument may hold, and `experiments/settings/schema.py` reads
them from the signatures to check a config before JAX is even imported.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

Array = jax.Array
Key = jax.Array
PyTree = Any
Batch = Mapping[str, Any]  # {"image": [B, H, W, C], "label": [B], "mask": [B], ...}
Loss = Callable[[Any, Batch], Mapping[str, Array]]  # (outputs, batch) -> {"loss": [B], ...}

Count = int  # a whole number, 1 or more
Whole = int  # a whole number, 0 or more
Seed = int  # a whole number from 0 to 2**32 - 1: JAX takes no more bits, and larger seeds would collide
Positive = float  # finite and above 0
NonNegative = float  # finite, 0 or more
Rate = float  # a share: 0 <= rate < 1
Share = float  # 0 <= share <= 1
Milestones = Sequence[float]  # increasing shares of a run
Weights = Sequence[float]  # 0 or more, at least one of them
Labels = Sequence[int]  # of classes, 0 or more
Pattern = str  # a regular expression, searched in a parameter's path: "block_0/Dense_0/kernel"
Factors = Sequence[tuple[str, float]]  # (pattern, factor), 0 or more
Names = Sequence[str]  # one or more
Paths = Sequence[str]  # of files and folders, globs too, one or more: a command takes them as its words
Assignments = Sequence[str]  # KEY=VALUE each, one or more; a flag of a command, once for each
Widths = Sequence[int]  # whole numbers, 1 or more
Shape = tuple[int, int, int]  # (H, W, C) of an image
Blocks = Sequence[int | Sequence[int]]  # widths; an inner sequence is a block of layers
