"""PreActResNet-18 on CIFAR-10 with a full schedule, for a GPU.

    python launch.py --config=configs/cifar10_preact_resnet18.py

Not run in full yet (n = 0). pytorch-cifar reports 95.1 %. That it learns is shown
on 2 cores: 60 steps of 32 out of 1,000 images bring the training loss from 3.86 to 2.39 (n = 1), by
--config.overfit=1000 --config.train.epochs=None --config.train.steps=60 --config.train.batch_size=32
--config.optimizer.learning_rate.peak=0.02
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
            "model": {"name": "PreActResNet", "last_norm": False},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "sgd",
                "learning_rate": {"name": "warmup_cosine", "peak": 0.1, "warmup": 0.02},
                "momentum": 0.9,
            },
            "updates": {"l2": 5e-4},
        }
    )
