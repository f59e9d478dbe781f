"""Sharpness-aware minimisation (Foret et al., 2021): the gradient of any task, taken where the loss nearby is worst.

    python docs/examples/sam.py

Two of five training labels are drawn anew, which is where it gains most (section 3.3). Measured on 297 test images with
right labels, n = 3: 87.9 ± 1.2 %, where plain SGD learns the wrong labels by heart and gets 71.7 ± 4.6 %. After a
quarter of the steps, where SGD had better stop, 89.0 ± 1.0 % and 86.9 ± 1.2 %. Each of its steps takes two gradients.
"""

import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

from jaxrec import compile_task, eval_batches, fit, from_loss, losses, models, train_batches


def sharpness_aware(radius):
    """What `gradient=` of a task takes: a function from its objective to the gradient that training follows."""

    def of(objective):
        plain = jax.grad(objective, has_aux=True)

        def gradient(params, extra, batch, key):
            grads, aux = plain(params, extra, batch, key)
            scale = radius / (optax.tree.norm(grads) + 1e-12)
            worst = jax.tree.map(lambda param, grad: param + scale * grad, params, grads)  # equation 2
            return plain(worst, extra, batch, key)[0], aux

        return gradient

    return of


def main(*, steps: int = 2000, seed: int = 0, radius: float = 0.5) -> dict[str, float]:
    """Trains plainly, then sharpness-aware; returns accuracies on test images, whose labels are right."""
    digits, rng = load_digits(), np.random.default_rng(seed)
    data = {"image": np.float32(digits.images[..., None]) / 16, "label": digits.target}
    noisy = np.where(rng.random(1797) < 0.4, rng.integers(0, 10, 1797), digits.target)
    train = train_batches({**data, "label": noisy}, batch_size=64, ids=np.arange(1500), seed=seed)
    test = eval_batches(data, batch_size=64, ids=np.arange(1500, 1797))
    model, tx = models.MLP(widths=(256,)), optax.sgd(0.05, momentum=0.9)
    plain = from_loss(model, losses.softmax_cross_entropy, tx)
    aware = from_loss(model, losses.softmax_cross_entropy, tx, gradient=sharpness_aware(radius))
    found = {}
    for name, task in {"plain": plain, "sharpness_aware": aware}.items():
        program = compile_task(task, train, seed=seed)
        found[name] = program.evaluate(fit(program, steps=steps), test)["accuracy"]
    return found


if __name__ == "__main__":
    print(main())
