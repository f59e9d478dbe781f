"""A simple recurrent network with an identity matrix at its start (IRNN) that reads MNIST pixel by pixel.

    python launch.py --config=configs/mnist_irnn.py

Test accuracy 91.45 % (n = 1, 11,210 parameters), 487 seconds of training on 2 cores that were shared with
other work. Le et al. (2015) report 97 % after far longer training.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 10},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.1},
            "model": {
                "name": "RNN",
                "cell": "simple",
                "hidden": 100,
                "read": "pixels",
                "activation": "relu",
                "recurrent_init": "identity",
            },
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {"name": "adam", "learning_rate": {"name": "warmup_cosine", "peak": 2e-4, "warmup": 0.1}},
            "updates": {"clip_norm": 1.0},
        }
    )
