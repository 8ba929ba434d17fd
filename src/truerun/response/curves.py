"""A curve as inline SVG: the run beside its reference, the tolerance as a band, the onset marked. No script, no style attribute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from truerun.core.incident import Curve
from truerun.core.run import MetricPoint
from truerun.core.visible import make_visible

WIDTH, HEIGHT = 720, 236
LEFT, RIGHT, TOP, BOTTOM = 48, 124, 22, 32
MOST_POINTS = 300
LABEL_GAP = 15
BEYOND = 1e100  # what is larger is as good as infinite


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """The part of the plane that is drawn."""

    first: float
    last: float
    low: float
    high: float

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (inside - self.low) / (self.high - self.low))


def render_curve(curve: Curve, number: int = 0) -> Markup:
    """*curve* as one `<svg>` element with a title and a description; empty where there is nothing finite to draw."""
    run, reference = _finite(curve.run), _finite(curve.reference)
    if not run:
        return Markup("")
    frame = _frame(curve, run, reference)
    parts = [_grid(frame), _band(curve, reference, frame), _onset(curve, frame)]
    parts += [_line(reference, "reference", frame), _line(run, "run", frame), _labels(run, reference, frame)]
    name = make_visible(curve.name)
    head = Markup(
        '<svg class="curve" viewBox="0 0 {} {}" role="img" aria-labelledby="t{n} d{n}">'
        '<title id="t{n}">{}</title><desc id="d{n}">{}</desc>'
    ).format(WIDTH, HEIGHT, name, describe_curve(curve), n=number)
    return head + Markup("").join(parts) + Markup("</svg>")


def describe_curve(curve: Curve) -> str:
    """The curve in words, for those who do not see it."""
    run, reference = _finite(curve.run), _finite(curve.reference)
    words = [f"The run ends at {_number(run[-1].value)}" if run else "The run reported nothing"]
    words += [f"its reference at {_number(reference[-1].value)}"] if reference else []
    onset = f"; the first difference is at step {curve.onset}" if curve.onset is not None else ""
    return ", ".join(words) + onset + "."


def _finite(points: Sequence[MetricPoint]) -> list[MetricPoint]:
    finite = [point for point in points if abs(point.value) < BEYOND]  # False for NaN
    stride = max(1, math.ceil(len(finite) / MOST_POINTS))
    kept = finite[::stride]
    return kept if not finite or kept[-1] is finite[-1] else [*kept, finite[-1]]


def _frame(curve: Curve, run: list[MetricPoint], reference: list[MetricPoint]) -> _Frame:
    points = run + reference
    values = sorted(point.value for point in points)
    # A diverging run must not flatten everything else: what is beyond eight times the usual spread touches the edge.
    middle, spread = values[len(values) // 2], values[int(len(values) * 0.9)] - values[int(len(values) * 0.1)]
    low = max(values[0], middle - 8 * spread) if spread else values[0]
    high = min(values[-1], middle + 8 * spread) if spread else values[-1]
    if curve.tolerance and reference:
        low, high = min(low, reference[-1].value - curve.tolerance), max(high, reference[-1].value + curve.tolerance)
    size = max(abs(low), abs(high))
    margin = 0.04 * (high - low) if high - low > 1e-9 * size else max(0.5, 0.05 * size)
    steps = [point.step for point in points]
    first, last = min(0, *steps), max(steps)
    return _Frame(first=first, last=max(last, first + 1), low=low - margin, high=high + margin)


def _grid(frame: _Frame) -> Markup:
    lines = []
    for value in _ticks(frame.low, frame.high):
        y = frame.y(value)
        lines.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y))
        lines.append(
            Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(LEFT - 8, y + 4, _number(value))
        )
    for step in _ticks(frame.first, frame.last):
        place = Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
        lines.append(place.format(frame.x(step), HEIGHT - 12, f"{step:.0f}"))
    lines.append(Markup('<text class="tick" x="{}" y="{}">steps</text>').format(WIDTH - RIGHT + 14, HEIGHT - 12))
    return Markup("").join(lines)


def _band(curve: Curve, reference: list[MetricPoint], frame: _Frame) -> Markup:
    if not curve.tolerance or not reference:
        return Markup("")
    final = reference[-1].value
    top, bottom = frame.y(final + curve.tolerance), frame.y(final - curve.tolerance)
    shape = Markup('<rect class="band" x="{}" y="{:.1f}" width="{}" height="{:.1f}"/>')
    return shape.format(LEFT, top, WIDTH - LEFT - RIGHT, bottom - top)


def _onset(curve: Curve, frame: _Frame) -> Markup:
    if curve.onset is None or curve.onset > frame.last:
        return Markup("")
    x = frame.x(curve.onset)
    right_half = x > WIDTH / 2
    line = Markup('<line class="onset" x1="{x:.1f}" x2="{x:.1f}" y1="{}" y2="{}"/>').format(TOP - 6, HEIGHT - BOTTOM, x=x)
    text = Markup('<text class="onset-label" x="{:.1f}" y="{}" text-anchor="{}">first difference, step {}</text>')
    return line + text.format(x - 6 if right_half else x + 6, TOP - 8, "end" if right_half else "start", curve.onset)


def _line(points: list[MetricPoint], kind: str, frame: _Frame) -> Markup:
    if len(points) == 1:
        only = points[0]
        return Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(
            kind, frame.x(only.step), frame.y(only.value)
        )
    path = " ".join(f"{frame.x(point.step):.1f},{frame.y(point.value):.1f}" for point in points)
    return Markup('<polyline class="line {}" points="{}"/>').format(kind, path)


def _labels(run: list[MetricPoint], reference: list[MetricPoint], frame: _Frame) -> Markup:
    ends = [("run", "this run", run[-1].value)] + ([("reference", "reference", reference[-1].value)] if reference else [])
    places = sorted(((frame.y(value), kind, words, value) for kind, words, value in ends), key=lambda item: item[0])
    if len(places) == 2 and places[1][0] - places[0][0] < LABEL_GAP:
        middle = (places[0][0] + places[1][0]) / 2
        places = [(middle + (number - 0.5) * LABEL_GAP, *place[1:]) for number, place in enumerate(places)]
    text = Markup('<text class="end {}" x="{}" y="{:.1f}">{} {}</text>')
    return Markup("").join(
        text.format(kind, WIDTH - RIGHT + 8, y + 4, _number(value), escape(words)) for y, kind, words, value in places
    )


def _ticks(low: float, high: float) -> list[float]:
    """Three to five round numbers between *low* and *high*."""
    size = 10.0 ** math.floor(math.log10(high - low))
    step = next(size * factor for factor in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0) if (high - low) / (size * factor) <= 5)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.3f}".rstrip("0").rstrip(".") if 0.001 <= abs(value) < 1000 else f"{value:.3g}"
