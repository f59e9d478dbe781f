"""CCT-2/3x2, a compact convolutional transformer, on CIFAR-10, with the schedule of its paper.

    python launch.py --config=configs/cifar10_cct.py

Not run in full yet (n = 0). Hassani et al. (2021) report 89.17 % for this network and length. That it learns is shown
on 2 cores: 100 steps of 32 out of 1,000 images bring the training loss from 2.32 to 2.02 (n = 1), by
--config.overfit=1000 --config.train.epochs=None --config.train.steps=100 --config.train.batch_size=32
--config.optimizer.learning_rate.peak=0.00055
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
            "augment": (
                {"name": "random_crop", "padding": 4},
                {"name": "random_flip"},
                {"name": "rand_augment", "operations": 2, "magnitude": 9},
                {"name": "random_erasing"},
            ),
            "mix": {"name": "mixup_or_cutmix"},
            "model": {"name": "CCT", "convolutions": 2, "width": 128, "depth": 2, "heads": 2, "mlp": 128},
            "loss": {"name": "softmax_cross_entropy", "label_smoothing": 0.1},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {"name": "warmup_cosine", "peak": 5.5e-4, "warmup": 0.05},
                "weight_decay": 0.06,
            },
        }
    )
