"""The variational autoencoder of the tables, 784-200-200-50 with one stochastic layer, on dynamically binarised MNIST.

    python launch.py --config=configs/mnist_vae.py

Negative log likelihood by 5,000 samples on the whole test split: 86.86 nats (n = 1 seed), 24 of 50 units in use; 37
minutes of training on one of 2 cores, 42 with the evaluation. Burda et al. (2016, table 1) report 86.76 (VAE, k = 1)
after twenty times as many steps. At a rate of 1.5e-3 for 850 epochs it was 87.11; without `warmup`, for 800, 87.29.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/vae.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "vae",
            "seed": 0,
            "train": {"batch_size": 100, "epochs": 900, "eval_every": 6000, "log_every": 600},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.02},
            "model": {"name": "DenseVAE", "widths": (200, 200), "latent": 50, "activation": "tanh"},
            "likelihood": {"name": "bernoulli"},
            "binarise": "dynamic",
            "warmup": 50.0,
            "optimizer": {
                "name": "adam",
                "learning_rate": {"name": "warmup_cosine", "peak": 1e-3, "warmup": 0.01},
                "eps": 1e-4,
            },
            "updates": {"ema": 0.9995},
        }
    )
