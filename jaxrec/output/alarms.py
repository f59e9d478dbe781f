"""Alarms: what goes wrong while two networks learn against each other, in plain language, and what to do about it.

An alarm is a pure function of what was recorded, the scalars of all moments up to now, oldest first: it returns a
sentence where it rings and None where it is silent. So a resumed run warns as the unbroken one does.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from jaxrec.engine.loop import Moment

Records = Sequence[Mapping[str, float | None]]  # {"train/d_loss": ..., "samples/diversity": ...}; None is not finite
Alarm = Callable[[Records], str | None]

PATIENCE = 5  # evaluations, or moments, in a row, before an alarm rings that a bad start sets off as well
COLLAPSED = 0.5  # of the real images' diversity
SURE, SOLVED = 0.995, 0.02  # accuracy and loss of a discriminator that has nothing left to learn
EXPLODED = 100.0  # times the median so far,
SMALLEST = 0.1  # or times this, where the median is smaller
SETTLED = 10  # moments that a median takes to mean something


def mode_collapse(records: Records) -> str | None:
    """Rings where the samples of the latest evaluations are far more alike than real images are."""
    seen = _known(records, "samples/diversity", "real/diversity")[-PATIENCE:]
    if len(seen) < PATIENCE or any(samples >= COLLAPSED * real for samples, real in seen):
        return None
    samples, real = seen[-1]
    return (
        f"mode collapse: two samples differ by {samples / real:.0%} of what two real images "
        f"differ by, and by less than {COLLAPSED:.0%} for {PATIENCE} evaluations. Lower the generator's learning rate, "
        "use a larger batch, or a loss that resists it: wasserstein with gradient_penalty, hinge with spectral_norm."
    )


def discriminator_too_strong(records: Records) -> str | None:
    """Rings where the discriminator has told nearly every pair apart at nearly no loss, for several moments.

    Wasserstein's loss is far below 0 then, and silent: its critic is meant to be as good as it can.
    """
    seen = _known(records, "train/d_accuracy", "train/d_loss")[-PATIENCE:]
    if len(seen) < PATIENCE or not all(accuracy > SURE and 0 <= loss < SOLVED for accuracy, loss in seen):
        return None
    accuracy, loss = seen[-1]
    return (
        f"the discriminator is too strong: it tells {accuracy:.1%} of the pairs apart at a loss of {loss:.4f}, so "
        "the generator learns little from it. Lower the discriminator's learning rate, make it smaller, or add r1 or "
        "spectral_norm."
    )


def divergence(records: Records) -> str | None:
    """Rings where a loss or the norm of a gradient is a hundred times what it used to be."""
    for name in [f"train/{network}_{what}" for what in ("loss", "gradient") for network in "dg"]:
        values = [abs(value) for (value,) in _known(records, name)]
        if len(values) <= SETTLED:
            continue
        usual = max(statistics.median(values[:-1]), SMALLEST)
        if values[-1] > EXPLODED * usual:
            return (
                f"divergence: {name} is {values[-1]:.3g} in size, where it used to be {usual:.3g}. Lower both learning "
                "rates, or hold the discriminator's slope: gradient_penalty, r1 or spectral_norm."
            )
    return None


def _known(records: Records, *names: str) -> list[tuple[float, ...]]:
    """The values of these scalars at the moments that have them all, and finite."""
    found = [[record.get(name) for name in names] for record in records]
    return [tuple(values) for values in found if all(value is not None and math.isfinite(value) for value in values)]


ALARMS: tuple[Alarm, ...] = (mode_collapse, discriminator_too_strong, divergence)


class Watchman:
    """A hook that adds what the alarms say to the moment's warnings, when one begins to ring and not again until then.

    Args:
      history: the scalars of the moments before, oldest first, of a run that goes on.
      alarms: to listen to.
    """

    def __init__(self, history: Iterable[Mapping[str, float | None]] = (), alarms: Sequence[Alarm] = ALARMS):
        self._records, self._alarms = list(history), alarms
        self._ringing = [alarm(self._records) is not None for alarm in alarms]

    def __call__(self, moment: Moment) -> None:
        """Looks at one moment."""
        self._records.append(moment.scalars)
        said = [alarm(self._records) for alarm in self._alarms]
        new = zip(said, self._ringing, strict=True)
        moment.warnings.extend(text for text, before in new if text and not before)
        self._ringing = [text is not None for text in said]
