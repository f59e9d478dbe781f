"""WRN-28-10 on CIFAR-10 with the schedule of its paper, for a GPU.

    python launch.py --config=configs/cifar10_wrn.py

Not run in full yet (n = 0). Zagoruyko and Komodakis (2016) report 96.0 % (96.1 with dropout). That it learns is shown
on 2 cores: 20 steps of 32 out of 1,000 images bring the training loss from 2.31 to 2.10 (n = 1), by
--config.overfit=1000 --config.train.epochs=None --config.train.steps=20 --config.train.batch_size=32
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
            "model": {"name": "WideResNet", "depth": 28, "widen": 10},
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "sgd",
                "learning_rate": {"name": "step_decay", "peak": 0.1, "milestones": (0.3, 0.6, 0.8), "factor": 0.2},
                "momentum": 0.9,
                "nesterov": True,
            },
            "updates": {"l2": 5e-4},
        }
    )
