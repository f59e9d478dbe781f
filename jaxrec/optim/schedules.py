"""Learning rates over a run, in shares of it: the same config trained for fewer steps follows the same shape.

They stand beside optax's schedules, which count in steps. Step s of a run of `steps` is 0 to steps - 1. A warm-up of
W = round(warmup * steps) steps, at most all but one, rises as peak * s / W and is at the peak on step W.
"""

import optax

from jaxrec.types import Count, Milestones, NonNegative, Positive, Rate, Share


def warmup_cosine(peak: NonNegative, steps: Count, *, warmup: Rate = 0.05, end: Share = 0.0) -> optax.Schedule:
    """Rises linearly from 0, then falls along half a cosine (Loshchilov and Hutter, 2017, without restarts).

    Args:
      peak: the largest rate.
      steps: of the whole run.
      warmup: share of the run spent rising.
      end: share of the peak that is left when the run is over, one step behind its last.
    """
    rising = _warmup_steps(warmup, steps)
    falling = optax.schedules.cosine_decay_schedule(peak, steps - rising, alpha=end)
    return optax.schedules.join_schedules([optax.schedules.linear_schedule(0.0, peak, rising), falling], [rising])


def warmup_linear(peak: NonNegative, steps: Count, *, warmup: Rate = 0.05, end: Share = 0.0) -> optax.Schedule:
    """Rises linearly from 0, then falls linearly (the triangle of Smith, 2017, once).

    Args:
      peak: the largest rate.
      steps: of the whole run.
      warmup: share of the run spent rising.
      end: share of the peak that is left when the run is over, one step behind its last.
    """
    rising = _warmup_steps(warmup, steps)
    falling = optax.schedules.linear_schedule(peak, end * peak, steps - rising)
    return optax.schedules.join_schedules([optax.schedules.linear_schedule(0.0, peak, rising), falling], [rising])


def step_decay(
    peak: NonNegative,
    steps: Count,
    *,
    milestones: Milestones = (0.5, 0.75),
    factor: Positive = 0.1,
    warmup: Rate = 0.0,
) -> optax.Schedule:
    """Multiplies the rate by `factor` at each milestone (He et al., 2016: a tenth at a half and at three quarters).

    Args:
      peak: the first rate.
      steps: of the whole run.
      milestones: shares of the run, increasing. One that lies within the warm-up lowers the rest of the rise.
      factor: of each milestone.
      warmup: share of the run spent rising.
    """
    rising = _warmup_steps(warmup, steps)
    scales = {}
    for milestone in milestones:  # two of them may be one step of a short run
        step = round(milestone * steps)
        scales[step] = scales.get(step, 1.0) * factor
    falling = optax.schedules.piecewise_constant_schedule(peak, scales)
    if not rising:
        return falling
    rise = optax.schedules.linear_schedule(0.0, 1.0, rising)
    return lambda step: rise(step) * falling(step)


def _warmup_steps(warmup: Rate, steps: Count) -> int:
    return min(round(warmup * steps), steps - 1)
