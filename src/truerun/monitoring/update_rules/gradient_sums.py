"""Rules that follow the gradient itself or scale it by what its squares add up to: SGD, ASGD, RMSprop, Adagrad, Adadelta.

As documented and computed by torch.optim 2.13 (`sgd.py`, `asgd.py`, `rmsprop.py`, `adagrad.py`, `adadelta.py`). Sources
named there: Sutskever et al., ICML 2013 (momentum); Polyak & Juditsky 1992 (averaging); Hinton's lecture 6e and Graves,
arXiv:1308.0850 (RMSprop, centered); Duchi et al., JMLR 12 (Adagrad); Zeiler, arXiv:1212.5701 (Adadelta).
"""

from __future__ import annotations

import numpy as np

from truerun.monitoring.update_rules.calculation import SINGLE, Calculation, Hyperparameters
from truerun.monitoring.update_rules.interval import Interval, negative, point


def sgd(h: Hyperparameters, c: Calculation) -> None:
    """B <- momentum b + (1 - dampening) g (at first b = g); p <- p - lr b, or with Nesterov - lr (g + momentum b)."""
    gradient = direction = c.gradient(h)
    if h.momentum:
        grown = c.do.add(c.do.scale(c.old("momentum_buffer"), h.momentum), gradient, 1 - h.dampening)
        fresh = c.here.fresh
        buffer = Interval(np.where(fresh, gradient.low, grown.low), np.where(fresh, gradient.high, grown.high))
        direction = c.summed(c.settle("momentum_buffer", buffer))
        if h.nesterov:
            direction = c.do.add(gradient, direction, h.momentum)
    c.settle("p", c.do.add(c.p, direction, negative(h.lr)))


def asgd(h: Hyperparameters, c: Calculation) -> None:
    """P <- p (1 - lambd eta) - eta g; ax follows the average of p; eta and mu are state, set for the step after."""
    gradient = c.gradient(h)
    eta, mu = c.old("eta", _kept_in_float32(point(h.lr))), c.old("mu", 1.0)
    if c.foreach:
        moved = c.do.addcmul(c.p, c.do.add(gradient, c.p, h.lambd), c.do.stored(eta), -1.0)
    else:
        shrunk = c.do.multiply(c.p, c.scalar.subtract(1.0, c.scalar.multiply(eta, h.lambd)))
        moved = c.do.add(shrunk, gradient, negative(eta))
    now, average = c.settle("p", moved), c.old("ax")
    if c.foreach:
        followed = c.do.addcmul(average, c.do.subtract(now, average), c.do.stored(mu))
    else:
        followed = c.do.add(average, c.do.multiply(c.do.subtract(now, average), mu))
        only = mu.low == 1
        followed = Interval(np.where(only, now.low, followed.low), np.where(only, now.high, followed.high))
    c.settle("ax", followed)
    grown = c.scalar.add(1.0, c.scalar.multiply(c.scalar.multiply(h.lr, h.lambd), c.here.count))
    bound = Interval(grown.high**-h.alpha, grown.low**-h.alpha)
    c.settle("eta", _kept_in_float32(c.scalar.multiply(h.lr, bound)), scalar=True)
    c.settle("mu", _kept_in_float32(point(1.0 / np.maximum(1.0, c.here.count - h.t0))), scalar=True)


def rmsprop(h: Hyperparameters, c: Calculation) -> None:
    """V <- alpha v + (1 - alpha) g^2; p <- p - lr g / (sqrt(v) + eps); centered: v - mean(g)^2; momentum: of the quotient."""
    gradient = c.gradient(h)
    kept = c.do.scale(c.old("square_avg"), h.alpha)
    squares = c.settle("square_avg", c.do.add_square(kept, gradient, 1 - h.alpha))
    if h.centered:
        mean = c.settle("grad_avg", c.do.lerp(c.old("grad_avg"), gradient, 1 - h.alpha))
        squares = c.do.add_square(squares, mean, -1.0)
    root = c.do.add(c.do.sqrt(squares), h.eps)
    if h.momentum:
        kept = c.do.scale(c.old("momentum_buffer"), h.momentum)
        buffer = c.settle("momentum_buffer", c.do.addcdiv(kept, gradient, root))
        c.settle("p", c.do.add(c.p, buffer, negative(h.lr)))
    else:
        c.settle("p", c.do.addcdiv(c.p, gradient, root, negative(h.lr)))


def adagrad(h: Hyperparameters, c: Calculation) -> None:
    """S <- s + g^2; p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)."""
    gradient = c.gradient(h)
    squares = c.settle("sum", c.do.add_square(c.old("sum", c.do.stored(point(h.initial_accumulator_value))), gradient))
    root = c.do.add(c.do.sqrt(squares), h.eps)
    rate = negative(c.scalar.divide(h.lr, 1 + (c.here.count - 1) * h.lr_decay))
    if c.foreach:
        # A fresh copy of the gradient is scaled in place, the gradient itself is not.
        scaled = c.do.scale(gradient, rate) if h.weight_decay or h.maximize else c.do.multiply(gradient, rate)
        c.settle("p", c.do.addcdiv(c.p, scaled, root))
    else:
        c.settle("p", c.do.addcdiv(c.p, gradient, root, rate))


def adadelta(h: Hyperparameters, c: Calculation) -> None:
    """V <- rho v + (1 - rho) g^2; d = g sqrt(u + eps) / sqrt(v + eps); u <- rho u + (1 - rho) d^2; p <- p - lr d."""
    gradient = c.gradient(h)
    kept = c.do.scale(c.old("square_avg"), h.rho)
    squares = c.settle("square_avg", c.do.add_square(kept, gradient, 1 - h.rho))
    deltas = c.old("acc_delta")
    ratio = c.do.divide(c.do.sqrt(c.do.add(deltas, h.eps)), c.do.sqrt(c.do.add(squares, h.eps)))
    delta = c.do.multiply(ratio, gradient)
    c.settle("acc_delta", c.do.add_square(c.do.scale(deltas, h.rho), delta, 1 - h.rho))
    c.settle("p", c.do.add(c.p, delta, negative(h.lr)))


def muon_momentum(h: Hyperparameters, c: Calculation) -> None:
    """B <- momentum b + (1 - momentum) g."""
    c.settle("momentum_buffer", c.do.lerp(c.old("momentum_buffer"), c.gradient(h, decay=False), 1 - h.momentum))


def _kept_in_float32(value: Interval) -> Interval:
    """A scalar that is kept in a float32 tensor, and may have been computed there."""
    error = 4 * float(SINGLE.eps) * value.reach + float(SINGLE.tiny)
    return Interval(value.low - error, value.high + error)
