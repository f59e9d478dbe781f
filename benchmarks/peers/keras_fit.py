"""Keras' `fit` on a functional model, on TensorFlow or on JAX: $KERAS_BACKEND says which."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from peers.networks import NETWORKS, family
from peers.turns import Turns

# (backend, family): (jit_compile, steps_per_execution), where a short try found them faster than the backend's (False
# on TensorFlow, True on JAX) and 1. TensorFlow with jit_compile=True trains convolutions at a third of the speed.
FASTER = {
    ("tensorflow", "MLP"): (True, 50),
    ("tensorflow", "dense autoencoder"): (False, 20),
    ("jax", "MLP"): (True, 10),
}


def cnn(x):
    x = layers.MaxPooling2D()(layers.Conv2D(32, 3, activation="relu")(x))
    x = layers.MaxPooling2D()(layers.Conv2D(64, 3, activation="relu")(x))
    x = layers.Flatten()(layers.Conv2D(64, 3, activation="relu")(x))
    return layers.Dense(10)(layers.Dense(64, activation="relu")(x))


def mlp(x):
    x = layers.Flatten()(x)
    for width in (512, 512):
        x = layers.Dense(width, activation="relu")(x)
    return layers.Dense(10)(x)


def autoencoder(x):
    x = layers.Flatten()(x)
    for width in (1000, 500, 250):
        x = layers.Dense(width, activation="relu")(x)
    x = layers.Dense(30)(x)
    for width in (250, 500, 1000):
        x = layers.Dense(width, activation="relu")(x)
    return layers.Dense(784)(x)


class Positions(layers.Layer):
    def build(self, shape):
        self.positions = self.add_weight(shape=shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.positions


def vit(x):
    x = Positions()(layers.Reshape((64, 192))(layers.Conv2D(192, 4, 4)(x)))
    for _ in range(6):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(num_heads=3, key_dim=64)(y, y)
        y = layers.Dense(768, activation=lambda y: keras.activations.gelu(y, approximate=True))(
            layers.LayerNormalization()(x)
        )
        x = x + layers.Dense(192)(y)
    return layers.Dense(10)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x)))


def lstm(x):
    return layers.Dense(10)(layers.LSTM(128)(layers.Reshape((28, 28))(x)))


def conv_norm(x, width, stride=1):
    x = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def resnet(x):
    x = ops.relu(conv_norm(x, 16))
    for width in (16, 32, 64):
        for _ in range(3):
            inputs = x.shape[-1]
            stride = width // inputs
            y = conv_norm(ops.relu(conv_norm(x, width, stride)), width)
            if stride > 1:
                x = ops.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, width - inputs)))
            x = ops.relu(x + y)
    return layers.Dense(10)(layers.GlobalAveragePooling2D()(x))


MODELS = {
    "seed CNN": cnn,
    "MLP": mlp,
    "dense autoencoder": autoencoder,
    "ViT-tiny": vit,
    "LSTM": lstm,
    "ResNet-20": resnet,
}


def reconstruction(image, logits):
    """Cross-entropy [B] of the pixels, summed."""
    return ops.sum(ops.binary_crossentropy(ops.reshape(image, ops.shape(logits)), logits, from_logits=True), -1)


class Ticks(keras.callbacks.Callback):
    def __init__(self, turns: Turns, batch: int, chunk: int):
        super().__init__()
        self.turns, self.batch, self.chunk, self.before = turns, batch, chunk, -1

    def on_train_batch_end(self, batch, logs=None):
        if batch - self.before >= self.chunk:
            float(logs["loss"])  # waits for the device
            self.turns.tick((batch - self.before) * self.batch)
            self.before = batch


def train(name: str, arrays: dict[str, np.ndarray], turns: Turns, channels_last: bool) -> None:
    del channels_last  # as they always are in Keras
    network, kind, backend = NETWORKS[name], family(name), keras.backend.backend()
    inputs = keras.Input(network.shape)
    model = keras.Model(inputs, MODELS[kind](inputs))
    turns.facts["parameters"] = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    jit_compile, steps = FASTER.get((backend, kind), (backend == "jax", 1))
    reconstruct = kind == "dense autoencoder"
    model.compile(
        keras.optimizers.Adam(1e-3),
        reconstruction if reconstruct else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
        steps_per_execution=steps,
    )
    images, labels = tf.constant(arrays["image"]), tf.constant(arrays["label"])

    def batch(rows):
        image = tf.cast(tf.gather(images, rows), tf.float32) / 255
        return image, image if reconstruct else tf.gather(labels, rows)

    # Of row numbers, not of images: a pipeline that handles images one by one cannot keep up with the small networks.
    data = tf.data.Dataset.range(len(images)).shuffle(len(images)).repeat()
    data = data.batch(network.batch, drop_remainder=True).map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    # One epoch without end, so that what Keras does between epochs costs nothing.
    ticks = Ticks(turns, network.batch, network.chunk)
    model.fit(data.prefetch(tf.data.AUTOTUNE), steps_per_epoch=10**8, verbose=0, callbacks=[ticks])
