"""What is measured: statistics that say themselves how they merge, so that they are exact over a split."""

from jaxrec.metrics.metric import Largest, Mean, Metric, Metrics, Rows, compute, means, per_example
from jaxrec.metrics.multilabel import MultilabelPredictions, multilabel_predictions
from jaxrec.metrics.recognition import Predictions, predictions

__all__ = [
    "Largest",
    "Mean",
    "Metric",
    "Metrics",
    "MultilabelPredictions",
    "Predictions",
    "Rows",
    "compute",
    "means",
    "multilabel_predictions",
    "per_example",
    "predictions",
]
