"""Starting from what another run has learned: what fits is taken over, and all of it is said."""

import re

import jax

from jaxrec.errors import InputError
from jaxrec.task import State
from jaxrec.trees import leaf_types, paths
from jaxrec.types import PyTree


def transfer(state: State, learned: PyTree, *, anew: str | None = None) -> tuple[State, str]:
    """Puts the parameters and batch statistics of another run into a fresh state.

    Args:
      state: at step 0. Its optimizer state and averages stay as they are.
      learned: {"params": ..., "extra": ...} of the other run, arrays on the host.
      anew: a regular expression: what it finds in a path, such as "params/head/kernel", keeps its fresh values.

    Returns:
      (the state, a report: how many were loaded, which start anew, which of the other run's are unused).

    Raises:
      InputError: a parameter is missing in the other run or has another shape there, and `anew` does not cover it; or
        `anew` covers nothing.
    """
    target = {"params": state.params, "extra": {name: tree for name, tree in state.extra.items() if name != "ema"}}
    wanted, found, values = leaf_types(target), leaf_types(learned), paths(learned)
    fresh = [path for path in wanted if anew and re.search(anew, path)]
    if anew and not fresh:
        raise InputError(f"anew = {anew!r} is found in no path of the model. They are: {', '.join(wanted)}.")
    kept = [path for path in wanted if path not in fresh]
    missing = [path for path in kept if path not in found]
    reshaped = [path for path in kept if path in found and found[path] != wanted[path]]
    for which, trouble in ((missing, "missing in that run"), (reshaped, "of another shape in that run")):
        if which:
            listed = ", ".join(f"{path} ({found.get(path, 'missing')} -> {wanted[path]})" for path in which[:4])
            raise InputError(
                f"init_from: {len(which)} arrays are {trouble}: {listed}{', ...' * (len(which) > 4)}. To start them "
                f"anew, cover them by a regular expression, such as train.anew = '{'/'.join(which[0].split('/')[:2])}'."
            )
    leaves = [
        value if path in fresh else jax.device_put(values[path], value.sharding)
        for path, value in paths(target).items()
    ]
    loaded = jax.tree.unflatten(jax.tree.structure(target), leaves)
    unused = [path for path in found if path not in kept]
    report = f"{len(kept)} arrays loaded; anew: {', '.join(fresh) or 'none'}; unused: {', '.join(unused) or 'none'}."
    return state.replace(params=loaded["params"], extra={**state.extra, **loaded["extra"]}), report
