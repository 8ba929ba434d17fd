"""A project rebuilt with some of its changes holds exactly those."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from teamwork import Team, read_json, rows

from truerun.adapters.workspace import Built, Workspaces
from truerun.attribution.candidates import Candidate, Lever
from truerun.core.change import Action
from truerun.core.errors import InputError

LOCKED = ("config.yaml", "more.toml", "extra.json", "train.py", "init.bin")


class Lab:
    def __init__(self, team: Team, tmp_path: Path) -> None:
        self.team = team
        self.first = {name: (tmp_path / "first" / name).read_bytes() for name in (*LOCKED, f"data/train.{team.suffix}")}
        self.spaces = Workspaces(
            root=team.root,
            scratch=tmp_path / "scratch",
            objects=team.project.objects,
            locks=team.known_locks(),
            reference=team.locks[0],
            run=team.locks[-1],
            candidates=team.candidates(),
            commands=(("python3", "train.py"), ("python3", "train.py")),
        )
        self.all = self.spaces.candidates

    def find(self, text: str) -> Candidate:
        found = [candidate for candidate in self.all if text in candidate.change.title()]
        assert len(found) == 1, [candidate.change.title() for candidate in self.all]
        return found[0]

    def build(self, *chosen: Candidate) -> Built:
        return self.spaces.build(frozenset(candidate.position for candidate in chosen), "w")


def make_lab(folder: Path, suffix: str) -> Lab:
    team = Team(folder / "project", suffix)
    keep(team, folder)
    team.edit("config.yaml", "lr: 0.1", "lr: 0.2")
    team.add_rows(rows("ben", 100, 5))
    team.edit("train.py", "line_3 = 3", "line_3 = 33")
    team.lock("one")
    team.add_rows(rows("cem", 200, 4))
    team.edit("more.toml", "seed = 1", "seed = 2")
    team.edit("extra.json", '"c.d": 2', '"c.d": 5')
    team.edit("train.py", "line_20 = 20", "line_20 = 200")
    team.edit("train.py", "line_3 = 33", "line_3 = 34")
    (team.root / "init.bin").write_bytes(b"other weights")
    team.lock("two")
    team.write_rows(team.read_rows().filter(pl.col("x") != 1.0))
    team.edit("config.yaml", "name: first", "name: second\nfresh:\n  key: [1, 2]")
    team.edit("train.py", "line_29 = 29", "line_29 = 290")
    team.lock("three")
    return Lab(team, folder)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One history, rebuilt by many tests; none of them changes it."""
    return make_lab(tmp_path_factory.mktemp("lab"), "parquet")


@pytest.fixture(scope="module", params=["csv", "jsonl", "parquet"])
def any_lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> Lab:
    return lab if request.param == "parquet" else make_lab(tmp_path_factory.mktemp("lab"), request.param)


def keep(team: Team, tmp_path: Path) -> None:
    """A copy of the files as first locked."""
    for name in (*LOCKED, f"data/train.{team.suffix}"):
        target = tmp_path / "first" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((team.root / name).read_bytes())


def test_none_is_the_reference_byte_for_byte(any_lab: Lab) -> None:
    built = any_lab.build()
    assert {name: (built.folder / name).read_bytes() for name in any_lab.first} == any_lab.first


def test_all_is_the_run_byte_for_byte(any_lab: Lab) -> None:
    built = any_lab.build(*(candidate for candidate in any_lab.all if candidate.applies))
    for name in any_lab.first:
        assert (built.folder / name).read_bytes() == (any_lab.team.root / name).read_bytes(), name


def test_what_is_not_locked_is_there_and_the_project_stays_as_it_is(lab: Lab) -> None:
    built = lab.build()
    assert (built.folder / "run.sh").read_text() == "#!/bin/sh\n"
    assert not (built.folder / ".truerun").exists()
    (built.folder / "run.sh").write_text("changed by a training script")
    (built.folder / "train.py").write_text("changed by a training script")
    assert (lab.team.root / "run.sh").read_text() == "#!/bin/sh\n"
    assert (lab.build().folder / "train.py").read_bytes() == lab.first["train.py"]


def test_one_config_key_and_nothing_else(lab: Lab) -> None:
    built = lab.build(lab.find("optimizer.lr"))
    config = yaml.safe_load((built.folder / "config.yaml").read_text())
    assert config == {"optimizer": {"lr": 0.2, "name": "sgd"}, "layers": [4, 8], "name": "first"}
    assert (built.folder / "train.py").read_bytes() == lab.first["train.py"]


def test_added_keys_in_every_format(lab: Lab) -> None:
    built = lab.build(lab.find("fresh.key[1]"), lab.find("run.seed"), lab.find('"c.d"'))
    assert yaml.safe_load((built.folder / "config.yaml").read_text())["fresh"] == {"key": [2]}
    assert read_json(built.folder / "extra.json") == {"a": {"b": 1}, "c.d": 5}
    assert (built.folder / "more.toml").read_bytes() == (lab.team.root / "more.toml").read_bytes()


def test_rows_of_one_contributor_come_after_the_reference_rows(any_lab: Lab) -> None:
    built = any_lab.build(any_lab.find("by cem"))
    frame = any_lab.team.read_rows(built.folder)
    expected = pl.concat([rows("ana", 0, 20), rows("cem", 200, 4)])
    assert frame.equals(expected)


def test_removed_rows_are_gone_and_others_not_added(any_lab: Lab) -> None:
    removal = next(candidate for candidate in any_lab.all if candidate.change.action is Action.ROWS_REMOVED)
    frame = any_lab.team.read_rows(any_lab.build(removal).folder)
    assert frame.equals(rows("ana", 0, 20).filter(pl.col("x") != 1.0))


def test_a_later_edit_elsewhere_in_a_file_needs_no_earlier_one(lab: Lab) -> None:
    edits = [candidate for candidate in lab.all if candidate.lever is Lever.FILE and candidate.change.name == "train.py"]
    assert edits[0].needs == frozenset()
    assert edits[1].needs == {edits[0].position}, "the second edit rewrites a line of the first"
    assert edits[2].needs == frozenset(), "the third edit touches other lines"
    text = (lab.build(edits[2]).folder / "train.py").read_text()
    assert "line_29 = 290" in text
    assert "line_3 = 3\n" in text


def test_a_dependent_edit_brings_what_it_needs(lab: Lab) -> None:
    edits = [candidate for candidate in lab.all if candidate.lever is Lever.FILE and candidate.change.name == "train.py"]
    text = (lab.build(edits[1]).folder / "train.py").read_text()
    assert "line_3 = 34" in text
    assert "line_29 = 29\n" in text


def test_a_checkpoint_alone(lab: Lab) -> None:
    built = lab.build(lab.find("init.bin"))
    assert (built.folder / "init.bin").read_bytes() == b"other weights"
    assert (built.folder / "config.yaml").read_bytes() == lab.first["config.yaml"]


def test_the_same_subset_gives_the_same_bytes(lab: Lab) -> None:
    chosen = (lab.find("by ben"), lab.find("optimizer.lr"))
    first = {name: (lab.build(*chosen).folder / name).read_bytes() for name in lab.first}
    assert first == {name: (lab.build(*chosen).folder / name).read_bytes() for name in lab.first}


def test_duplicate_rows_are_counted_not_merged(tmp_path: Path) -> None:
    """A contributor floods the data with copies of one row; applying that change alone brings exactly those copies."""
    team = Team(tmp_path / "project")
    keep(team, tmp_path)
    team.add_rows(pl.concat([rows("ana", 3, 1)] * 7))
    team.edit("config.yaml", "lr: 0.1", "lr: 0.3")
    team.lock("flood")
    team.add_rows(rows("ben", 50, 2))
    team.lock("more")
    lab = Lab(team, tmp_path)
    frame = team.read_rows(lab.build(lab.find("+7 rows")).folder)
    assert frame.height == 27
    assert frame.filter(pl.col("x") == 0.75).height == 8


def test_a_missing_object_says_what_to_do(lab: Lab) -> None:
    """Somebody cleaned the object store: the trace says so and does not guess."""
    path = lab.team.project.objects.path(lab.team.locks[1].code["train.py"].digest)
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(InputError, match="not in"):
        lab.build(lab.find("optimizer.lr"), *[item for item in lab.all if item.change.name == "train.py"][:1])
    path.write_bytes(data)


def test_a_script_that_writes_to_a_large_input_damages_neither_object_nor_later_reruns(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large files are linked and not copied; what is linked is never the stored object."""
    monkeypatch.setattr("truerun.adapters.workspace.LINK_ABOVE_BYTES", 1)
    path = lab.build().folder / "init.bin"
    assert path.stat().st_nlink > 1
    with path.open("r+b") as stream:
        stream.write(b"XXX")
    assert lab.team.project.objects.read(lab.team.locks[0].checkpoints["init.bin"].digest) == b"weights"
    assert (lab.build().folder / "init.bin").read_bytes() == b"weights"
