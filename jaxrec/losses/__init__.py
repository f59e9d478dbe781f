"""What is minimised: functions of outputs and batch to one value for each example."""

from jaxrec.losses.recognition import (
    binary_cross_entropy,
    focal,
    hinge,
    mean_squared_error,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)

__all__ = [
    "binary_cross_entropy",
    "focal",
    "hinge",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]
