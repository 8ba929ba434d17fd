"""What `truerun show` says of cost and power: no more than follows from what was recorded."""

from __future__ import annotations

from truerun.apps.cli.show import power


def test_power_follows_from_the_looks() -> None:
    """A tenth of the updates at 256 coordinates: one look sees an edit of 0.1 % with 22.6 %, 18 of them with 99 %."""
    (line,) = power(1000, {"update": 100, "coordinates": 256})
    assert "checked 100 of 1000 updates at about 256" in line
    assert "within about 180 steps" in line
    assert "0.1 % off) is seen at the next look, in 10 steps" in line


def test_continuity_has_a_power_of_its_own() -> None:
    """Sixteen values at every step: 1.6 % a step, 288 steps for 99 %."""
    (line,) = power(1000, {"continuity": 1000, "held": 16_000})
    assert "about 16 values" in line
    assert "probability 0.016" in line
    assert "within about 288 steps" in line


def test_nothing_looked_at_nothing_claimed() -> None:
    """A run without looks has no power, and other senses' messages are counted, not valued."""
    assert power(1000, {}) == []
    assert power(1000, {"update": 0, "coordinates": 256}) == []
    assert power(10, {"batches": 4}) == ["looks besides: batches 4"]
    (line,) = power(10, {"update": 10, "coordinates": 10**7})
    assert "within about 1 steps" in line
