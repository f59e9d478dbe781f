"""ViT-S/16 on ImageNet, the recipe of Beyer et al. (2022, "Better plain ViT baselines"), for accelerators.

    python launch.py prepare imagenet2012 --manual_dir=FOLDER   # FOLDER holds the two archives of ILSVRC2012
    python launch.py --config=configs/imagenet_vit_s16.py

Not run in full yet (n = 0): its aim is 76 %. Beyer et al. report 76.5 % after 90 epochs. That it learns was tried on 2
cores, on a stand-in (docs/data.md).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/classify.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "classify",
            "seed": 0,
            "train": {"batch_size": 1024, "epochs": 90, "evaluate_train": False},
            "data": {
                "name": "tfds",
                "dataset": "imagenet2012",
                "test_split": "validation",  # whose labels are public; validation is held out of train
                "validation": 0.01,
                "size": 224,
                "crop": 0.875,
                "random_area": 0.05,
            },
            "augment": ({"name": "random_flip"}, {"name": "rand_augment", "operations": 2, "magnitude": 10}),
            "mix": {"name": "mixup", "alpha": 0.2},
            "model": {
                "name": "ViT",
                "patch": 16,
                "width": 384,
                "depth": 12,
                "heads": 6,
                "mlp": 1536,
                "pool": "mean",
                "positions": "sincos",
                "dtype": "bfloat16",
            },
            "loss": {"name": "softmax_cross_entropy"},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {"name": "warmup_cosine", "peak": 1e-3, "warmup": 0.089},  # 10,000 of 112,603 steps
                "weight_decay": 0.1,
            },
            "updates": {"clip_norm": 1.0},
        }
    )
