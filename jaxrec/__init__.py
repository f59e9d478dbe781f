"""jaxrec: image recognition research in JAX. What a notebook needs is offered here by name; the rest is in its room."""

import importlib
from typing import Any

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

__all__ = [*_HOMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    """Imports what is asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"jaxrec.{name}")
    raise AttributeError(f"module 'jaxrec' has no attribute {name!r}. It offers: {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)
