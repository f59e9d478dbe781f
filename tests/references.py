"""What comparisons with other programs and with numpy share: random weights, a quick jit, a distance."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

Variables = dict  # collections of a linen module by name: "params", "batch_stats"


def shapes_of(model: nn.Module, image_shape: tuple[int, ...], train: bool = False):
    """(logits, variables) of the model as shapes and types, without computing anything."""

    def run(key, image):
        rngs = {"params": key, "dropout": key}
        return model.init_with_output(rngs, image, train=train)

    return jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, *image_shape)))


def random_variables(model: nn.Module, image_shape: tuple[int, ...], seed: int = 0) -> Variables:
    """Variables in which no bias is 0, no scale 1 and no running statistic trivial; variances are positive.

    They follow from names and shapes alone, whatever the versions of jax and numpy: RandomState is frozen.
    """
    draw = np.random.RandomState(seed)
    flat = traverse_util.flatten_dict(shapes_of(model, image_shape)[1])
    flat = {
        path: draw.uniform(0.5, 1.5, leaf.shape) if path[-1] in ("scale", "var") else draw.normal(0, 0.3, leaf.shape)
        for path, leaf in sorted(flat.items())
    }
    return traverse_util.unflatten_dict({path: value.astype(np.float32) for path, value in flat.items()})


def arrays(tree) -> dict[str, np.ndarray]:
    """Leaves by path, "block_0/Dense_1/kernel", in float64.

    Both sides of a comparison round in float32, and neither is right. In float64 the reference is, so that what differs
    is the error of the network here alone, and a tolerance says something about it.
    """
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {name: np.asarray(leaf, np.float64) for name, leaf in sorted(flat.items())}


def quickly_compiled(function):
    """jit for a program that runs a few times: half the time to compile, by a machine code that is not optimized.

    XLA's older generator of code, xla_cpu_use_fusion_emitters = False, would be several times quicker still. With this
    level of optimization jaxlib 0.10.2 then gives wrong gradients: those of VGG are off by up to 45 %.
    """
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function, compiler_options=options)


def relative_error(value: np.ndarray, expected: np.ndarray) -> float:
    """Distance of two arrays over the length of the expected one."""
    return float(np.linalg.norm(value - expected) / np.linalg.norm(expected))
