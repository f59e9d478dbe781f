"""Fashion-MNIST in five minutes on two cores: a narrower `cifar10_fast` for seven epochs.

    python launch.py --config=configs/fashion_mnist_quick.py

Test accuracy 93.79 +- 0.11 % (n = 3, 272,424 parameters), 283 seconds of training on 2 cores (280 to 288), at 1,457
images/s. docs/results.md tells what was tried.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 500, "epochs": 7},
            "data": {"name": "tfds", "dataset": "fashion_mnist", "validation": 0.02},
            "augment": ({"name": "random_crop", "padding": 2, "mode": "reflect"},),
            "alternating_flip": True,
            "model": {"name": "WhitenedCNN", "widths": (16, 64, 128)},
            "loss": {"name": "softmax_cross_entropy", "label_smoothing": 0.1},
            "optimizer": {
                "name": "muon",
                "learning_rate": {"name": "warmup_linear", "peak": 0.4, "warmup": 0.1},
                "adam_learning_rate": {"name": "warmup_linear", "peak": 3e-3, "warmup": 0.1},
                "beta": 0.8,
                "weight_decay": 0.01,
            },
            "test_views": "mirror_and_shift",
            "monitor": "loss",  # as in `cifar10_fast`
        }
    )
