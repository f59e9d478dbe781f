"""The variational autoencoder of the tables, 784-200-200-50 with one stochastic layer, on dynamically binarised MNIST.

    python launch.py --config=configs/mnist_vae.py

Not run yet (n = 0); meant for 45 minutes on a machine with 2 cores. Burda et al. (2016, table 1) report a negative log
likelihood of 86.76 nats (VAE, k = 1) by 5,000 samples on the whole test split.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/vae.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "vae",
            "seed": 0,
            "train": {"batch_size": 100, "epochs": 850, "eval_every": 6000, "log_every": 600},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.02},
            "model": {"name": "DenseVAE", "widths": (200, 200), "latent": 50, "activation": "tanh"},
            "likelihood": {"name": "bernoulli"},
            "binarise": "dynamic",
            "warmup": 100.0,
            "ema": 0.9995,
            "optimizer": {
                "name": "adam",
                "learning_rate": {"name": "warmup_cosine", "peak": 1.5e-3, "warmup": 0.01},
                "eps": 1e-4,
            },
        }
    )
