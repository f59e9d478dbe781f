"""RNN, ViT and CCT against PyTorch's own layers: copied weights, one forward pass, ten steps of SGD with momentum."""

import itertools
from collections.abc import Iterator

import jax
import numpy as np
import optax
import pytest
from test_models import random_variables

from jaxrec import models

torch = pytest.importorskip("torch")
functional = torch.nn.functional

Pair = tuple[np.ndarray, torch.Tensor]  # our parameter in PyTorch's order of dimensions, and PyTorch's


def linear(params, theirs: torch.nn.Linear) -> Iterator[Pair]:
    yield params["kernel"].T, theirs.weight
    if theirs.bias is not None:
        yield params["bias"], theirs.bias


def norm(params, theirs: torch.nn.LayerNorm) -> Iterator[Pair]:
    yield params["scale"], theirs.weight
    yield params["bias"], theirs.bias


class RNN(torch.nn.Module):
    """torch.nn.RNN, LSTM or GRU over the rows of grey images; the last state of each direction is classified."""

    def __init__(self, model: models.RNN, inputs: int):
        super().__init__()
        kind = {"simple": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[model.cell]
        self.rnn = kind(inputs, model.hidden, model.layers, bidirectional=model.bidirectional, batch_first=True)
        self.directions = 1 + model.bidirectional
        self.head = torch.nn.Linear(self.directions * model.hidden, model.classes)
        self.kept = torch.zeros(self.rnn.bias_hh_l0.shape)
        if model.cell == "gru":
            self.kept[2 * model.hidden :] = 1
        for name, bias in self.rnn.named_parameters():  # PyTorch has two biases where one is enough, but for one gate
            if name.startswith("bias_hh"):
                bias.register_hook(lambda gradient: gradient * self.kept)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        states = self.rnn(image[..., 0])[1]
        states = states[0] if isinstance(states, tuple) else states  # [layers * directions, B, D]
        return self.head(torch.cat(list(states[-self.directions :]), dim=-1))

    def pairs(self, params) -> Iterator[Pair]:
        directions = [("forward", ""), ("backward", "_reverse")][: self.directions]
        for layer, (ours, theirs) in itertools.product(range(self.rnn.num_layers), directions):
            own = params[f"{ours}_{layer}"]
            yield own["input"].T, getattr(self.rnn, f"weight_ih_l{layer}{theirs}")
            yield own["recurrent"].T, getattr(self.rnn, f"weight_hh_l{layer}{theirs}")
            yield own["bias"], getattr(self.rnn, f"bias_ih_l{layer}{theirs}")
            second = np.zeros(len(own["bias"]), np.float32)
            if "candidate_bias" in own:
                second[-len(own["candidate_bias"]) :] = own["candidate_bias"]
            yield second, getattr(self.rnn, f"bias_hh_l{layer}{theirs}")
        yield from linear(params["Dense_0"], self.head)


class ViT(torch.nn.Module):
    """A convolution for the patches, torch.nn.TransformerEncoderLayer for the blocks."""

    def __init__(self, model: models.ViT, tokens: int):
        super().__init__()
        width = model.width
        self.patches = torch.nn.Conv2d(1, width, model.patch, model.patch)
        self.cls = torch.nn.Parameter(torch.zeros(1, 1, width))
        self.positions = torch.nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                width,
                model.heads,
                model.mlp,
                dropout=0.0,
                activation=lambda x: functional.gelu(x, approximate="tanh"),
                layer_norm_eps=1e-6,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(model.depth)
        )
        self.norm, self.head = torch.nn.LayerNorm(width, 1e-6), torch.nn.Linear(width, model.classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patches(image.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))

    def pairs(self, params) -> Iterator[Pair]:
        side, (inputs, width) = self.patches.kernel_size[0], params["embedding"]["kernel"].shape
        kernel = params["embedding"]["kernel"].reshape(side, side, inputs // side**2, width)
        yield kernel.transpose(3, 2, 0, 1), self.patches.weight
        yield params["embedding"]["bias"], self.patches.bias
        yield params["cls"], self.cls
        yield params["positions"], self.positions
        for index, block in enumerate(self.blocks):
            own = params[f"block_{index}"]
            yield own["Dense_0"]["kernel"].T, block.self_attn.in_proj_weight
            yield own["Dense_0"]["bias"], block.self_attn.in_proj_bias
            layers = (block.self_attn.out_proj, block.linear1, block.linear2)
            for number, layer in enumerate(layers, start=1):
                yield from linear(own[f"Dense_{number}"], layer)
            yield from itertools.chain(norm(own["LayerNorm_0"], block.norm1), norm(own["LayerNorm_1"], block.norm2))
        yield from itertools.chain(norm(params["LayerNorm_0"], self.norm), linear(params["Dense_0"], self.head))


class CompactBlock(torch.nn.Module):
    """The block of Hassani et al.: the second shortcut starts behind the norm."""

    def __init__(self, width: int, heads: int, mlp: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = torch.nn.Linear(width, 3 * width, bias=False), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, mlp), torch.nn.Linear(mlp, width)
        self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        x = self.norm2(x + self.out(y.transpose(1, 2).flatten(2)))
        return x + self.down(functional.gelu(self.up(x)))

    def pairs(self, params) -> Iterator[Pair]:
        for number, layer in enumerate((self.qkv, self.out, self.up, self.down)):
            yield from linear(params[f"Dense_{number}"], layer)
        yield from itertools.chain(norm(params["LayerNorm_0"], self.norm1), norm(params["LayerNorm_1"], self.norm2))


class CCT(torch.nn.Module):
    def __init__(self, model: models.CCT, tokens: int):
        super().__init__()
        width = model.width
        channels = [1, *[64] * (model.convolutions - 1), width]
        convolutions = [torch.nn.Conv2d(i, o, 3, 1, 1, bias=False) for i, o in itertools.pairwise(channels)]
        self.tokens = torch.nn.Sequential(
            *itertools.chain(*((c, torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2, 1)) for c in convolutions))
        )
        self.positions = torch.nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = torch.nn.Sequential(*(CompactBlock(width, model.heads, model.mlp) for _ in range(model.depth)))
        self.norm, self.pool = torch.nn.LayerNorm(width), torch.nn.Linear(width, 1)
        self.head = torch.nn.Linear(width, model.classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.tokens(image.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        x = self.norm(self.blocks(x + self.positions))
        return self.head((self.pool(x).softmax(1).transpose(1, 2) @ x).squeeze(1))

    def pairs(self, params) -> Iterator[Pair]:
        for index in range(len(self.tokens) // 3):
            yield params[f"Conv_{index}"]["kernel"].transpose(3, 2, 0, 1), self.tokens[3 * index].weight
        yield params["positions"], self.positions
        for index, block in enumerate(self.blocks):
            yield from block.pairs(params[f"block_{index}"])
        yield from norm(params["LayerNorm_0"], self.norm)
        yield from itertools.chain(linear(params["pool"], self.pool), linear(params["Dense_0"], self.head))


SMALL = {"classes": 5, "width": 8, "heads": 2, "mlp": 12, "depth": 2}
CASES = {
    "simple": (models.RNN(classes=5, cell="simple", hidden=6, layers=2), RNN, 8),
    "lstm": (models.RNN(classes=5, cell="lstm", hidden=6, layers=2), RNN, 8),
    "gru": (models.RNN(classes=5, cell="gru", hidden=6, layers=2), RNN, 8),
    "both ways": (models.RNN(classes=5, cell="gru", hidden=4, layers=2, bidirectional=True), RNN, 8),
    "ViT": (models.ViT(**SMALL, patch=4), ViT, 5),
    "CCT": (models.CCT(**SMALL, convolutions=2, attention_dropout=0.0, stochastic_depth=0.0), CCT, 4),
}


def assert_close(ours: np.ndarray, theirs: torch.Tensor, relative: float, what: str) -> None:
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= relative * np.abs(theirs).max(), what


@pytest.mark.parametrize("name", CASES)
def test_forward_pass_and_ten_steps_equal_pytorch(name):
    model, kind, size = CASES[name]
    params = random_variables(model, (8, 8, 1))["params"]
    theirs = kind(model, size)
    pairs = list(theirs.pairs(params))
    assert {id(parameter) for _, parameter in pairs} == {id(parameter) for parameter in theirs.parameters()}
    with torch.no_grad():
        for ours, parameter in pairs:
            parameter.copy_(torch.tensor(np.ascontiguousarray(ours)))
    random = np.random.default_rng(2)
    images = random.normal(size=(10, 6, 8, 8, 1)).astype(np.float32)
    labels = random.integers(5, size=(10, 6))
    tx = optax.sgd(0.05, momentum=0.9)

    @jax.jit
    def run(params):
        def step(carry, batch):
            params, state = carry
            image, label = batch

            def objective(params):
                logits = model.apply({"params": params}, image, train=True)
                return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(), logits

            gradients, logits = jax.grad(objective, has_aux=True)(params)
            updates, state = tx.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), logits

        (params, _), logits = jax.lax.scan(step, (params, tx.init(params)), (images, labels))
        return params, logits

    trained, logits = jax.tree.map(np.asarray, run(params))
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    for step, (image, label) in enumerate(zip(torch.tensor(images), torch.tensor(labels), strict=True)):
        expected = theirs(image)
        assert_close(logits[step], expected, 1e-4 if step else 1e-5, f"logits of step {step}")
        sgd.zero_grad()
        functional.cross_entropy(expected, label).backward()
        sgd.step()
    still = 0
    for number, ((before, _), (ours, parameter)) in enumerate(zip(pairs, theirs.pairs(trained), strict=True)):
        assert_close(ours, parameter, 1e-4, f"parameter {number} after ten steps")
        still += before.any() and np.abs(ours - before).max() < 1e-4
    assert still == (name == "CCT")  # its pooling's bias, which a softmax does not see
