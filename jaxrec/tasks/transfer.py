"""Starting from what another run has learned: what fits is taken over, and all of it is said."""

import re

import jax

from jaxrec.errors import InputError
from jaxrec.tasks.average import learned
from jaxrec.tasks.task import State
from jaxrec.trees import leaf_types, paths
from jaxrec.types import PyTree


def transfer(state: State, source: PyTree, *, reinit: str | None = None) -> tuple[State, str]:
    """Puts the parameters and batch statistics of another run into a fresh state.

    Args:
      state: at step 0. Its optimizer state and averages stay as they are.
      source: {"params": ..., "extra": ...} of the other run.
      reinit: a regular expression: arrays in whose path it is found keep their fresh values. A path is that of the
        parameter, "Dense_1/kernel", or of a statistic, "batch_stats/BatchNorm_0/mean".

    Returns:
      (the state, a report: how many were loaded, which keep fresh values, which of the other run's are unused).

    Raises:
      InputError: an array is missing in the other run or has another shape there, and `reinit` does not cover it; or
        `reinit` covers nothing.
    """
    target = learned(state)
    wanted, found = ({_short(path): kind for path, kind in leaf_types(tree).items()} for tree in (target, source))
    values = {_short(path): value for path, value in paths(source).items()}
    fresh = [path for path in wanted if reinit and re.search(reinit, path)]
    if reinit and not fresh:
        raise InputError(f"reinit = {reinit!r} is found in no path of the model. They are: {', '.join(wanted)}.")
    kept = [path for path in wanted if path not in fresh]
    wrong = [path for path in kept if found.get(path) != wanted[path]]
    if wrong:
        listed = ", ".join(f"{path} ({found.get(path, 'missing')} -> {wanted[path]})" for path in wrong[:6])
        raise InputError(
            f"init_from: {len(wrong)} arrays are missing in that run or have another shape there: {listed}"
            f"{', ...' * (len(wrong) > 6)}. To give them fresh values, cover them by a regular expression, such "
            f"as train.reinit = '{wrong[0].rpartition('/')[0]}'."
        )
    leaves = [
        value if _short(path) in fresh else jax.device_put(values[_short(path)], value.sharding)
        for path, value in paths(target).items()
    ]
    loaded = jax.tree.unflatten(jax.tree.structure(target), leaves)
    unused = [path for path in found if path not in kept]
    report = f"{len(kept)} arrays loaded; fresh: {', '.join(fresh) or 'none'}; unused: {', '.join(unused) or 'none'}."
    return state.replace(params=loaded["params"], extra={**state.extra, **loaded["extra"]}), report


def submodule_of(source: PyTree, submodule: str) -> PyTree:
    """What a run has learned in one submodule of its network, such as the encoder of an autoencoder.

    Args:
      source: {"params": ..., "extra": ...} of the run.
      submodule: its name.

    Raises:
      InputError: its network has no such submodule.
    """
    if submodule not in source["params"]:
        known = ", ".join(source["params"])
        raise InputError(f"train.submodule = {submodule!r}: that run's network has the submodules {known}.")
    extra = {name: tree[submodule] for name, tree in source["extra"].items() if submodule in tree}
    return {"params": source["params"][submodule], "extra": extra}


def _short(path: str) -> str:
    """A path without its first part, "params" or "extra"."""
    return path.partition("/")[2]
