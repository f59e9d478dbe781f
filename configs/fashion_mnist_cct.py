"""CCT-2/3x2, a compact convolutional transformer of 0.28 M parameters, on Fashion-MNIST.

    python launch.py --config=configs/fashion_mnist_cct.py

Test accuracy 93.04 % (n = 1, 280,651 parameters), by its moving average; 92.94 % without. 87 minutes of training on
one of 2 cores that was shared with other work.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 20},
            "data": {"name": "tfds", "dataset": "fashion_mnist", "validation": 0.05},
            "augment": ({"name": "random_crop", "padding": 2}, {"name": "random_flip"}),
            "model": {
                "name": "CCT",
                "convolutions": 2,
                "width": 128,
                "depth": 2,
                "heads": 2,
                "mlp": 128,
                "attention_dropout": 0.0,
                "stochastic_depth": 0.0,
            },
            "loss": {"name": "softmax_cross_entropy", "label_smoothing": 0.1},
            "optimizer": {
                "name": "muon",
                "learning_rate": {"name": "warmup_cosine", "peak": 4e-3, "warmup": 0.1},
                "beta": 0.95,
                "consistent_rms": 0.2,
                "weight_decay": 0.03,
            },
            "updates": {"ema": 0.999},
        }
    )
