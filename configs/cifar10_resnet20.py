"""ResNet-20 on CIFAR-10, as long as an hour on two cores allows.

    python launch.py --config=configs/cifar10_resnet20.py

Not run in full yet (n = 0). Its aim is 91.0 % on the test images, as the paper reports after 182 epochs, within an
hour on 2 cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 128, "epochs": 21},
            "data": {"name": "tfds", "dataset": "cifar10", "validation": 0.02},
            "augment": ({"name": "random_crop", "padding": 4}, {"name": "random_flip"}),
            "model": {"name": "ResNet", "blocks": (3, 3, 3)},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "muon",
                "learning_rate": {"name": "warmup_linear", "peak": 0.05, "warmup": 0.05},
                "adam_learning_rate": {"name": "warmup_linear", "peak": 3e-3, "warmup": 0.05},
                "beta": 0.9,
                "weight_decay": 0.02,
            },
            "ema": 0.999,
        }
    )
