"""A small DCGAN (Radford et al., 2016) on Fashion-MNIST, told the class, with an R1 penalty in place of batch norm.

    python launch.py --config=configs/fashion_mnist_dcgan.py

Other losses: see configs/mnist_dcgan.py.

Frechet distance 0.378 (real images': 0.068) by the features of a LeNet-5 on the whole test split (n = 1 seed), six
minutes of training on one of 2 cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/gan.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "gan",
            "seed": 0,
            "train": {"batch_size": 64, "epochs": 8},
            "data": {"name": "tfds", "dataset": "fashion_mnist", "validation": 0.1},
            "generator": {"name": "ConvDecoder", "widths": (64, 32), "norm": "batch"},
            "discriminator": {"name": "ConvCritic", "widths": (32, 64)},
            "loss": {"name": "non_saturating"},
            "r1": 0.1,
            "optimizer": {"name": "adam", "learning_rate": 2e-3, "b1": 0.5, "b2": 0.99},
            "discriminator_optimizer": {"name": "adam", "learning_rate": 2e-3, "b1": 0.5, "b2": 0.99},
            "conditional": True,
            "latent": 64,
            "ema": 0.999,
        }
    )
