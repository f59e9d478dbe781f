"""ViT-Lite-7/4 on CIFAR-10, with the schedule of its paper, for a GPU.

    python launch.py --config=configs/cifar10_vit_lite.py

Not run in full yet (n = 0). Hassani et al. (2021) report 91.38 %. That it learns is shown
on 2 cores: 60 steps of 32 out of 1,000 images bring the training loss from 2.74 to 2.06 (n = 1), by
--config.overfit=1000 --config.train.epochs=None --config.train.steps=60 --config.train.batch_size=32
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
            ),
            "mix": {"name": "mixup_or_cutmix"},
            "model": {
                "name": "ViT",
                "patch": 4,
                "width": 256,
                "depth": 7,
                "heads": 4,
                "mlp": 512,
                "qkv_bias": False,
                "stochastic_depth": 0.1,
            },
            "loss": {"name": "softmax_cross_entropy", "label_smoothing": 0.1},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {"name": "warmup_cosine", "peak": 5.5e-4, "warmup": 0.05},
                "weight_decay": 0.06,
            },
        }
    )
