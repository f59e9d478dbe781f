"""AlexNet, its first convolution made for small images, on CIFAR-10 with a full schedule, for a GPU.

    python launch.py --config=configs/cifar10_alexnet.py

Not run in full yet (n = 0). Accuracy in % is not known for this schedule. That it learns is shown
on 2 cores: 100 steps of 32 out of 1,000 images bring the training loss from 2.35 to 2.10 (n = 1), by
--config.overfit=1000 --config.train.epochs=None --config.train.steps=100 --config.train.batch_size=32
--config.train.log_every=5.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 200},
            "data": {"name": "tfds", "dataset": "cifar10", "validation": 0.1},
            "augment": ({"name": "random_crop", "padding": 4}, {"name": "random_flip"}),
            "model": {"name": "AlexNet", "hidden": (1024, 1024)},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "sgd",
                "learning_rate": {"name": "warmup_cosine", "peak": 0.02, "warmup": 0.02},
                "momentum": 0.9,
            },
            "updates": {"l2": 5e-4},
        }
    )
