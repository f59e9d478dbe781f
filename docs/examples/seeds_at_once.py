"""Several seeds in one task: its three functions under vmap, over a leading axis of everything that is learned.

    python docs/examples/seeds_at_once.py

Small networks leave most of a device idle, and the spread over seeds is what makes a number worth stating (Bouthillier
et al., 2021, "Accounting for variance in machine learning benchmarks").
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from jaxrec import State, Task, compile_task, eval_batches, fit, from_loss, losses, models, train_batches

AXES = State(step=None, params=0, opt_state=0, extra=0)  # all seeds have taken the same number of steps


def at_once(task: Task, seeds: range) -> Task:
    """The task of learning `task` under several seeds, each as if alone; all see the same batches."""
    roots = jax.vmap(jax.random.key)(jnp.array(seeds))

    def init(key, batch):
        return jax.vmap(task.init, (0, None), AXES)(roots, batch)

    def train_step(state, batch, key):
        keys = jax.vmap(jax.random.fold_in, (0, None))(roots, state.step)
        return jax.vmap(task.train_step, (AXES, None, 0), (AXES, 0))(state, batch, keys)

    def eval_step(state, batch, key):
        return jax.vmap(task.eval_step, (AXES, None, None))(state, batch, key)

    return Task(init, train_step, eval_step)


def main(*, steps: int = 500, seed: int = 0, seeds: int = 8) -> dict[str, float]:
    """Trains all seeds at once, and the last of them alone; returns accuracies on the test images."""
    digits = load_digits()
    data = {"image": np.float32(digits.images[..., None]) / 16, "label": digits.target}
    train = train_batches(data, batch_size=64, ids=np.arange(1500))
    test = eval_batches(data, batch_size=64, ids=np.arange(1500, 1797))
    one = from_loss(models.MLP(widths=(64,), dropout=0.2), losses.softmax_cross_entropy, optax.adam(2e-3))
    program = compile_task(at_once(one, range(seed, seed + seeds)), train)
    state = fit(program, steps=steps)
    found = program.evaluate(state, test)  # arrays [seeds]
    program = compile_task(one, train, seed=seed + seeds - 1)
    alone = fit(program, steps=steps)
    apart = jax.tree.map(lambda each, own: jnp.abs(each[-1] - own).max(), state.params, alone.params)
    return {
        "accuracy": found["accuracy"].mean(),
        "deviation": found["accuracy"].std(ddof=1),
        "loss_of_the_last": found["loss"][-1],
        "loss_alone": program.evaluate(alone, test)["loss"],
        "furthest_parameter": float(jnp.max(jnp.array(jax.tree.leaves(apart)))),
    }


if __name__ == "__main__":
    print(main())
