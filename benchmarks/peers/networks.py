"""The networks of the speed benchmark. Every contender builds each of them, and has to arrive at the same size."""

from typing import NamedTuple


class Network(NamedTuple):
    data: str
    shape: tuple[int, int, int]
    batch: int
    chunk: int  # steps between two looks at the clock, each of which waits for the device: about half a second
    parameters: int  # that are trained
    slack: int = 0  # by how many a framework may have more

    def fits(self, parameters: int) -> bool:
        return 0 <= parameters - self.parameters <= self.slack


# All train with Adam, learning rate 1e-3 (the GAN 2e-4, b1 = 0.5), on uint8 images scaled to [0, 1]. A name is a family
# of networks and a batch size.
NETWORKS = {
    # conv32 - pool - conv64 - pool - conv64 - dense64 - dense10; 3x3 unpadded, relu, 2x2 max pool
    "seed CNN, 128": Network("cifar10", (32, 32, 3), 128, 15, 122_570),
    "seed CNN, 32": Network("cifar10", (32, 32, 3), 32, 60, 122_570),
    # 784-512-512-10, relu
    "MLP, 128": Network("mnist", (28, 28, 1), 128, 100, 669_706),
    # 784-1000-500-250-30 and back, relu between, linear code, cross-entropy with logits summed over the pixels
    "dense autoencoder, 128": Network("mnist", (28, 28, 1), 128, 40, 2_837_314),
    # Patches of 4, width 192, 6 pre-norm blocks, 3 heads, MLP 768 with tanh-gelu, learned positions, mean of the tokens
    "ViT-tiny, 128": Network("cifar10", (32, 32, 3), 128, 1, 2_693_194),
    # Radford et al. (2016) on 32x32: dense 8x8x128 - up64 - up3 against down64 - down128 - dense1, 4x4 kernels. A step
    # makes one batch of fakes, updates the discriminator on it and on real images (two passes), then the generator
    # through the updated discriminator on the same fakes. Only real images are counted.
    "DCGAN, 128": Network("cifar10", (32, 32, 3), 128, 3, 1_096_388),
    # The 28 rows of an image as a sequence; the last state of 128 units. torch has two bias vectors for each gate.
    "LSTM, 128": Network("mnist", (28, 28, 1), 128, 40, 81_674, slack=512),
    # He et al. (2016), shortcuts without parameters, batch norm
    "ResNet-20, 128": Network("cifar10", (32, 32, 3), 128, 4, 269_722),
}


def family(name: str) -> str:
    """The network's name without the batch size."""
    return name.rpartition(", ")[0]
