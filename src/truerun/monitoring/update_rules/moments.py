"""Rules that follow the moments of the gradient: Adam, AdamW, SparseAdam, NAdam, RAdam, Adamax.

As documented and computed by torch.optim 2.13 (`adam.py`, `adamw.py`, `sparse_adam.py`, `nadam.py`, `radam.py`,
`adamax.py`). Sources named there: Kingma & Ba, arXiv:1412.6980 (Adam, Adamax); Loshchilov & Hutter, arXiv:1711.05101
(decoupled decay); Reddi et al., ICLR 2018 (AMSGrad); Dozat 2016 (NAdam); Liu et al., arXiv:1908.03265 (RAdam).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from truerun.monitoring.update_rules.calculation import SINGLE, Calculation, Hyperparameters
from truerun.monitoring.update_rules.interval import Interval, Term, negative, point

RECTIFIED = 5.0  # RAdam adapts once the approximated moving average is longer than this


def _begun(h: Hyperparameters, c: Calculation) -> tuple[Interval, Interval]:
    """The parameter and the gradient with weight decay where it belongs: in one of them."""
    if not h.decoupled or not h.weight_decay:
        return c.p, c.gradient(h)
    kept = c.scalar.subtract(1.0, c.scalar.multiply(h.lr, h.weight_decay))
    return c.do.scale(c.p, kept), c.gradient(h, decay=False)


def _moments(h: Hyperparameters, c: Calculation, gradient: Interval) -> tuple[Interval, Interval]:
    first = c.settle("exp_avg", c.do.lerp(c.old("exp_avg"), gradient, 1 - h.beta1))
    kept = c.do.scale(c.old("exp_avg_sq"), h.beta2)
    return first, c.settle("exp_avg_sq", c.do.add_square(kept, gradient, 1 - h.beta2))


def _correction(c: Calculation, beta: float) -> Interval:
    """1 - beta^t."""
    return c.scalar.subtract(1.0, c.scalar.power(beta, c.here.count))


def adam(h: Hyperparameters, c: Calculation) -> None:
    """m, v: moving averages of g and g^2; p <- p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)."""
    start, gradient = _begun(h, c)
    first, second = _moments(h, c, gradient)
    if h.amsgrad:
        second = c.settle("max_exp_avg_sq", c.do.maximum(c.old("max_exp_avg_sq"), second))
    root = c.do.divide(c.do.sqrt(second), c.scalar.sqrt(_correction(c, h.beta2)))
    rate = negative(c.scalar.divide(h.lr, _correction(c, h.beta1)))
    c.settle("p", c.do.addcdiv(start, first, c.do.add(root, h.eps), rate))


def sparse_adam(h: Hyperparameters, c: Calculation) -> None:
    """Adam on the rows that have a gradient, with eps beside the root that is not yet corrected."""
    first, second = _moments(h, c, c.gradient(h, decay=False))
    rate = c.scalar.divide(c.scalar.multiply(h.lr, c.scalar.sqrt(_correction(c, h.beta2))), negative(_correction(c, h.beta1)))
    step = c.do.divide(first, c.do.add(c.do.sqrt(second), h.eps))
    c.settle("p", c.do.add(c.p, step, rate))


def nadam(h: Hyperparameters, c: Calculation) -> None:
    """Adam with Nesterov momentum: two steps, along g and along m, weighed by mu_t = beta1 (1 - 0.96^(t psi) / 2)."""
    start, gradient = _begun(h, c)
    mu, next_mu = _mu(h, c, c.here.count), _mu(h, c, c.here.count + 1)
    product = c.settle("mu_product", _float32(c.scalar.multiply(c.old("mu_product", 1.0), mu)), scalar=True)
    first, second = _moments(h, c, gradient)
    correction = _correction(c, h.beta2)
    root = c.do.divide(c.do.sqrt(second), c.scalar.sqrt(correction)) if c.foreach else c.do.sqrt(c.do.divide(second, correction))
    root = c.do.add(root, h.eps)
    along = c.scalar.divide(c.scalar.multiply(h.lr, c.scalar.subtract(1.0, mu)), c.scalar.subtract(product, 1.0))
    ahead = c.scalar.subtract(c.scalar.multiply(product, next_mu), 1.0)
    onward = c.scalar.divide(c.scalar.multiply(h.lr, next_mu), ahead)
    c.settle("p", c.do.addcdiv(c.do.addcdiv(start, gradient, root, along), first, root, onward))


def _mu(h: Hyperparameters, c: Calculation, count: Term) -> Interval:
    power = c.scalar.power(0.96, np.asarray(count) * h.momentum_decay)
    return c.scalar.multiply(c.scalar.subtract(1.0, c.scalar.multiply(power, 0.5)), h.beta1)


def _float32(value: Interval) -> Interval:
    """A scalar that is kept in a float32 tensor."""
    error = 2 * float(SINGLE.eps) * value.reach + float(SINGLE.tiny)  # a long product leaves the normal numbers
    return Interval(value.low - error, value.high + error)


def radam(h: Hyperparameters, c: Calculation) -> None:
    """Adam whose step is rectified while few gradients have been seen: rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t)."""
    start, gradient = _begun(h, c)
    first, second = _moments(h, c, gradient)
    longest, s = 2 / np.float64(1 - h.beta2) - 1, c.scalar
    correction, first_correction = _correction(c, h.beta2), _correction(c, h.beta1)
    past = s.divide(s.multiply(s.power(h.beta2, c.here.count), 2 * c.here.count), correction)
    rho = s.subtract(longest, past)
    above = s.multiply(s.multiply(s.subtract(rho, 4.0), s.subtract(rho, 2.0)), longest)
    rectified = s.sqrt(s.divide(above, s.multiply(rho, (longest - 4) * (longest - 2))))
    root = c.do.add(c.do.sqrt(second), h.eps)
    if c.foreach:
        rate = s.divide(s.multiply(s.multiply(s.sqrt(correction), h.lr), rectified), negative(first_correction))
        adapted = c.do.addcmul(start, first, c.do.divide(1.0, c.do.divide(root, rate)))
        # Here the kernels divide by a rate of zero first, and 0 / 0 is not a number.
        unrectified = c.do.stored(negative(s.divide(h.lr, first_correction)))
        plain = c.do.addcmul(start, first, _where(root.low > 0, unrectified, point(np.nan)))
    else:
        corrected = c.do.multiply(c.do.divide(first, first_correction), h.lr)
        adaptive = c.do.multiply(c.do.divide(1.0, root), s.sqrt(correction))
        adapted = c.do.subtract(start, c.do.multiply(c.do.multiply(corrected, adaptive), rectified))
        plain = c.do.subtract(start, corrected)
    c.settle("p", _where(rho.low > RECTIFIED, adapted, _where(rho.high <= RECTIFIED, plain, adapted.or_else(plain))))


def _where(mask: Any, yes: Interval, no: Interval) -> Interval:
    return Interval(np.where(mask, yes.low, no.low), np.where(mask, yes.high, no.high))


def adamax(h: Hyperparameters, c: Calculation) -> None:
    """The largest gradient decays: u <- max(beta2 u, |g| + eps); p <- p - lr / (1 - beta1^t) m / u."""
    gradient = c.gradient(h)
    first = c.settle("exp_avg", c.do.lerp(c.old("exp_avg"), gradient, 1 - h.beta1))
    kept = c.do.scale(c.old("exp_inf"), h.beta2)
    largest = c.settle("exp_inf", c.do.maximum(kept, c.do.add(c.do.magnitude(gradient), h.eps)))
    rate = negative(c.scalar.divide(h.lr, _correction(c, h.beta1)))
    c.settle("p", c.do.addcdiv(c.p, point(first), largest, rate))
