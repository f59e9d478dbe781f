"""A network of another library, Flax NNX, as the two functions of `from_apply`.

    python docs/examples/other_library.py

Batch statistics are carried, dropout draws from the step's key. Measured on 297 test images, n = 3: 91.8 ± 0.2 %.
"""

import jax
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from jaxrec import compile_task, eval_batches, fit, from_apply, losses, train_batches


class Net(nnx.Module):
    """Maps images [B, 8, 8, 1] to logits [B, 10]."""

    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.norm = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.2)
        self.output = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = self.norm(self.hidden(image.reshape(len(image), -1)))
        return self.output(self.dropout(nnx.relu(x), rngs=key))


GRAPH = nnx.graphdef(nnx.eval_shape(lambda: Net(nnx.Rngs(0))))  # all of it but the arrays


def init(key, batch):
    _, params, statistics = nnx.split(Net(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
    return params, {"batch_stats": statistics}


def apply(params, extra, batch, key, train):
    net = nnx.merge(GRAPH, params, extra["batch_stats"], copy=True)
    net.set_attributes(deterministic=not train, use_running_average=not train)
    return net(batch["image"], key), {"batch_stats": nnx.state(net, nnx.BatchStat)}


def main(*, steps: int = 500, seed: int = 0) -> dict[str, float]:
    """Trains; returns accuracies on the test images, the second without anything of jaxrec."""
    x, y = load_digits(return_X_y=True)
    data = {"image": np.float32(x).reshape(-1, 8, 8, 1) / 16, "label": y}
    train = train_batches(data, batch_size=64, ids=np.arange(1500), seed=seed)
    test = eval_batches(data, batch_size=64, ids=np.arange(1500, 1797))
    program = compile_task(from_apply(init, apply, losses.softmax_cross_entropy, optax.adam(2e-3)), train, seed=seed)
    state = fit(program, steps=steps)
    net = nnx.merge(GRAPH, state.params, state.extra["batch_stats"])
    net.eval()
    right = net(data["image"][1500:]).argmax(-1) == y[1500:]
    return {"accuracy": program.evaluate(state, test)["accuracy"], "accuracy_in_nnx": float(right.mean())}


if __name__ == "__main__":
    print(main())
