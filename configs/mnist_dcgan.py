"""A small DCGAN (Radford et al., 2016) on MNIST, told the class, with an R1 penalty in place of batch norm.

    python launch.py --config=configs/mnist_dcgan.py

The other losses of two networks that need no penalty: --config.loss.name=minimax, least_squares or hinge.

Frechet distance 0.165, with minimax 0.151, with least squares 0.229 (real images': 0.086) by the features of
mnist_lenet5 on the whole test split (n = 1 seed each), seven minutes of training on one of 2 cores, up to
twelve beside other work. docs/results.md has Fashion-MNIST.
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
            "conditional": True,
            "latent": 64,
            "ema": 0.999,
        }
    )
