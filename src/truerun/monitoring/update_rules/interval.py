"""Arithmetic on intervals: where may the result of a floating-point computation lie, given what it was computed from?

Every operation is one that torch has a kernel for. It is evaluated in float64 at both ends and widened by what rounding may
do to it: a few units in the last place of its largest term, which also covers fused multiply-adds and a fixed but unknown
order inside the kernel. In half precision the ends are then rounded to the stored type, as the kernels do (they compute in
float32 and round to nearest even when they store). Rounding is monotone, so the true result stays inside, and because
float32 is so much finer than what is stored, nearly every interval is a single number there.
After Moore, Kearfott, Cloud: Introduction to Interval Analysis (SIAM 2009), section 3. No dependency between terms is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from truerun.monitoring.observation import Mask, Numbers

SLACK = 3.0
Term: TypeAlias = "Interval | Numbers | float"


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers between `low` and `high`, both (n,) or scalars; a NaN at an end means that nothing is known."""

    low: Any
    high: Any

    @property
    def middle(self) -> Numbers:
        """The midpoint."""
        result: Numbers = (self.low + self.high) / 2
        return result

    @property
    def reach(self) -> Numbers:
        """The largest magnitude in it."""
        result: Numbers = np.maximum(np.abs(self.low), np.abs(self.high))
        return result

    def holds(self, values: Numbers) -> Mask:
        """Where *values* lie inside; a value that is not finite is inside where an end is not, and all is where an end is NaN."""
        inside = (self.low <= values) & (values <= self.high)
        unknown = np.isnan(self.low) | np.isnan(self.high)
        infinite = ~np.isfinite(values) & ~(np.isfinite(self.low) & np.isfinite(self.high))
        result: Mask = inside | unknown | infinite
        return result

    def or_else(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


def point(value: Term) -> Interval:
    """*value* as an interval of no width, unless it is one already."""
    return value if isinstance(value, Interval) else Interval(value, value)


def _product(a: Interval, b: Interval) -> Interval:
    if a.low is a.high and b.low is b.high:
        both = a.low * b.low
        return Interval(both, both)
    ends = (a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high)
    return Interval(np.minimum.reduce(np.broadcast_arrays(*ends)), np.maximum.reduce(np.broadcast_arrays(*ends)))


def _quotient(a: Interval, b: Interval) -> Interval:
    if b.low is b.high:
        return _product(a, point(1.0 / np.asarray(b.low)))
    crosses = (b.low <= 0) & (b.high >= 0)
    result = _product(a, Interval(1.0 / np.asarray(b.high), 1.0 / np.asarray(b.low)))
    return Interval(np.where(crosses, -np.inf, result.low), np.where(crosses, np.inf, result.high))


class Arithmetic:
    """
    How one kind of computation rounds: relative and absolute error of an operation, and what `rounded` makes of its result.

    `eps` and `tiny` may be arrays (n,). `stores` rounds to the type that parameters are kept in (None: computed in it).
    `stepwise`: each operation stores its result, as the single-tensor and foreach implementations do; in half precision the
    fused kernels do not.
    """

    def __init__(
        self,
        eps: Any,
        tiny: Any,
        stores: Callable[[Any], Any] | None = None,
        *,
        how: str = "single",
        slack: float = SLACK,
    ) -> None:
        self.eps = slack * eps
        self.tiny = 4 * tiny
        self.stores = stores
        self.stepwise = how != "fused" or stores is None
        self.foreach = how == "foreach"

    def stored(self, value: Interval) -> Interval:
        """*value* once it has been written to memory."""
        if self.stores is None:
            return value
        return Interval(self.stores(value.low), self.stores(value.high))

    def _made(self, value: Interval, reach: Any) -> Interval:
        error = self.eps * reach + self.tiny
        wide = Interval(value.low - error, value.high + error)
        return self.stored(wide) if self.stepwise else wide

    def add(self, a: Term, b: Term, alpha: Term = 1.0) -> Interval:
        """A + alpha b. In half precision torch's kernel rounds numbers first, and where it does not vectorize alpha b too."""
        a, b, alpha = point(a), point(b), point(alpha)
        if self.stepwise:
            alpha, b = self.stored(alpha), self.stored(b) if np.ndim(b.low) == 0 else b
        product = _product(b, alpha)
        if self.stepwise and self.stores is not None and np.any(alpha.low != 1):
            product = product.or_else(self.stored(product))
        return self._made(Interval(a.low + product.low, a.high + product.high), a.reach + product.reach)

    def subtract(self, a: Term, b: Term) -> Interval:
        """A - b."""
        return self.add(a, b, -1.0)

    def multiply(self, a: Term, b: Term) -> Interval:
        """A b."""
        product = _product(point(a), point(b))
        return self._made(product, product.reach)

    def scale(self, a: Term, number: Term) -> Interval:
        """A times a number, in place; foreach implementations round the number first."""
        return self.multiply(a, self.stored(point(number)) if self.foreach else number)

    def divide(self, a: Term, b: Term) -> Interval:
        """A / b; everything where b may be zero."""
        quotient = _quotient(point(a), point(b))
        return self._made(quotient, quotient.reach)

    def addcmul(self, a: Term, b: Term, c: Term, value: Term = 1.0) -> Interval:
        """A + value b c."""
        a, product = point(a), _product(_product(point(b), point(c)), point(value))
        return self._made(Interval(a.low + product.low, a.high + product.high), a.reach + product.reach)

    def add_square(self, a: Term, b: Term, value: Term = 1.0) -> Interval:
        """A + value b b: as `addcmul`, and it knows that a square is not negative."""
        a, b = point(a), point(b)
        ends = (b.low * b.low, b.high * b.high)
        low = np.where((b.low <= 0) & (b.high >= 0), 0.0, np.minimum(*ends))
        square = _product(Interval(low, np.maximum(*ends)), point(value))
        return self._made(Interval(a.low + square.low, a.high + square.high), a.reach + square.reach)

    def addcdiv(self, a: Term, b: Term, c: Term, value: Term = 1.0) -> Interval:
        """A + value b / c."""
        a, quotient = point(a), _product(_quotient(point(b), point(c)), point(value))
        return self._made(Interval(a.low + quotient.low, a.high + quotient.high), a.reach + quotient.reach)

    def lerp(self, a: Term, b: Term, weight: Term) -> Interval:
        """A + weight (b - a), for a weight between 0 and 1."""
        a, b, weight = point(a), point(b), point(weight)
        old = _product(a, Interval(1.0 - weight.high, 1.0 - weight.low))
        new = _product(b, weight)
        return self._made(Interval(old.low + new.low, old.high + new.high), a.reach + b.reach)

    def sqrt(self, a: Term) -> Interval:
        """The square root; nothing is known where the argument may be negative."""
        a = point(a)
        root = Interval(np.sqrt(np.asarray(a.low)), np.sqrt(np.asarray(a.high)))
        return self._made(root, root.reach)

    def maximum(self, a: Term, b: Term) -> Interval:
        """The larger one, exactly."""
        a, b = point(a), point(b)
        return Interval(np.maximum(a.low, b.low), np.maximum(a.high, b.high))

    def magnitude(self, a: Term) -> Interval:
        """The magnitude, exactly."""
        a = point(a)
        low = np.where((a.low <= 0) & (a.high >= 0), 0.0, np.minimum(np.abs(a.low), np.abs(a.high)))
        return Interval(low, a.reach)

    def power(self, base: float, exponent: Any) -> Interval:
        """base^exponent, for a base in [0, 1]: the base itself may have been rounded, which the exponent multiplies."""
        value = np.asarray(base, float) ** exponent
        error = self.eps * (1 + exponent) * value + self.tiny
        return Interval(value - error, value + error)


def negative(a: Term) -> Interval:
    """-a, exactly."""
    a = point(a)
    return Interval(-a.high, -a.low)


def to_bfloat16(values: Any) -> Any:
    """*values* rounded to bfloat16, to nearest, ties to even; as float64."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)
    return np.where(np.isnan(values), np.nan, rounded)


def to_float16(values: Any) -> Any:
    """*values* rounded to float16, to nearest, ties to even; as float64."""
    return np.asarray(values, np.float32).astype(np.float16).astype(np.float64)
