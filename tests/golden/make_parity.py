"""Writes parity.npz: logits, and weights after ten optimizer steps, of networks in PyTorch.

    make golden     # or, where torch is installed: PYTHONPATH=.:tests python -m golden.make_parity

Nothing here uses what jaxrec computes: it says which parameters a network has, `networks.py` fills them with random
numbers, and from there on the layers are PyTorch's, in float64. The file was written with Python 3.11.7, numpy 2.4.6,
torch 2.13.0+cpu, and jax 0.10.2 and flax 0.12.8 for the parameters' names and shapes; its entry "versions" says so too.
"""

import collections
import functools

import torch
from references import arrays

from golden import digest, write
from golden.networks import CASES, LEARNING_RATE, MOMENTUM, STEPS, Case, Given, given

F = torch.nn.functional


class Layers:
    """PyTorch's layers on [B, C, H, W]; each takes the next weights of its kind, in the order of flax's numbers.

    Attributes:
      params: weights by path.
      statistics: running means and variances by path, or None: norms take the batch's own, as in training.
      prefix: of the paths of its own weights, where it is a block of a network.
      taken: paths of the weights that were used.
    """

    def __init__(self, params, statistics=None, prefix: str = "", taken: set[str] | None = None):
        self.params, self.statistics, self.prefix = params, statistics, prefix
        self.taken = set() if taken is None else taken
        self.counts = collections.Counter()

    def block(self, name: str) -> "Layers":
        return Layers(self.params, self.statistics, f"{self.prefix}{name}/", self.taken)

    def weight(self, name: str):
        self.taken.add(self.prefix + name)
        return self.params[self.prefix + name]

    def bias(self, layer: str):
        """None where the layer has none."""
        return self.weight(f"{layer}/bias") if f"{self.prefix}{layer}/bias" in self.params else None

    def _next(self, kind: str) -> str:
        self.counts[kind] += 1
        return f"{kind}_{self.counts[kind] - 1}"

    def conv(self, x, stride: int = 1, padding: int | None = None):
        name = self._next("Conv")
        kernel = self.weight(f"{name}/kernel").permute(3, 2, 0, 1)
        padding = kernel.shape[-1] // 2 if padding is None else padding
        return F.conv2d(x, kernel, self.bias(name), stride, padding)

    def norm(self, x, epsilon: float = 1e-5):
        name = self._next("BatchNorm")
        affine = {"weight": self.weight(f"{name}/scale"), "bias": self.bias(name), "eps": epsilon}
        if self.statistics is None:
            return F.batch_norm(x, None, None, training=True, **affine)
        return F.batch_norm(x, self.statistics[f"{name}/mean"], self.statistics[f"{name}/var"], **affine)

    def layer_norm(self, x, epsilon: float = 1e-5):
        name = self._next("LayerNorm")
        return F.layer_norm(x, x.shape[-1:], self.weight(f"{name}/scale"), self.bias(name), epsilon)

    def dense(self, x, name: str = ""):
        name = name or self._next("Dense")
        return F.linear(x, self.weight(f"{name}/kernel").T, self.bias(name))

    def mean_logits(self, x):
        return self.dense(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def flatten(self, x):
        """All of an image in the order of flax, channels last."""
        return x.permute(0, 2, 3, 1).flatten(1)


def mlp(net: Layers, model, x):
    x = net.flatten(x)
    for _ in model.widths:
        x = net.dense(x).relu()
    return net.dense(x)


def cnn(net: Layers, model, x):
    for block in model.widths:
        for _ in block:
            x = net.norm(net.conv(x)).relu() if model.norm == "batch" else net.conv(x).relu()
        x = F.max_pool2d(x, 2)
    x = net.flatten(x)
    for _ in model.hidden:
        x = net.dense(x).relu()
    return net.dense(x)


def lenet(net: Layers, model, x):
    frame = (32 - x.shape[-1]) // 2
    x = F.avg_pool2d(net.conv(F.pad(x, (frame,) * 4), padding=0).tanh(), 2)
    x = F.avg_pool2d(net.conv(x, padding=0).tanh(), 2)
    return net.dense(net.dense(net.dense(net.flatten(x)).tanh()).tanh())


def alexnet(net: Layers, model, x):
    x = net.conv(x, 4 if model.stem == "large" else 1, padding=2).relu()
    x = net.conv(F.max_pool2d(x, 3, 2)).relu()
    x = F.max_pool2d(x, 3, 2)
    for _ in range(3):
        x = net.conv(x).relu()
    x = net.flatten(F.max_pool2d(x, 3, 2))
    for _ in model.hidden:
        x = net.dense(x).relu()
    return net.dense(x)


def vgg(net: Layers, model, x):
    for count in {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2)}[model.depth]:
        for _ in range(count):
            x = net.conv(x)
            x = (net.norm(x) if model.norm == "batch" else x).relu()
        x = F.max_pool2d(x, 2, 2)
    x = net.flatten(x)
    for _ in model.hidden:
        x = net.dense(x).relu()
    return net.dense(x)


def googlenet(net: Layers, model, x, modules: tuple[int, ...] = (2, 5, 2)):
    """`modules` of each stage, which pools separate."""

    def unit(x, stride: int = 1):
        return net.norm(net.conv(x, stride), model.epsilon).relu()

    def pool(x, side: int = 3):
        if model.stem == "small":
            return F.max_pool2d(x, 3, 2, 1)
        return F.max_pool2d(x, side, 2, ceil_mode=True)

    x = unit(x) if model.stem == "small" else pool(unit(unit(pool(unit(x, 2)))))
    for stage, count in enumerate(modules):
        if stage:
            x = pool(x, 2 if stage == 2 else 3)
        for _ in range(count):
            views = [unit(x), unit(unit(x)), unit(unit(x))]
            if model.widest == "3x3-3x3":
                views[2] = unit(views[2])
            x = torch.cat([*views, unit(F.max_pool2d(x, 3, 1, 1))], 1)
    return net.mean_logits(x)


def resnet(net: Layers, model, x):
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


def preact(net: Layers, model, x, wide: bool = False):
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


def densenet(net: Layers, model, x):
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


def rnn(net: Layers, model, x):
    """What torch.nn.RNN, LSTM and GRU call, over the rows; the last state of each direction is classified."""
    weights, directions = [], ("forward", "backward")[: 1 + model.bidirectional]
    for layer in range(model.layers):
        for direction in directions:
            own = net.block(f"{direction}_{layer}")
            # PyTorch has two biases where one is enough, but for the candidate's gate of the GRU.
            second = torch.zeros_like(own.weight("bias"))
            if model.cell == "gru":
                second = torch.cat([second[: 2 * model.hidden], own.weight("candidate_bias")])
            weights += [own.weight("input").T, own.weight("recurrent").T, own.weight("bias"), second]
    start = x.new_zeros(model.layers * len(directions), len(x), model.hidden)
    run = {"simple": torch.rnn_tanh, "lstm": torch.lstm, "gru": torch.gru}[model.cell]
    settings = {"has_biases": True, "num_layers": model.layers, "bidirectional": model.bidirectional}
    settings |= {"dropout": 0.0, "train": False, "batch_first": True}
    rows = x.permute(0, 2, 3, 1).flatten(2)  # [B, H, W * C]
    start = (start, start) if model.cell == "lstm" else start
    states = run(rows, start, weights, **settings)[1]  # [layers * directions, B, D]
    return net.dense(torch.cat(list(states[-len(directions) :]), dim=-1))


def vit(net: Layers, model, x):
    """A convolution for the patches, torch.nn.TransformerEncoderLayer for the blocks."""
    width, side = model.width, model.patch
    kernel = net.weight("embedding/kernel").reshape(side, side, x.shape[1], width).permute(3, 2, 0, 1)
    x = F.conv2d(x, kernel, net.bias("embedding"), stride=side).flatten(2).transpose(1, 2)
    x = torch.cat([net.weight("cls").expand(len(x), -1, -1), x], dim=1) + net.weight("positions")
    layer = torch.nn.TransformerEncoderLayer(
        width,
        model.heads,
        model.mlp,
        dropout=0.0,
        activation=lambda x: F.gelu(x, approximate="tanh"),
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    )
    for index in range(model.depth):
        own = net.block(f"block_{index}")
        weights = {
            "self_attn.in_proj_weight": own.weight("Dense_0/kernel").T,
            "self_attn.in_proj_bias": own.weight("Dense_0/bias"),
        }
        for number, name in enumerate(("self_attn.out_proj", "linear1", "linear2"), start=1):
            weights[f"{name}.weight"] = own.weight(f"Dense_{number}/kernel").T
            weights[f"{name}.bias"] = own.weight(f"Dense_{number}/bias")
        for number, name in enumerate(("norm1", "norm2")):
            weights[f"{name}.weight"] = own.weight(f"LayerNorm_{number}/scale")
            weights[f"{name}.bias"] = own.weight(f"LayerNorm_{number}/bias")
        x = torch.func.functional_call(layer, weights, x, strict=True)
    return net.dense(net.layer_norm(x[:, 0], 1e-6))


def cct(net: Layers, model, x):
    """Hassani et al.: the second shortcut of a block starts behind the norm."""
    for _ in range(model.convolutions):
        x = F.max_pool2d(net.conv(x).relu(), 3, 2, 1)
    x = x.flatten(2).transpose(1, 2) + net.weight("positions")
    for index in range(model.depth):
        own = net.block(f"block_{index}")
        q, k, v = own.dense(own.layer_norm(x)).unflatten(-1, (3, model.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = own.layer_norm(x + own.dense(y))
        x = x + own.dense(F.gelu(own.dense(x)))
    x = net.layer_norm(x)
    pooled = net.dense(x, "pool").softmax(1).transpose(1, 2) @ x
    return net.dense(pooled.squeeze(1))


REFERENCES = {
    "MLP": mlp,
    "CNN": cnn,
    "LeNet5": lenet,
    "AlexNet": alexnet,
    "VGG": vgg,
    "GoogLeNet": googlenet,
    "ResNet": resnet,
    "PreActResNet": preact,
    "WideResNet": functools.partial(preact, wide=True),
    "DenseNet": densenet,
    "RNN": rnn,
    "ViT": vit,
    "CCT": cct,
}


def reference(net: Layers, case: Case, x):
    """Logits; fails where the network has a weight that the reference does not use."""
    network = REFERENCES[type(case.model).__name__]
    logits = network(net, case.model, x, case.modules) if case.modules else network(net, case.model, x)
    assert net.taken == set(net.params)
    return logits


def tensors(tree) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in arrays(tree).items()}


def as_torch(image):
    """[B, H, W, C] -> [B, C, H, W] in float64."""
    return torch.tensor(image, dtype=torch.float64).permute(0, 3, 1, 2)


@torch.no_grad()
def forward(case: Case, known: Given) -> torch.Tensor:
    """The logits of an evaluation."""
    net = Layers(tensors(known.variables["params"]), tensors(known.variables.get("batch_stats", {})))
    return reference(net, case, as_torch(known.image))


def trained(case: Case, known: Given) -> dict[str, torch.Tensor]:
    """Weights by path after steps of SGD with momentum."""
    params = {name: tensor.requires_grad_() for name, tensor in tensors(known.variables["params"]).items()}
    optimizer = torch.optim.SGD(params.values(), lr=LEARNING_RATE, momentum=MOMENTUM)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(reference(Layers(params), case, as_torch(known.image)), torch.tensor(known.label)).backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in params.items()}


def main() -> None:
    torch.set_num_threads(1)  # sums in one order, so that the file is the same whenever it is written
    golden = {}
    for name, case in CASES.items():
        with case.shortened():
            known = given(case)
        golden[f"{name}/given"] = known.digest().astype("float32")
        golden[f"{name}/logits"] = forward(case, known).numpy()
        if case.steps:
            golden |= {
                f"{name}/trained/{path}": digest(leaf.numpy()).astype("float32")
                for path, leaf in trained(case, known).items()
            }
    write("parity", golden, ("torch", "numpy", "jax", "flax"))


if __name__ == "__main__":
    main()
