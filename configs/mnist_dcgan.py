"""A small DCGAN (Radford et al., 2016) on MNIST, told the class, with an R1 penalty in place of batch norm.

    python launch.py --config=configs/mnist_dcgan.py

Other losses: --config.loss.name=minimax, and --config.loss.name=least_squares with --config.r1=10, as its logits differ
by less than 1. With --config.data.dataset=fashion_mnist on Fashion-MNIST.

Frechet distance 0.114, with minimax 0.112, with least squares 0.111 (real images': 0.086) by the features of
mnist_lenet5 on the whole test split; on Fashion-MNIST 0.159, 0.148 and 0.155 (0.068); n = 1 seed each, four minutes of
training on one of 2 cores, up to seven beside other work. docs/gan.md tells what each part of it gives.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/gan.py` says what each means."""
    adam, fall = {"name": "adam", "b1": 0.0, "b2": 0.99}, {"name": "warmup_cosine", "end": 0.2}
    return ConfigDict(
        {
            "experiment": "gan",
            "seed": 0,
            "train": {"batch_size": 32, "epochs": 6},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.1},
            "generator": {"name": "ConvDecoder", "widths": (64, 32), "norm": "batch"},
            "discriminator": {"name": "ConvCritic", "widths": (32, 64), "hidden": (256,)},
            "loss": {"name": "non_saturating"},
            "r1": 2.0,
            "optimizer": {**adam, "learning_rate": {**fall, "peak": 3e-3}},
            "discriminator_optimizer": {**adam, "learning_rate": {**fall, "peak": 1.5e-3}},
            "updates": {"ema": 0.999},
            "conditional": True,
            "latent": 64,
        }
    )
