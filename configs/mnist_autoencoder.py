"""The deep autoencoder 784-1000-500-250-30 of Hinton and Salakhutdinov (Science, 2006) on MNIST, trained from scratch.

    python launch.py --config=configs/mnist_autoencoder.py

The paper's reaches a squared error of 3.00 per test image after layerwise pretraining, where PCA-30 is at 13.87. This
one reaches 2.19, 15.8 % of PCA-30's 13.87 (n = 1), in 8.3 minutes of training on 2 cores; a linear probe is right on
92.50 % of the test images from its codes, on 89.66 % from PCA-30's. Moving the training images by a pixel is what keeps
it from memorising them: without it, 3.06 on test images and 1.63 on training images.
Sigmoid units, as in the paper: --config.model.activation=sigmoid; its loss: --config.loss.name=pixel_cross_entropy.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Plain values; `experiments/autoencode.py` says what each means."""
    return ConfigDict(
        {
            "experiment": "autoencode",
            "seed": 0,
            "train": {"batch_size": 256, "epochs": 100},
            "data": {"name": "tfds", "dataset": "mnist", "validation": 0.02},
            "augment": ({"name": "random_translation", "share": 0.04},),
            "model": {"name": "DenseAutoencoder", "widths": (1000, 500, 250), "latent": 30, "activation": "gelu"},
            "loss": {"name": "squared_error"},
            "optimizer": {
                "name": "adamw",
                "learning_rate": {"name": "warmup_cosine", "peak": 1e-3},
                "weight_decay": 5e-2,
            },
        }
    )
