"""SN-GAN's residual networks (Miyato et al., 2018, table 4) on CIFAR-10 with a full schedule, for a GPU.

    python launch.py --config=configs/cifar10_sngan.py

As the paper: five steps of the discriminator, each on 64 images, for one of the generator, 50,000 times, under a rate
that falls to 0. With the class, --config.conditional=True.

Not run in full yet (n = 0): on 2 cores it would take weeks.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/gan.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "gan",
            "seed": 0,
            "train": {"batch_size": 320, "steps": 50_000, "eval_every": 1000},
            "data": {"name": "tfds", "dataset": "cifar10", "validation": 0.1},
            "generator": {"name": "ResNetDecoder"},
            "discriminator": {"name": "ResNetCritic"},
            "loss": {"name": "hinge"},
            "spectral_norm": True,
            "critic_steps": 5,
            "optimizer": {
                "name": "adam",
                "learning_rate": {"name": "linear_schedule", "init_value": 2e-4, "end_value": 0.0},
                "b1": 0.0,
                "b2": 0.9,
            },
            "updates": {"ema": 0.999},
            "latent": 128,
        }
    )
