"""PyTorch with a flax network's weights: what networks are compared with, forward and through optimizer steps."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import traverse_util

from jaxrec import losses
from jaxrec.tasks.task import State, from_loss

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # threads cost more than they gain on arrays this small
F = torch.nn.functional

LEARNING_RATE, MOMENTUM, STEPS = 0.01, 0.9, 10


def arrays(tree) -> dict[str, np.ndarray]:
    """Leaves by the names of their layer and their own, "Conv_0/kernel", in float64.

    Both sides round in float32, and neither is right. In float64 the reference is, so that what differs is the error of
    the network here alone, and a tolerance says something about it.
    """
    flat = traverse_util.flatten_dict(tree)
    named = {"/".join(path[-2:]): np.asarray(leaf, np.float64) for path, leaf in flat.items()}
    assert len(named) == len(flat)  # a network within a network has its layers to itself
    return named


def tensors(tree) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in arrays(tree).items()}


class Layers:
    """PyTorch's layers on [B, C, H, W]; each takes the next weights of its kind, in the order of flax's numbers.

    Attributes:
      params: weights by name.
      statistics: running means and variances by name, or None: norms take the batch's own, as in training.
    """

    def __init__(self, params, statistics=None):
        self.params, self.statistics = params, statistics
        self.taken = collections.Counter()

    def _next(self, kind: str) -> str:
        self.taken[kind] += 1
        return f"{kind}_{self.taken[kind] - 1}"

    def conv(self, x, stride: int = 1, padding: int | None = None):
        name = self._next("Conv")
        kernel = self.params[f"{name}/kernel"].permute(3, 2, 0, 1)
        padding = kernel.shape[-1] // 2 if padding is None else padding
        return F.conv2d(x, kernel, self.params.get(f"{name}/bias"), stride, padding)

    def norm(self, x, epsilon: float = 1e-5):
        name = self._next("BatchNorm")
        affine = {"weight": self.params[f"{name}/scale"], "bias": self.params[f"{name}/bias"], "eps": epsilon}
        if self.statistics is None:
            return F.batch_norm(x, None, None, training=True, **affine)
        return F.batch_norm(x, self.statistics[f"{name}/mean"], self.statistics[f"{name}/var"], **affine)

    def dense(self, x):
        name = self._next("Dense")
        return F.linear(x, self.params[f"{name}/kernel"].T, self.params[f"{name}/bias"])

    def mean_logits(self, x):
        return self.dense(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def flatten(self, x):
        """All of an image in the order of flax, channels last."""
        return x.permute(0, 2, 3, 1).flatten(1)

    def all_taken(self) -> bool:
        layers = {name.partition("/")[0] for name in self.params}
        return layers == {f"{kind}_{i}" for kind, count in self.taken.items() for i in range(count)}


def as_torch(image: np.ndarray):
    """[B, H, W, C] -> [B, C, H, W] in float64."""
    return torch.tensor(image, dtype=torch.float64).permute(0, 3, 1, 2)


def forward(reference, model: nn.Module, variables, image: np.ndarray) -> np.ndarray:
    """The evaluation's logits; `reference(layers, model, x)` is the network in PyTorch."""
    layers = Layers(tensors(variables["params"]), tensors(variables.get("batch_stats", {})))
    logits = reference(layers, model, as_torch(image))
    assert layers.all_taken()
    return logits.numpy()


def trained(reference, model: nn.Module, variables, image: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """Weights by name after steps of SGD with momentum in PyTorch."""
    params = {name: tensor.requires_grad_() for name, tensor in tensors(variables["params"]).items()}
    optimizer = torch.optim.SGD(params.values(), lr=LEARNING_RATE, momentum=MOMENTUM)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(reference(Layers(params), model, as_torch(image)), torch.tensor(label)).backward()
        optimizer.step()
    return {name: tensor.detach().numpy() for name, tensor in params.items()}


def trained_here(model: nn.Module, variables, image: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    """The same after as many steps of the task that experiments train."""
    tx = optax.sgd(LEARNING_RATE, MOMENTUM)
    task = from_loss(model, losses.softmax_cross_entropy, tx)
    params, extra = variables["params"], {name: tree for name, tree in variables.items() if name != "params"}
    state = State(jnp.zeros((), jnp.int32), params, tx.init(params), extra)
    batch = {"image": image, "label": label, "mask": np.ones(len(label), bool)}
    step = quickly_compiled(task.train_step)
    for _ in range(STEPS):
        state, _ = step(state, batch, jax.random.key(0))
    return arrays(state.params)


def quickly_compiled(function):
    """jit for a program that runs a few times: half the time to compile, by a machine code that is not optimized."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def relative_error(value: np.ndarray, expected: np.ndarray) -> float:
    """Distance of two arrays over the length of the expected one."""
    return float(np.linalg.norm(value - expected) / np.linalg.norm(expected))
