"""The importance weighted autoencoder, k = 50, with the networks of mnist_vae.py, on dynamically binarised MNIST.

    python launch.py --config=configs/mnist_iwae.py

The full schedule is for a GPU and has not been run (n = 0). As far as an hour on one of 2 cores goes: 25 minutes from
the parameters of mnist_vae, which took 37, with

    --config.train.init_from=runs/mnist_vae --config.train.epochs=28 --config.train.batch_size=20
    --config.optimizer.learning_rate.peak=5e-4

the negative log likelihood by 5,000 samples on the whole test split was 85.75 nats (n = 1 seed; mnist_vae 86.86), 24 of
50 units in use. Burda et al. (2016, table 1) report 84.78.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/vae.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "vae",
            "seed": 0,
            "train": {"batch_size": 100, "epochs": 500, "eval_every": 6000, "log_every": 600},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.02},
            "model": {"name": "DenseVAE", "widths": (200, 200), "latent": 50, "activation": "tanh"},
            "likelihood": {"name": "bernoulli"},
            "binarise": "dynamic",
            "objective": "iwae",
            "samples": 50,
            "optimizer": {
                "name": "adam",
                "learning_rate": {"name": "warmup_cosine", "peak": 1.5e-3, "warmup": 0.01},
                "eps": 1e-4,
            },
            "updates": {"ema": 0.9995},
        }
    )
