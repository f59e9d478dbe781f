"""torch as its tutorials train: modules, eager steps, its fused Adam."""

import itertools
import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812, its name everywhere

from peers.networks import NETWORKS, family
from peers.turns import Turns


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def dense(widths: tuple[int, ...], linear: tuple[int, ...]) -> nn.Module:
    """Dense layers with relu after each but those in `linear`."""
    layers: list[nn.Module] = [nn.Flatten()]
    for number, (inputs, outputs) in enumerate(itertools.pairwise((784, *widths))):
        layers += [nn.Linear(inputs, outputs)] + ([] if number in linear else [nn.ReLU()])
    return nn.Sequential(*layers)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(192), nn.LayerNorm(192)
        self.qkv, self.out = nn.Linear(192, 576), nn.Linear(192, 192)
        self.mlp = nn.Sequential(nn.Linear(192, 768), nn.GELU(approximate="tanh"), nn.Linear(768, 192))

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).reshape(len(x), 64, 3, 3, 64).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.norm, self.head = nn.Conv2d(3, 192, 4, 4), nn.LayerNorm(192), nn.Linear(192, 10)
        self.positions = nn.Parameter(0.02 * torch.randn(64, 192))
        self.blocks = nn.Sequential(*(Block() for _ in range(6)))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.lstm(x[:, 0])[0][:, -1])


class Residual(nn.Module):
    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.stride, self.more = width // inputs, width - inputs
        self.conv1 = nn.Conv2d(inputs, width, 3, self.stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(x + y)


def resnet() -> nn.Module:
    widths = [16] * 4 + [32] * 3 + [64] * 3
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(Residual(inputs, width) for inputs, width in itertools.pairwise(widths)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


MODELS = {
    "seed CNN": cnn,
    "MLP": lambda: dense((512, 512, 10), linear=(2,)),
    "dense autoencoder": lambda: dense((1000, 500, 250, 30, 250, 500, 1000, 784), linear=(3, 7)),
    "ViT-tiny": ViT,
    "LSTM": LSTM,
    "ResNet-20": resnet,
}


class Supervised(nn.Module):
    """A model, its optimizer and its step."""

    def __init__(self, kind: str, layout: torch.memory_format):
        super().__init__()
        self.reconstruct = kind == "dense autoencoder"
        self.model = MODELS[kind]().to(memory_format=layout)
        self.adam = torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)

    def step(self, image: torch.Tensor, label: torch.Tensor) -> None:
        y = self.model(image)
        if self.reconstruct:
            loss = F.binary_cross_entropy_with_logits(y, image.flatten(1), reduction="sum") / len(image)
        else:
            loss = F.cross_entropy(y, label)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()


class DCGAN(nn.Module):
    """Generator, discriminator, their optimizers and their step."""

    def __init__(self, layout: torch.memory_format):
        super().__init__()
        self.layout = layout
        self.g = nn.Sequential(
            *(nn.Linear(100, 8192, bias=False), nn.Unflatten(1, (128, 8, 8)), nn.BatchNorm2d(128), nn.ReLU()),
            *(nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh()),
        ).to(memory_format=layout)
        self.d = nn.Sequential(
            *(nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(64, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2)),
            *(nn.Flatten(), nn.Linear(8192, 1)),
        ).to(memory_format=layout)
        self.g_adam, self.d_adam = (
            torch.optim.Adam(part.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True) for part in (self.g, self.d)
        )

    def step(self, image: torch.Tensor, label: torch.Tensor) -> None:
        def against(logits: torch.Tensor, target: float) -> torch.Tensor:
            return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))

        fake = self.g(torch.randn(len(image), 100))
        self.d_adam.zero_grad(set_to_none=True)
        (against(self.d(2 * image - 1), 1.0) + against(self.d(fake.detach()), 0.0)).backward()
        self.d_adam.step()
        self.d.requires_grad_(False)  # the generator's step takes no gradient of the discriminator's weights
        self.g_adam.zero_grad(set_to_none=True)
        against(self.d(fake), 1.0).backward()
        self.g_adam.step()
        self.d.requires_grad_(True)


def train(name: str, arrays: dict[str, np.ndarray], turns: Turns, channels_last: bool) -> None:
    network, kind = NETWORKS[name], family(name)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    trainer = DCGAN(layout) if kind == "DCGAN" else Supervised(kind, layout)
    turns.facts["parameters"] = sum(parameter.numel() for parameter in trainer.parameters())
    images = torch.from_numpy(arrays["image"])  # [N, H, W, C]
    if not channels_last:
        images = images.permute(0, 3, 1, 2).contiguous()
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    labels, done = torch.from_numpy(arrays["label"]).long(), 0
    while True:
        for rows in torch.randperm(len(images)).split(network.batch)[: len(images) // network.batch]:
            image = images[rows]
            image = image.permute(0, 3, 1, 2) if channels_last else image
            trainer.step(image.float().div_(255), labels[rows])
            done += 1
            if done % network.chunk == 0:
                turns.tick(network.chunk * network.batch)
