"""Ranks end to end: torchrun on gloo, every scenario of `rank_scenarios.py` that goes wrong beside those that do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from truerun.apps.agent import WatchOutcome, WatchRequest, watch
from truerun.core.declaration import MonitoringSection
from truerun.core.finding import Finding, Severity
from truerun.monitoring.reference import Reference

SCRIPT = Path(__file__).parent / "rank_scenarios.py"
OURS = {"ranks-differ", "rank-settings-differ"}
TWINS = (
    "plain",
    "accumulate",
    "branches",
    "by_hand",
    "rewrapped",
    "two_networks",
    "join",
    "local_hand",
    "local_hook",
    "local_no_sync",
    "compressed",
    "low_rank",
    "sharded",
    "sharded_copies",
    "independent",
    "scheduled",
    "loaded",
)


def command(folder: Path, *names: str, ranks: int = 2) -> tuple[str, ...]:
    torchrun = ("-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone")
    return (sys.executable, *torchrun, str(SCRIPT), str(folder / "out"), *names)


def run(folder: Path, *names: str, ranks: int = 2, reference: Reference | None = None, **monitoring: Any) -> WatchOutcome:
    return watch(
        WatchRequest(
            command=command(folder, *names, ranks=ranks),
            cwd=folder,
            folder=folder / "run",
            output=folder / "log.txt",
            monitoring=MonitoringSection(**{"every": 1, **monitoring}),
            reference=reference or Reference(),
        )
    )


def of(outcome: WatchOutcome, name: str) -> list[Finding]:
    """The findings about ranks that speak of the scenario *name*: its tensors carry its name."""
    return [
        finding
        for finding in outcome.findings
        if finding.rule == "ranks-differ" and any(f"{name}." in tensor for tensor in finding.evidence["tensors"])
    ]


def results(folder: Path, ranks: int = 2) -> list[str]:
    return [(folder / f"out{rank}").read_text() for rank in range(ranks)]


def test_ranks_that_depart_are_found_and_the_others_are_left_alone(tmp_path: Path) -> None:
    """
    One launch of two ranks trains eight models one after another, four of them tampered with on rank 1 from step 6 on.

    Found at the first look, which is the first wrong step here, with the rank wherever something tells them apart; the four
    others give no finding; losses, weights and random numbers are bit for bit those of the same launch without Truerun.
    """
    names = ("plain", "accumulate", "branches", "by_hand", "scaled", "unclipped", "edited", "beside")
    outcome = run(tmp_path, *names)
    assert outcome.exit_code == 0, (tmp_path / "log.txt").read_text()
    assert (outcome.ranks, outcome.steps) == (2, 8 * 14)
    assert (tmp_path / "run" / "steps-rank1.jsonl").is_file()
    for twin in names[:4]:
        assert of(outcome, twin) == []
    (scaled,) = of(outcome, "scaled")
    assert (scaled.severity, scaled.location.step, scaled.location.rank) == (Severity.ERROR, 4 * 14 + 6, 1)
    assert scaled.evidence["term"] == "g"
    (unclipped,) = of(outcome, "unclipped")
    assert (unclipped.location.step, unclipped.location.rank) == (5 * 14 + 6, 1)
    assert "rank 1 alone does not change its gradients" in unclipped.message
    edited = of(outcome, "edited")[0]
    assert (edited.location.step, edited.evidence["term"], edited.evidence["tensors"]) == (
        6 * 14 + 7,
        "p",
        ["module.edited.4.weight"],
    )
    beside = of(outcome, "beside")[0]
    assert (beside.location.step, beside.location.rank, beside.evidence["departed"]) == (7 * 14 + 1, None, [])
    watched = results(tmp_path)
    subprocess.run(command(tmp_path, *names), cwd=tmp_path, check=True, capture_output=True)
    assert results(tmp_path) == watched


@pytest.mark.slow
def test_no_alarm_where_nothing_is_wrong(tmp_path: Path) -> None:
    """Every honest scenario, judged at each step: gradient accumulation, Join, local SGD, comm hooks, FSDP2, sweeps."""
    outcome = run(tmp_path, *TWINS)
    assert outcome.exit_code == 0, (tmp_path / "log.txt").read_text()
    assert [finding for finding in outcome.findings if finding.severity.rank >= Severity.WARNING.rank] == []
    watched = results(tmp_path)
    subprocess.run(command(tmp_path, *TWINS), cwd=tmp_path, check=True, capture_output=True)
    assert results(tmp_path) == watched


ATTACKS = ("scaled", "flipped", "noised", "clipped", "unclipped", "edited", "lr")


@pytest.mark.slow
def test_the_majority_names_the_rank(tmp_path: Path) -> None:
    """Four ranks: whatever happens on rank 1 alone is pinned on rank 1, from the first wrong step."""
    outcome = run(tmp_path, *ATTACKS, "copies_scaled", ranks=4)
    assert outcome.exit_code == 0, (tmp_path / "log.txt").read_text()
    assert outcome.ranks == 4
    for number, name in enumerate(ATTACKS):
        first = of(outcome, name)[0]
        late = name in ("edited", "lr")
        assert (first.severity, first.location.rank) == (Severity.ERROR, 1), name
        assert first.location.step == number * 14 + 6 + late, name
    settings = [finding for finding in outcome.findings if finding.rule == "rank-settings-differ"]
    assert [(finding.location.step, finding.location.rank) for finding in settings] == [(6 * 14 + 7, 1)]
    assert {finding.evidence["term"] for finding in of(outcome, "copies_scaled")} == {"g"}


@pytest.mark.slow
def test_two_ranks_attacks(tmp_path: Path) -> None:
    """The same with two ranks, and the bugs of the field: wrapper bypassed, hooks lost, never leaving no_sync, sharded learning rates."""
    names = (*ATTACKS, "moved", "never_synced", "hand_stops", "same_start", "sharded_lr", "own_seed", "one_part")
    outcome = run(tmp_path, *names)
    assert outcome.exit_code == 0, (tmp_path / "log.txt").read_text()
    severities = {name: of(outcome, name)[0].severity for name in names[:-3]}
    warned = {"never_synced", "hand_stops", "same_start"}
    assert severities == {name: Severity.WARNING if name in warned else Severity.ERROR for name in severities}
    settings, order, part = (finding for finding in outcome.findings if finding.rule == "rank-settings-differ")
    assert (order.subject.key, order.severity) == ("order", Severity.WARNING)
    assert (part.subject.name, part.severity) == ("DistributedSampler", Severity.ERROR)
    assert (settings.subject.key, settings.location.rank, settings.evidence["times"]) == ("lr", 1, 2)


@pytest.mark.slow
def test_processes_that_torch_spawns(tmp_path: Path) -> None:
    """torch.multiprocessing.spawn sets no RANK: ranks are those of torch.distributed."""
    words = (sys.executable, str(SCRIPT), str(tmp_path / "out"), "plain", "scaled")
    request = WatchRequest(command=words, cwd=tmp_path, folder=tmp_path / "run", monitoring=MonitoringSection(every=1))
    outcome = watch(request)
    assert (outcome.exit_code, outcome.ranks) == (0, 2)
    (finding,) = (finding for finding in outcome.findings if finding.rule in OURS)
    assert (finding.location.step, finding.location.rank) == (14 + 6, 1)


TWO_VERSIONS = """
import os, sys, torch
sys.path.insert(0, f"version{os.environ['RANK'] if len(sys.argv) > 2 else 0}")
import network
torch.distributed.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(network.make())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad(); model(torch.randn(4, 8)).sum().backward(); optimizer.step()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--lr=1", "two"), ("--lr=1",)], ids=["two versions", "one version"])
def test_one_rank_runs_other_code(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Approve A, run B on one rank: rank 1 imports another version of a module; with one version nothing is found."""
    (tmp_path / "train.py").write_text(TWO_VERSIONS)
    for rank in (0, 1):
        (tmp_path / f"version{rank}").mkdir()
        (tmp_path / f"version{rank}" / "network.py").write_text(
            f"import torch\ndef make(): return torch.nn.Linear(8, 3)  # {rank}\n"
        )
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "train.py", *words)
    outcome = watch(WatchRequest(command=(sys.executable, *torchrun), cwd=tmp_path, folder=tmp_path / "run"))
    assert outcome.exit_code == 0
    found = [(finding.rule, finding.subject.kind, finding.subject.name) for finding in outcome.findings]
    assert found == ([("rank-settings-differ", "code", "network")] if len(words) == 2 else [])


@pytest.mark.slow
def test_what_the_approved_run_did(tmp_path: Path) -> None:
    """Ranks that averaged by hand all through the approved run and stop doing so: an error; ranks that never did: silence."""
    for learned, expected in (({"together": True}, [Severity.ERROR]), ({"apart": True}, [])):
        reference = Reference(learned={"ranks": learned}, learned_from="run 7", same_program=True)
        outcome = run(tmp_path, "same_start" if "apart" in learned else "hand_stops", reference=reference)
        assert [finding.severity for finding in outcome.findings if finding.rule in OURS] == expected


@pytest.mark.slow
def test_many_clean_steps_at_the_default_cost(tmp_path: Path) -> None:
    """Five thousand clean steps of two ranks within the default budget: nothing is found, and ranks are looked at now and then."""
    outcome = run(tmp_path, "long", every=None)
    assert (outcome.exit_code, outcome.steps) == (0, 5000)
    assert [finding for finding in outcome.findings if finding.severity is not Severity.NOTE] == []
    assert outcome.effective["learned"]["ranks"] == {"together": True, "apart": False}


@pytest.mark.slow
def test_a_gradient_altered_before_it_is_averaged(tmp_path: Path) -> None:
    """
    Rank 1 of three scales its loss: after the averaging all ranks have the same. Batches given to two ranks show it.

    The twins in the same launch: an honest loader, and one with dropout, of which nothing can be told.
    """
    outcome = run(tmp_path, "loaded", "sent_altered", ranks=3, duplicate_batches=2)
    assert outcome.exit_code == 0, (tmp_path / "log.txt").read_text()
    errors = [finding for finding in outcome.findings if finding.severity.rank >= Severity.WARNING.rank]
    assert {finding.rule for finding in errors} == {"rank-gradient-differs"}
    assert all("sent_altered" in finding.subject.key for finding in errors if finding.subject.key)
    assert errors[-1].location.rank == 1
    outcome = run(tmp_path, "loaded_dropout", duplicate_batches=2)
    assert {finding.severity for finding in outcome.findings} == {Severity.NOTE}
    assert "rank-gradient-differs" in {finding.rule for finding in outcome.findings}


@pytest.mark.slow
def test_batches_are_left_alone_unless_asked_for(tmp_path: Path) -> None:
    """Without the option, what the loader gives is what it gives without Truerun."""
    assert {finding.severity for finding in run(tmp_path, "loaded").findings} <= {Severity.NOTE}
    watched = results(tmp_path)
    subprocess.run(command(tmp_path, "loaded"), cwd=tmp_path, check=True, capture_output=True)
    assert results(tmp_path) == watched
