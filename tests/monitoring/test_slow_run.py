"""Rule slow-run: every step slower than declared, or than in the approved run."""

from __future__ import annotations

from typing import Any

from truerun.core.finding import Severity
from truerun.monitoring.slow_run import check_declared, check_learned


def typical(computed: float = 0.1, steps: int = 200, **waited: float) -> dict[str, Any]:
    phases = {"data": 0.0, "forward": 0.0, "backward": 0.001, "optimizer": 0.0, "other": 0.0}
    return {"computed": computed, "waited": {**phases, **waited}, "steps": steps}


def learned(now: dict[str, Any], then: dict[str, Any], **known: Any) -> Any:
    usual = {"same_hosts": True, "same_ranks": True, "origin": "run 3 (entry 8)", "busy": 0.0, "rank": 0}
    return check_learned(now, then, **{**usual, **known})


def test_declared() -> None:
    """[training] step_seconds = 0.1 and steps of 0.2 s: a warning. Within half as much again, or too few steps: nothing."""
    (finding,) = check_declared(0.2, 0.1, 60, 0.0, 0)
    assert finding.severity is Severity.WARNING
    assert check_declared(0.14, 0.1, 60, 0.0, 0) == ()
    assert check_declared(0.2, 0.1, 20, 0.0, 0) == ()


def test_every_step_waits_where_it_did_not() -> None:
    """The same sleep in every step of every rank: no rank departs and no step stands out, but the approved run did not wait."""
    (finding,) = learned(typical(forward=0.08), typical())
    assert "waits 0.08 s in the phase `forward`; it was 0 s in run 3 (entry 8)" in finding.message
    assert learned(typical(forward=0.02), typical()) == ()


def test_busy_loop_in_every_step() -> None:
    """A loop that burns time instead of sleeping: five times the processor time."""
    assert learned(typical(0.5), typical(0.1))[0].evidence["observed"] == 0.5


def test_a_busy_machine_is_no_finding() -> None:
    """The accept twin: arithmetic is twice as slow beside other work; and what remains is a note while that is so."""
    assert learned(typical(0.2), typical(0.1)) == ()
    assert learned(typical(forward=0.08), typical(), busy=0.4)[0].severity is Severity.NOTE


def test_what_cannot_be_compared() -> None:
    """The accept twins: other hardware; more ranks, whose backward waits for one another; too few steps; nothing learned."""
    assert learned(typical(0.5, forward=0.3), typical(), same_hosts=False) == ()
    assert learned(typical(backward=0.3), typical(), same_ranks=False) == ()
    assert learned(typical(backward=0.3), typical())
    assert learned(typical(forward=0.3, steps=10), typical()) == ()
    assert learned(typical(forward=0.3), {}) == ()
