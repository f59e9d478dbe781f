"""torch as one trains it on a GPU: channels last, bfloat16 by autocast, its fused optimizers, compiled or not."""

import functools
import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812, its name everywhere

from peers.torch_eager import cnn

MODES = {"torch": None, "torch.compile": "default", "torch.compile, graphs": "reduce-overhead"}


def conv(inputs: int, width: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, width, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(width)]


class Residual(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 where `bottleneck`; a 1x1 convolution beside them where shapes change."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            first = [*conv(inputs, width, 1), nn.ReLU(), *conv(width, width, 3, stride)]
            self.body = nn.Sequential(*first, nn.ReLU(), *conv(width, outputs, 1))
        else:
            self.body = nn.Sequential(*conv(inputs, width, 3, stride), nn.ReLU(), *conv(width, width, 3))
        changes = stride > 1 or inputs != outputs
        self.shortcut = nn.Sequential(*conv(inputs, outputs, 1, stride)) if changes else nn.Identity()

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


def resnet(blocks: tuple[int, ...], classes: int, *, large: bool) -> nn.Module:
    """The forms of jaxrec's ResNet: bottlenecks and the stem of stride 4 where `large`, else for small images."""
    stem = [*conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)] if large else [*conv(3, 64, 3), nn.ReLU()]
    body, inputs = [], 64
    for stage, count in enumerate(blocks):
        for index in range(count):
            width = 64 * 2**stage
            body.append(Residual(inputs, width, 2 if stage and not index else 1, large))
            inputs = 4 * width if large else width
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


MODELS = {
    "seed CNN": lambda _: cnn(),
    "ResNet-18": functools.partial(resnet, (2, 2, 2, 2), large=False),
    "ResNet-50": functools.partial(resnet, (3, 4, 6, 3), large=True),
}


def trainer(
    name: str, classes: int, half: bool, mode: str | None, arrays: dict[str, np.ndarray], batch: int
) -> tuple[Callable[[int], None], int]:
    """Returns (take_steps(count), which waits for the device at the end; the number of parameters)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # as XLA computes float32
    model = MODELS[name](classes).to(device, memory_format=torch.channels_last)
    if name == "seed CNN":
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    images, labels = (torch.from_numpy(arrays[key]).to(device) for key in ("image", "label"))

    def loss_of(image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2).float() / 255  # [B, H, W, C] already lies as channels_last wants it
        with torch.autocast(device, torch.bfloat16, enabled=half):
            logits = model(x)
        return F.cross_entropy(logits.float(), label)

    compiled = torch.compile(loss_of, mode=mode) if mode else loss_of

    def rows_of_epochs():
        while True:
            yield from torch.randperm(len(images), device=device).split(batch)[: len(images) // batch]

    rows = rows_of_epochs()

    def take_steps(count: int) -> None:
        for ids in itertools.islice(rows, count):
            loss = compiled(images[ids], labels[ids])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return take_steps, sum(parameter.numel() for parameter in model.parameters())
