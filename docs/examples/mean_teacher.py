"""Mean teacher (Tarvainen and Valpola, 2017): few images have labels, and all are to look as an average of oneself says.

    python docs/examples/mean_teacher.py

MEASURED
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from jaxrec import augment, compile_task, eval_batches, example_keys, fit, from_loss, losses, models, train_batches
from jaxrec.tasks.average import with_average

NETWORK = models.CNN(widths=(32,), padding="SAME", hidden=(64,))


def two_views(batch):
    """One view for the network, "other" for the average: moved, and made noisy."""

    def view(image, key):
        move, noise = jax.random.split(key)
        return augment.gaussian_noise(augment.random_translation(image, move), noise, std=0.15)

    keys = jax.vmap(jax.random.split, out_axes=1)(example_keys(batch, stream=2**31))  # [2, B]
    image, other = jax.vmap(jax.vmap(view), (None, 0))(batch["image"], keys)
    return {**batch, "image": image, "other": other}


def consistent(logits, batch, *, average, step, weight=10.0, rise=300):
    """The cross-entropy of images with labels, and how far all are from what the average says of another view."""
    own = losses.softmax_cross_entropy(logits, batch)["loss"] * batch["labelled"]
    target = jax.nn.softmax(NETWORK.apply(average, batch["other"], train=False))
    distance = jnp.square(jax.nn.softmax(logits) - target).sum(-1)
    return {"loss": own + weight * jnp.minimum(step / rise, 1) * distance}


def main(*, steps: int = 1000, seed: int = 0, labels: int = 50) -> dict[str, float]:
    """Trains on the images with labels alone, and on all; returns accuracies of the averages on the test images."""
    digits = load_digits()
    labelled = np.where(np.arange(len(digits.target)) < labels, np.float32(1500 / labels), 0)  # 0 without, 1 on average
    data = {"image": np.float32(digits.images[..., None]) / 16, "label": digits.target, "labelled": labelled}
    few, train = (
        train_batches(data, batch_size=48, ids=np.arange(n), seed=seed, transform=two_views) for n in (labels, 1500)
    )
    test = eval_batches(data, batch_size=48, ids=np.arange(1500, 1797))
    task = from_loss(NETWORK, losses.softmax_cross_entropy, optax.adam(2e-3), train_loss=consistent)
    program = compile_task(with_average(task, 0.95), train, seed=seed)
    states = {"labels_alone": fit(program.on(few), steps=steps), "mean_teacher": fit(program, steps=steps)}
    return {name: program.evaluate(state, test)["ema_accuracy"] for name, state in states.items()}


if __name__ == "__main__":
    print(main())
