"""What the ranks sense reads, and that reading leaves everything as it was."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from tests.monitoring.loop import model, train, watching

from truerun.adapters.pytorch import parallel
from truerun.adapters.pytorch.program_digest import describe_program
from truerun.adapters.pytorch.senses.ranks import STRETCH, checksums


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64], ids=str)
def test_a_checksum_sees_the_last_bit(kind):
    """One bit of one element of one tensor is another."""
    tensor = torch.linspace(0.1, 1, 60).to(kind)
    other = tensor.clone()
    (other.view(torch.uint8))[8] ^= 1
    assert checksums([tensor], 0) == checksums([tensor.clone()], 0) != checksums([other], 0)
    assert checksums([], 0) == []


def test_every_stretch_of_a_large_tensor_is_read_by_some_window():
    """A weight anywhere in a tensor larger than one stretch shows at some look."""
    tensor = torch.zeros(3 * STRETCH + 5)
    windows = [number << 60 for number in range(16)]
    for at in (0, STRETCH - 1, STRETCH, 2 * STRETCH + 7, len(tensor) - 1):
        changed = tensor.clone()
        changed[at] = 1.0
        assert any(checksums([tensor], window) != checksums([changed], window) for window in windows)


def test_one_process_alone_has_no_ranks(tmp_path):
    """The accept twin: without torch.distributed nothing is sent and nothing found."""
    network = model()
    with watching(tmp_path) as observer:
        train(network, torch.optim.SGD(network.parameters(), lr=0.1), 5)
    (judge,) = (judge for judge in observer.judges if judge.name == "ranks")
    assert (judge.launches, judge.learned(), observer.findings) == ({}, {}, ())


def test_place_and_copies(group):
    """Who holds what: wrapped parameters are copies while the wrapper lives; parameters that it ignores are not."""
    assert parallel.place() == (0, 1)
    wrappers, network = parallel.Wrappers(), model()
    torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, ["0.bias"])
    wrapped = torch.nn.parallel.DistributedDataParallel(network)
    wrappers.add(wrapped)
    assert wrappers.copies(network[0].weight, 1) == parallel.Copies((0,), parallel.WRAPPED)
    assert wrappers.copies(network[0].bias, 2) == parallel.Copies((0, 1), parallel.UNPROMISED)
    assert not wrappers.waiting([network[0].weight])
    with wrapped.no_sync():
        wrapped(torch.randn(2, 16)).sum().backward()
    assert wrappers.waiting([network[0].weight])


def test_a_compiled_collective_is_what_it_was(group, tmp_path):
    """torch.compile of a function with a collective gives the same graph, whole, with and without the probe."""

    def work(x):
        y = x * 2
        dist.all_reduce(y)
        return y + 1

    graphs = []

    def backend(graph, _):
        graphs.append(graph.code)
        return graph.forward

    def compiled():
        torch._dynamo.reset()
        return torch.compile(work, fullgraph=True, backend=backend)(torch.ones(3))

    alone = compiled()
    with watching(tmp_path):
        assert torch.equal(compiled(), alone)
    assert graphs[0] == graphs[1]


def test_a_program_is_its_code_and_settings(monkeypatch, tmp_path):
    """A module of the program is in by digest, installed packages are not, and a setting shows."""
    (tmp_path / "of_the_program.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    import of_the_program  # noqa: F401

    shown = describe_program()
    assert len(shown["code"]["of_the_program"]) == 24
    assert not {"torch", "numpy", "truerun"} & set(shown["code"])
    assert shown["settings"]["OMP_NUM_THREADS"] == "7"
