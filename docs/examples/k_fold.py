"""Cross-validation: k networks, each tested on the part that it never saw, and one compiled step for all of them.

    python docs/examples/k_fold.py

Measured, n = 3 divisions into five: 97.0 ± 0.3 % of all 1,797 images are recognised by the network that never saw them.
"""

import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

from jaxrec import compile_task, eval_batches, fit, from_loss, losses, models, train_batches


def main(*, steps: int = 500, seed: int = 0, folds: int = 5) -> dict[str, float]:
    """Trains a network for each fold; returns accuracies over all examples, each predicted once by who never saw it."""
    digits = load_digits()
    data = {"image": np.float32(digits.images[..., None]) / 16, "label": digits.target}
    parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(digits.images, digits.target))
    train = [train_batches(data, batch_size=64, ids=ids, seed=seed) for ids, _ in parts]
    task = from_loss(models.MLP(widths=(64,)), losses.softmax_cross_entropy, optax.adam(2e-3))
    program = compile_task(task, train[0], seed=seed)

    logits = np.full((len(digits.target), 10), np.nan)
    for batches, (_, held_out) in zip(train, parts, strict=True):
        state = fit(program.on(batches), steps=steps)
        logits[held_out] = program.predict(state, eval_batches(data, batch_size=64, ids=held_out))
    right = logits.argmax(-1) == digits.target
    each = [right[held_out].mean() for _, held_out in parts]
    return {
        "accuracy": right.mean(),
        "deviation_of_folds": np.std(each, ddof=1),
        "programs": len(program.compiled),
    }


if __name__ == "__main__":
    print(main())
