"""Which steps may run in a loop of the device; that they are the same steps, `test_train.py` tests."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from jaxrec import layers, models
from jaxrec.engine.steps import slow_in_a_loop


def gradient(module: nn.Module, shape: tuple[int, ...], **arguments) -> str:
    """The gradient in parameters and image, as StableHLO: lowered, not compiled."""

    def init(key, image):
        return module.init({"params": key, "dropout": key}, image, **arguments)

    def run(variables, key, image):
        def total(params, image):
            others = {name: value for name, value in variables.items() if name != "params"}
            rngs = {"dropout": key}
            y, _ = module.apply({"params": params, **others}, image, mutable=list(others), rngs=rngs, **arguments)
            return jnp.sum(y**2)

        return jax.grad(total, (0, 1))(variables["params"], image)

    key, image = jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.jit(run).lower(jax.eval_shape(init, key, image), key, image).as_text()


# A stride of 2 makes XLA's own gradients differ from those of stride 1 in their labels.
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize(
    ("convolution", "shape", "slow"),
    [
        (layers.Conv(8, (3, 3)), (2, 9, 9, 8), False),
        (layers.Conv(8, (3, 3)), (2, 9, 9, 3), False),
        (layers.ConvTranspose(8, (4, 4)), (2, 9, 9, 8), False),
        (nn.Conv(8, (3, 3)), (2, 9, 9, 8), True),
        (nn.ConvTranspose(8, (4, 4)), (2, 9, 9, 8), True),
        (layers.Conv(8, (3, 3), feature_group_count=4), (2, 9, 9, 8), True),
        (nn.Conv(8, (3,)), (2, 9, 8), True),
    ],
)
def test_convolutions_that_are_slow_in_a_loop_are_told_apart(convolution, shape, slow, strides):
    assert slow_in_a_loop(gradient(convolution.clone(strides=strides), shape)) == slow


@pytest.mark.parametrize("module", [nn.Conv(8, (3, 3)), nn.Conv(8, (3,)), nn.Conv(8, (3, 3, 3))])
def test_a_forward_convolution_is_not_slow(module):
    image = jnp.zeros((2, *[9] * len(module.kernel_size), 8))
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    assert not slow_in_a_loop(jax.jit(module.apply).lower(variables, image).as_text())


@pytest.mark.parametrize(
    "model",
    [
        models.CNN(widths=((4, 8), 8), norm="batch", padding="SAME"),
        models.CNN(widths=(4, 8), kernel=5, pool="average", padding="SAME"),
        models.MLP(widths=(8,)),
        models.RNN(hidden=8, read="pixels"),
        models.ResNet(blocks=(1, 1), width=8),
        models.ResNet(blocks=(1, 1), width=8, block="bottleneck", stem="large", shortcut="project"),
        models.RNN(cell="gru", hidden=8, bidirectional=True),
        models.ViT(width=12, depth=1, mlp=12),
        models.CCT(width=8, depth=1, heads=2, mlp=8, convolutions=2),
        models.CCT(width=8, depth=1, heads=2, mlp=8, kernel=7),
        models.LeNet5(),
        models.AlexNet(width=8, hidden=(8,), dropout=0.0),
        models.AlexNet(width=8, hidden=(8,), dropout=0.0, stem="large"),
        models.VGG(depth=11, width=8),
        pytest.param(models.GoogLeNet(width=8), marks=pytest.mark.slow),
        pytest.param(models.GoogLeNet(width=8, stem="large"), marks=pytest.mark.slow),
        models.PreActResNet(blocks=(1, 1), width=8),
        models.WideResNet(depth=10, widen=1),
        models.WhitenedCNN(widths=(8, 8)),
        models.DenseNet(blocks=(1, 1), growth=8),
        models.DenseNet(blocks=(1, 1), growth=8, stem="large"),
    ],
    ids=lambda model: type(model).__name__,
)
def test_no_network_of_ours_is_slow_in_a_loop(model):
    large = getattr(model, "stem", "small") == "large"
    assert not slow_in_a_loop(gradient(model, (2, 64, 64, 3) if large else (2, 32, 32, 3), train=True))
