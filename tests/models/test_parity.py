"""Convolutional networks and MLP against PyTorch with the same weights: logits, and weights after optimizer steps."""

import numpy as np
import pytest
from references import F, Layers, arrays, forward, quickly_compiled, relative_error, torch, trained, trained_here
from test_models import random_variables

from jaxrec import models
from jaxrec.models import googlenet as googlenet_module


def mlp(net: Layers, model: models.MLP, x):
    x = net.flatten(x)
    for _ in model.widths:
        x = net.dense(x).relu()
    return net.dense(x)


def cnn(net: Layers, model: models.CNN, x):
    for block in model.widths:
        for _ in block:
            x = net.norm(net.conv(x)).relu() if model.norm == "batch" else net.conv(x).relu()
        x = F.max_pool2d(x, 2)
    x = net.flatten(x)
    for _ in model.hidden:
        x = net.dense(x).relu()
    return net.dense(x)


def lenet(net: Layers, model: models.LeNet5, x):
    frame = (32 - x.shape[-1]) // 2
    x = F.avg_pool2d(net.conv(F.pad(x, (frame,) * 4), padding=0).tanh(), 2)
    x = F.avg_pool2d(net.conv(x, padding=0).tanh(), 2)
    return net.dense(net.dense(net.dense(net.flatten(x)).tanh()).tanh())


def alexnet(net: Layers, model: models.AlexNet, x):
    x = net.conv(x, 4 if model.stem == "large" else 1, padding=2).relu()
    x = net.conv(F.max_pool2d(x, 3, 2)).relu()
    x = F.max_pool2d(x, 3, 2)
    for _ in range(3):
        x = net.conv(x).relu()
    x = net.flatten(F.max_pool2d(x, 3, 2))
    for _ in model.hidden:
        x = net.dense(x).relu()
    return net.dense(x)


def vgg(net: Layers, model: models.VGG, x):
    for count in {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2)}[model.depth]:
        for _ in range(count):
            x = net.conv(x)
            x = (net.norm(x) if model.norm == "batch" else x).relu()
        x = F.max_pool2d(x, 2, 2)
    x = net.flatten(x)
    for _ in model.hidden:
        x = net.dense(x).relu()
    return net.dense(x)


GOOGLENET = [2, 5, 2]  # modules of each stage, which pools separate


def googlenet(net: Layers, model: models.GoogLeNet, x):
    def unit(x, stride: int = 1):
        return net.norm(net.conv(x, stride), model.epsilon).relu()

    def pool(x, side: int = 3):
        if model.stem == "small":
            return F.max_pool2d(x, 3, 2, 1)
        return F.max_pool2d(x, side, 2, ceil_mode=True)

    x = unit(x) if model.stem == "small" else pool(unit(unit(pool(unit(x, 2)))))
    for module in range(sum(GOOGLENET)):
        if module == GOOGLENET[0]:
            x = pool(x)
        elif module == sum(GOOGLENET[:2]):
            x = pool(x, 2)
        views = [unit(x), unit(unit(x)), unit(unit(x))]
        if model.widest == "3x3-3x3":
            views[2] = unit(views[2])
        x = torch.cat([*views, unit(F.max_pool2d(x, 3, 1, 1))], 1)
    return net.mean_logits(x)


def resnet(net: Layers, model: models.ResNet, x):
    if model.stem == "small":
        x = net.norm(net.conv(x)).relu()
    else:
        x = F.max_pool2d(net.norm(net.conv(x, 2)).relu(), 3, 2, 1)
    for stage, count in enumerate(model.blocks):
        for index in range(count):
            stride = 2 if stage and not index else 1
            if model.block == "basic":
                y = net.norm(net.conv(net.norm(net.conv(x, stride)).relu()))
            else:
                y = net.norm(net.conv(x)).relu()
                y = net.norm(net.conv(net.norm(net.conv(y, stride)).relu()))
            more = y.shape[1] - x.shape[1]
            if more and model.shortcut == "project":
                x = net.norm(net.conv(x, stride))
            elif more:
                x = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, more // 2, more // 2))
            x = (x + y).relu()
    return net.mean_logits(x)


def preact(net: Layers, model: models.PreActResNet | models.WideResNet, x):
    wide = isinstance(model, models.WideResNet)
    blocks = ((model.depth - 4) // 6,) * 3 if wide else model.blocks
    bottleneck = not wide and model.block == "bottleneck"
    x = net.conv(x)
    for stage, count in enumerate(blocks):
        for index in range(count):
            stride = 2 if stage and not index else 1
            y = first = net.norm(x).relu()
            if bottleneck:
                y = net.norm(net.conv(y)).relu()
            y = net.conv(net.norm(net.conv(y, stride)).relu())
            x = (x if x.shape == y.shape else net.conv(first, stride)) + y
    return net.mean_logits(net.norm(x).relu() if wide or model.last_norm else x)


def densenet(net: Layers, model: models.DenseNet, x):
    x = net.conv(x, 1 if model.stem == "small" else 2)
    if model.stem == "large":
        x = F.max_pool2d(net.norm(x).relu(), 3, 2, 1)
    for block, count in enumerate(model.blocks):
        if block:
            x = F.avg_pool2d(net.conv(net.norm(x).relu()), 2)
        for _ in range(count):
            y = net.norm(x).relu()
            if model.bottleneck:
                y = net.norm(net.conv(y)).relu()
            x = torch.cat([x, net.conv(y)], 1)
    return net.mean_logits(net.norm(x).relu())


# (model, reference, image shape)
NETWORKS = [
    (models.MLP(classes=3, widths=(12, 8)), mlp, (8, 8, 1)),
    (models.CNN(classes=3, widths=((4, 4), (6,)), hidden=(8,), padding="SAME"), cnn, (8, 8, 2)),
    (models.CNN(classes=3, widths=((4,), (6,)), hidden=(), padding="SAME", norm="batch"), cnn, (9, 8, 3)),
    (models.LeNet5(classes=3), lenet, (8, 8, 1)),
    (models.AlexNet(classes=3, width=2, hidden=(8, 6), dropout=0.0), alexnet, (17, 17, 3)),
    (models.VGG(classes=3, depth=11, width=2), vgg, (32, 32, 3)),
    (models.GoogLeNet(classes=3, width=8, widest="3x3-3x3", bias=True), googlenet, (9, 9, 3)),
    (models.ResNet(classes=3, blocks=(2, 1), width=4), resnet, (8, 8, 3)),
    (models.PreActResNet(classes=3, blocks=(2, 1), width=4), preact, (9, 8, 3)),
    (models.WideResNet(classes=3, depth=10, widen=1), preact, (8, 8, 3)),
    (models.DenseNet(classes=3, blocks=(2, 2), growth=4), densenet, (8, 8, 3)),
]
# Only arguments that make another function; large stems leave something of a larger image alone.
FORMS = [
    (models.AlexNet(classes=3, width=2, hidden=(8,), stem="large"), alexnet, (70, 63, 3)),
    (models.VGG(classes=3, depth=13, width=2, norm="none", hidden=(8,)), vgg, (64, 32, 3)),
    (models.GoogLeNet(classes=3, width=4, stem="large", widest="3x3", epsilon=1e-3), googlenet, (55, 60, 3)),
    (
        models.ResNet(classes=3, blocks=(1, 1), width=4, block="bottleneck", stem="large", shortcut="project"),
        resnet,
        (17, 16, 3),
    ),
    (
        models.PreActResNet(classes=3, blocks=(1, 1), width=4, block="bottleneck", widen=2, last_norm=False),
        preact,
        (8, 8, 3),
    ),
    (
        models.DenseNet(classes=3, blocks=(2, 1), growth=3, width=5, bottleneck=False, compress=False, stem="large"),
        densenet,
        (18, 17, 3),
    ),
]


def name_of(value) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else getattr(value, "__name__", type(value).__name__)


def images(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)


def assert_logits_equal_pytorch(model, reference, variables, image: np.ndarray) -> None:
    expected = forward(reference, model, variables, image)
    assert np.ptp(expected, axis=0).min() > 1e-2 * np.abs(expected).max()  # the images are told apart
    logits = quickly_compiled(lambda variables, image: model.apply(variables, image, train=False))(variables, image)
    assert relative_error(np.asarray(logits), expected) <= 1e-5


@pytest.mark.parametrize(("model", "reference", "shape"), FORMS, ids=name_of)
def test_logits_equal_pytorch(model, reference, shape):
    assert_logits_equal_pytorch(model, reference, random_variables(model, shape), images(shape))


@pytest.mark.parametrize(("model", "reference", "shape"), NETWORKS, ids=name_of)
def test_logits_and_ten_steps_equal_pytorch(model, reference, shape, monkeypatch):
    # Nine modules take long to compile, and random weights amplify rounding through 22 layers of them.
    monkeypatch.setattr(googlenet_module, "STAGES", [modules[:1] for modules in googlenet_module.STAGES[:2]])
    monkeypatch.setitem(globals(), "GOOGLENET", [1, 1, 0])
    variables, image, label = random_variables(model, shape), images(shape), np.array([0, 1, 2, 1])
    assert_logits_equal_pytorch(model, reference, variables, image)
    expected = trained(reference, model, variables, image, label)
    params = trained_here(model, variables, image, label)
    errors = {name: relative_error(params[name], value) for name, value in expected.items()}
    assert max(errors.values()) <= 1e-5, errors
    # Equal is not for lack of moving: all do, but for a bias whose norm takes it away.
    moved = {name: relative_error(value, expected[name]) for name, value in arrays(variables["params"]).items()}
    still = {name for name, distance in moved.items() if distance < 1e-4}
    redundant = {name for name in moved if "BatchNorm_0/scale" in moved and name.startswith("Conv") and "bias" in name}
    assert still == redundant
