"""Wasserstein's loss with gradient penalty (Gulrajani et al., 2017) on MNIST, in the small networks of mnist_dcgan.

    python launch.py --config=configs/mnist_wgan_gp.py

Three steps of the critic for one of the generator, where the paper takes five, each on 64 images. With
--config.data.dataset=fashion_mnist on Fashion-MNIST.

Not run in full yet (n = 0); the widths are meant for minutes on 2 cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/gan.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "gan",
            "seed": 0,
            "train": {"batch_size": 192, "epochs": 5},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.1},
            "generator": {"name": "ConvDecoder", "widths": (64, 32), "norm": "batch"},
            "discriminator": {"name": "ConvCritic", "widths": (32, 64)},
            "loss": {"name": "wasserstein"},
            "gradient_penalty": 10.0,
            "critic_steps": 3,
            "optimizer": {"name": "adam", "learning_rate": 2e-3, "b1": 0.5, "b2": 0.9},
            "discriminator_optimizer": {"name": "adam", "learning_rate": 1e-3, "b1": 0.5, "b2": 0.9},
            "conditional": True,
            "latent": 64,
            "ema": 0.999,
        }
    )
