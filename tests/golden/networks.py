"""The networks that are compared with PyTorch's: small ones of each kind, the weights and images they are given."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple
from unittest import mock

import numpy as np
from flax import linen as nn
from references import Variables, arrays, random_variables

from golden import digest
from jaxrec import models
from jaxrec.models import googlenet

# Of the optimizer steps, SGD on the mean cross-entropy of the same images.
LEARNING_RATE, MOMENTUM, STEPS = 0.01, 0.9, 10


class Case(NamedTuple):
    """A network to compare.

    Attributes:
      model: its arguments make it small.
      shape: [H, W, C] of an image.
      steps: whether weights after ten optimizer steps are compared as well as logits.
      modules: of GoogLeNet's stages, how many are kept; () keeps all.
    """

    model: nn.Module
    shape: tuple[int, int, int]
    steps: bool = True
    modules: tuple[int, ...] = ()

    @contextlib.contextmanager
    def shortened(self) -> Iterator[None]:
        """Within it GoogLeNet has only these modules."""
        stages = [stage[:count] for stage, count in zip(googlenet.STAGES, self.modules, strict=False)]
        with mock.patch.object(googlenet, "STAGES", stages or googlenet.STAGES):
            yield


class Given(NamedTuple):
    """What both sides are given.

    Attributes:
      variables: random parameters and batch statistics.
      image: [4, H, W, C] float32, normal.
      label: [4] of classes that every case has.
    """

    variables: Variables
    image: np.ndarray
    label: np.ndarray

    def digest(self) -> np.ndarray:
        """Tells whether the other side was given the same."""
        leaves = [leaf for tree in self.variables.values() for leaf in arrays(tree).values()]
        return digest(np.concatenate([np.ravel(leaf) for leaf in (*leaves, self.image)]))


def given(case: Case) -> Given:
    image = np.random.RandomState(1).normal(size=(4, *case.shape)).astype(np.float32)
    return Given(random_variables(case.model, case.shape), image, np.array([0, 1, 2, 1]))


TOKENS = {"classes": 5, "width": 8, "heads": 2, "mlp": 12, "depth": 2}

CASES = {
    "MLP": Case(models.MLP(classes=3, widths=(12, 8)), (8, 8, 1)),
    "CNN": Case(models.CNN(classes=3, widths=((4, 4), (6,)), hidden=(8,), padding="SAME"), (8, 8, 2)),
    "CNN-norm": Case(models.CNN(classes=3, widths=((4,), (6,)), hidden=(), padding="SAME", norm="batch"), (9, 8, 3)),
    "LeNet5": Case(models.LeNet5(classes=3), (8, 8, 1)),
    "AlexNet": Case(models.AlexNet(classes=3, width=2, hidden=(8, 6), dropout=0.0), (17, 17, 3)),
    "VGG": Case(models.VGG(classes=3, depth=11, width=2), (32, 32, 3)),
    # Nine modules take long to compile, and random weights amplify rounding through 22 layers of them.
    "GoogLeNet": Case(models.GoogLeNet(classes=3, width=8, widest="3x3-3x3", bias=True), (9, 9, 3), modules=(1, 1)),
    "ResNet": Case(models.ResNet(classes=3, blocks=(2, 1), width=4), (8, 8, 3)),
    "PreActResNet": Case(models.PreActResNet(classes=3, blocks=(2, 1), width=4), (9, 8, 3)),
    "WideResNet": Case(models.WideResNet(classes=3, depth=10, widen=1), (8, 8, 3)),
    "DenseNet": Case(models.DenseNet(classes=3, blocks=(2, 2), growth=4), (8, 8, 3)),
    "RNN-simple": Case(models.RNN(classes=5, cell="simple", hidden=6, layers=2), (8, 8, 1)),
    "RNN-lstm": Case(models.RNN(classes=5, cell="lstm", hidden=6, layers=2), (8, 8, 1)),
    "RNN-gru": Case(models.RNN(classes=5, cell="gru", hidden=6, layers=2), (8, 8, 1)),
    "RNN-both-ways": Case(models.RNN(classes=5, cell="gru", hidden=4, layers=2, bidirectional=True), (8, 8, 1)),
    "ViT": Case(models.ViT(**TOKENS, patch=4), (8, 8, 1)),
    "CCT": Case(models.CCT(**TOKENS, convolutions=2, attention_dropout=0.0, stochastic_depth=0.0), (8, 8, 1)),
    # Only arguments that make another function; large stems leave something of a larger image alone.
    "AlexNet-large": Case(models.AlexNet(classes=3, width=2, hidden=(8,), stem="large"), (70, 63, 3), steps=False),
    "VGG-no-norm": Case(models.VGG(classes=3, depth=13, width=2, norm="none", hidden=(8,)), (64, 32, 3), steps=False),
    "GoogLeNet-large": Case(
        models.GoogLeNet(classes=3, width=4, stem="large", widest="3x3", epsilon=1e-3), (55, 60, 3), steps=False
    ),
    "ResNet-three-stages": Case(models.ResNet(classes=3, blocks=(2, 1, 1), width=4), (8, 8, 3), steps=False),
    "ResNet-bottleneck": Case(
        models.ResNet(classes=3, blocks=(1, 1), width=4, block="bottleneck", stem="large", shortcut="project"),
        (17, 16, 3),
        steps=False,
    ),
    "PreActResNet-bottleneck": Case(
        models.PreActResNet(classes=3, blocks=(1, 1), width=4, block="bottleneck", widen=2, last_norm=False),
        (8, 8, 3),
        steps=False,
    ),
    "DenseNet-large": Case(
        models.DenseNet(classes=3, blocks=(2, 1), growth=3, width=5, bottleneck=False, compress=False, stem="large"),
        (18, 17, 3),
        steps=False,
    ),
}
