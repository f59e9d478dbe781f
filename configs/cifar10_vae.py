"""A convolutional variational autoencoder on CIFAR-10's bytes, whose likelihood is in bits per dimension.

    python launch.py --config=configs/cifar10_vae.py

Not run in full yet (n = 0). On 2 cores 300 steps take half a minute, a minute beside other work, to 7.50 bits per
dimension of training images, at which the learned scale is still on its way.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/vae.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "vae",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 20},
            "data": {"name": "tfds", "dataset": "cifar10", "validation": 0.02},
            "model": {"name": "ConvVAE", "widths": (32, 64, 128), "hidden": (512,), "latent": 128},
            "likelihood": {"name": "discretised_logistic"},
            "optimizer": {
                "name": "adam",
                "learning_rate": {"name": "warmup_cosine", "peak": 1e-3},
            },
            "updates": {"ema": 0.999},
            # 5,000 codes of 10,000 images through these networks would be hours.
            "nll_samples": 500,
            "nll_images": 1000,
        }
    )
