"""jaxrec: image recognition research in JAX. What a notebook needs is offered here by name; the rest is in its room."""

import importlib
import os
import pathlib
import sys
from typing import Any

from jaxrec.errors import InputError

# Looked up when asked for: a config is refused before JAX is imported, and the doctor works where JAX is missing.
_HOMES = {
    "Checkpoints": "jaxrec.engine.checkpoint",
    "Mean": "jaxrec.metrics",
    "Rows": "jaxrec.metrics",
    "State": "jaxrec.tasks.task",
    "Task": "jaxrec.tasks.task",
    "accumulated": "jaxrec.tasks.gradients",
    "averaged": "jaxrec.tasks.average",
    "compile_task": "jaxrec.engine.program",
    "data_parallel": "jaxrec.sharding",
    "descend": "jaxrec.tasks.task",
    "eval_batches": "jaxrec.data.batches",
    "example_keys": "jaxrec.data.keys",
    "fit": "jaxrec.engine.loop",
    "from_apply": "jaxrec.tasks.one_loss",
    "from_loss": "jaxrec.tasks.one_loss",
    "linen": "jaxrec.tasks.one_loss",
    "train_batches": "jaxrec.data.batches",
    "with_average": "jaxrec.tasks.average",
}
_ROOMS = ("augment", "data", "engine", "layers", "losses", "machine", "metrics", "models", "optim", "output", "tasks")

__all__ = [*_HOMES, *_ROOMS, "load"]


def load(run: str | os.PathLike, **options: Any) -> Any:
    """A recogniser's run as an `experiments.predictor.Predictor`: called on images it gives probabilities [N, K].

    The one name here that is not of this package: what a run's config means, `experiments/` beside it knows.

    Args:
      run: the run's folder.
      **options: of `experiments.predictor.load`.

    Raises:
      InputError: `experiments/` is not there; and what `experiments.predictor.load` raises.
    """
    root = pathlib.Path(__file__).parents[1]
    if not (root / "experiments" / "predictor.py").exists():
        raise InputError(
            f"jaxrec.load needs the folder experiments/ of jaxrec's repository, and {root} has none. Install from a "
            "clone, pip install -e ."
        )
    if str(root) not in sys.path:  # an editable install offers jaxrec/ alone
        sys.path.append(str(root))
    return importlib.import_module("experiments.predictor").load(run, **options)


def __getattr__(name: str) -> Any:
    """Imports what is asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"jaxrec.{name}")
    raise AttributeError(f"module 'jaxrec' has no attribute {name!r}. It offers: {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
