"""The demo: its plan is what it says, its edits are real, its story is judged honestly; the slow tests train and tell it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from truerun.apps.cli.demo import command
from truerun.apps.demo.code_edits import CODE_EDITS
from truerun.apps.demo.edits import AddRows, Replace, SetValue
from truerun.apps.demo.harm import LOT_KINDS, SLIPS, choose_lot
from truerun.apps.demo.history import OPTIMIZERS, make_plan
from truerun.apps.demo.outcome import Held, Outcome, Planted, Runs
from truerun.apps.demo.rows import Scanner
from truerun.apps.demo.story import TOLERANCE, Place, prepare
from truerun.core.actor import Actor, Basis, Role
from truerun.core.attribution import Suspect
from truerun.core.change import Action, Change, ChangeKind
from truerun.core.errors import InputError, UsageError


@pytest.fixture(scope="module")
def plans():
    """Three seeds."""
    return [make_plan(seed) for seed in range(3)]


@pytest.fixture
def project(tmp_path):
    """The demo's files."""
    place = Place(folder=tmp_path / "demo")
    prepare(place)
    return place.project


def test_a_plan_is_the_story_that_is_promised(plans):
    """Nine made-up people, one trainee with a mentor, thirty legitimate changes, eight contributors, two planted changes."""
    for plan in plans:
        assert len(plan.team.members) == 9
        assert all("(made up)" in member.name for member in plan.team.members)
        assert [member.role for member in plan.team.members].count(Role.TRAINEE) == 1
        assert plan.team.mentor.role is Role.MAINTAINER
        legitimate = [step for step in plan.steps if step.planted is None]
        assert len(legitimate) >= 30
        rows = [edit for step in plan.steps for edit in step.edits if isinstance(edit, AddRows)]
        assert len({edit.contributor for edit in rows}) == 8
        assert sorted(step.planted for step in plan.steps if step.planted) == ["config", "data"]
        assert all(step.author == plan.team.trainee for step in plan.steps if step.planted)
        assert [step.at for step in plan.steps] == sorted(step.at for step in plan.steps)
        assert all(step.at.weekday() < 5 for step in plan.steps)


def test_legitimate_rows_are_right_and_the_bad_lot_is_a_mixture(plans):
    """Only the trainee's lot holds wrong labels, and it holds right ones too."""
    for plan in plans:
        for step in plan.steps:
            for edit in step.edits:
                if isinstance(edit, AddRows) and step.planted is None:
                    assert edit.lot.wrong == 0
        assert 0 < plan.bad_lot.lot.wrong < len(plan.bad_lot.lot)


def test_nothing_after_the_slip_undoes_it_and_somebody_can_still_answer(plans):
    """No later change sets the same key, and no maintainer made a change after the first planted one."""
    for plan in plans:
        assert sum(isinstance(e, SetValue) and e.key == plan.slip.key for step in plan.steps for e in step.edits) == 1
        first = next(number for number, step in enumerate(plan.steps) if step.planted)
        assert not {step.author.id for step in plan.steps[first:]} & {member.id for member in plan.team.maintainers}


def test_every_answer_is_one_that_the_policy_counts():
    """
    Seed 20 once had its trainee's honest rows approved by somebody else than the mentor: nothing after them counted as
    approved, until a maintainer with changes among them could not answer any more and the story ended.
    """
    for seed in range(40):
        plan, waiting = make_plan(seed), set()
        planted = False
        for turn, step in enumerate(plan.steps):
            waiting.add(step.author.id)
            planted = planted or step.planted is not None
            if step.planted is None:
                approver = plan.team.approver(step.author, turn, mentor_away=planted)
                assert approver.id not in waiting, f"seed {seed}, step {turn}"
                if not planted:
                    assert step.author != plan.team.trainee or approver == plan.team.mentor, f"seed {seed}, step {turn}"
                    waiting = set()


def test_a_seed_is_a_story_and_another_seed_is_another(plans):
    """The same seed gives the same plan to the last pixel; seeds differ in who, what and when."""
    again = make_plan(0)
    assert [(step.at, step.author, step.note) for step in again.steps] == [
        (step.at, step.author, step.note) for step in plans[0].steps
    ]
    assert (again.bad_lot.lot.images == plans[0].bad_lot.lot.images).all()
    assert len({plan.team.trainee.id for plan in plans} | {plan.slip.key for plan in plans}) > 2


@pytest.mark.parametrize("seed", range(3))
def test_every_edit_applies_to_the_real_files(plans, project, seed):
    """The history is made of edits that work: values are numbers afterwards, code compiles, tables grow."""
    import polars as pl

    plan = plans[seed]
    for edit in (*plan.first_files, *(edit for step in plan.steps for edit in step.edits)):
        edit.apply(project)
    values = yaml.safe_load((project / "config.yaml").read_text())
    section, _, key = plan.slip.key.rpartition(".")
    assert values[section][key] == plan.slip.value
    for path in project.rglob("*.py"):
        compile(path.read_text(), path, "exec")
    assert pl.read_parquet(project / "data" / "train.parquet")["scan"].is_unique().all()


@pytest.mark.parametrize("value", [3e-5, 1e-4, 0.3, 10.0, 512, 1.0])
def test_a_value_is_written_as_yaml_reads_it(project, value):
    """3e-05 would be text in YAML 1.1."""
    SetValue(key="optimizer.lr", value=value).apply(project)
    read = yaml.safe_load((project / "config.yaml").read_text())["optimizer"]["lr"]
    assert (read, type(read)) == (value, type(value))


def test_every_code_edit_applies_alone(project):
    """They are drawn in any combination."""
    for _, edit in CODE_EDITS:
        file = project / edit.path
        before = file.read_text() if file.exists() else ""
        edit.apply(project)
        assert file.read_text() != before
        compile(file.read_text(), edit.path, "exec")
        file.write_text(before)


def test_edits_that_do_not_fit_say_so(project):
    """A key or a place that is not there is an error, not nothing."""
    with pytest.raises(InputError, match="no key"):
        SetValue(key="optimizer.speed", value=1).apply(project)
    with pytest.raises(InputError, match="does not read"):
        Replace(path="train.py", old="no such text", new="").apply(project)


def test_a_folder_of_somebody_else_is_never_emptied(tmp_path):
    """Only a folder that a demo made is made anew."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not empty"):
        prepare(Place(folder=tmp_path))
    assert (tmp_path / "thesis.tex").exists()
    place = Place(folder=tmp_path / "demo")
    prepare(place)
    (place.folder / "old").write_text("old")
    prepare(place)
    assert not (place.folder / "old").exists()


# The judgement of a telling


def change(name):
    return Change(kind=ChangeKind.CODE, action=Action.MODIFIED, name=name, actor=Actor(id="x", basis=Basis.SIGNED))


def outcome(tmp_path, **different):
    """A telling in which everything came out; a test spoils one thing."""
    report = tmp_path / "report.html"
    report.write_text("a report")
    good = Outcome(
        seed=0,
        planted=tuple(
            Planted(change=change(name).id, title=name, actor="x", kind="config", entry=entry)
            for name, entry in (("a", 5), ("b", 7))
        ),
        suspects=tuple(
            Suspect(change=change(name), probability=p, lock_entry=entry)
            for name, p, entry in (("a", 0.99, 5), ("b", 0.95, 7), ("c", 0.01, 6))
        ),
        legitimate=("c",),
        runs=Runs(reference="r", degraded="d", recovered="c"),
        metrics={"reference": 0.94, "degraded": 0.7, "recovered": 0.93},
        tolerance=0.03,
        held=Held(exit_code=4, after_reject=4, who=("m",), mentor="m", steps=0),
        seconds=60.0,
        report=report,
    )
    return replace(good, **different)


def test_a_story_that_came_out(tmp_path):
    """Nothing is missing, and the JSON says so."""
    good = outcome(tmp_path)
    assert list(good.missing()) == []
    told = good.as_json()
    assert told["missing"] == []
    assert [item["title"] for item in told["found"]] == ["a modified", "b modified"]
    assert len(good.summary()) == 5
    json.dumps(told)


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"metrics": {"reference": 0.94, "degraded": 0.93, "recovered": 0.93}}, "did not get worse"),
        ({"metrics": {"reference": 0.94, "degraded": 0.7, "recovered": 0.8}}, "not back"),
        ({"metrics": {"reference": 0.94, "degraded": 0.7, "recovered": None}}, "not back"),
        ({"suspects": ()}, "top suspects"),
        ({"held": Held(exit_code=0, after_reject=4, who=("m",), mentor="m", steps=0)}, "not held"),
        ({"held": Held(exit_code=4, after_reject=4, who=("z",), mentor="m", steps=0)}, "not held"),
        ({"held": Held(exit_code=4, after_reject=4, who=("m",), mentor="m", steps=7)}, "something ran"),
        ({"held": Held(exit_code=4, after_reject=0, who=("m",), mentor="m", steps=0)}, "something ran"),
        ({"report": Path("/nowhere/report.html")}, "no report"),
    ],
)
def test_a_story_that_did_not_come_out_is_not_told_as_if_it_had(tmp_path, different, words):
    """Each part that fails is named."""
    assert any(words in line for line in outcome(tmp_path, **different).missing())


@pytest.mark.parametrize(("planted", "legitimate", "words"), [(0.8, 0.01, "below 0.9"), (0.95, 0.2, "legitimate change")])
def test_probabilities_are_held_to_their_bounds(tmp_path, planted, legitimate, words):
    """0.9 to convict, 0.1 to acquit."""
    good = outcome(tmp_path)
    suspects = [replace(item, probability=p) for item, p in zip(good.suspects, (0.99, planted, legitimate), strict=True)]
    assert any(words in line for line in replace(good, suspects=tuple(suspects)).missing())


def test_the_same_change_in_another_entry_is_not_the_planted_one(tmp_path):
    """A change is known by its id and its entry."""
    good = outcome(tmp_path)
    suspects = (replace(good.suspects[0], lock_entry=99), *good.suspects[1:])
    assert any("top suspects" in line for line in replace(good, suspects=suspects).missing())


# Slow: real training


def _accuracy(project, tmp_path):
    done = subprocess.run(
        [sys.executable, "train.py", "--out", str(tmp_path / "out")],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / "out" / "metrics.json").read_text())["val_accuracy"]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_slip_and_every_kind_of_lot_harms_on_its_own(optimizer, project, tmp_path):
    """Beyond tolerance, each alone, on the project as it begins; and the project as it begins repeats itself bit for bit."""
    import numpy as np

    plan = next(plan for plan in map(make_plan, range(20)) if plan.optimizer == optimizer)
    for edit in plan.first_files:
        edit.apply(project)
    before = _accuracy(project, tmp_path)
    assert _accuracy(project, tmp_path) == before
    config, table = (project / "config.yaml").read_bytes(), (project / "data" / "train.parquet").read_bytes()
    for slip in SLIPS[optimizer]:
        SetValue(key=slip.key, value=slip.value).apply(project)
        assert _accuracy(project, tmp_path) < before - TOLERANCE, slip
        (project / "config.yaml").write_bytes(config)
    random = np.random.default_rng(7)
    scanner = Scanner(random)
    for kind in LOT_KINDS:
        AddRows(table="train", contributor="x", lot=choose_lot(scanner, random, kind).lot).apply(project)
        assert _accuracy(project, tmp_path) < before - TOLERANCE, kind
        (project / "data" / "train.parquet").write_bytes(table)


@pytest.mark.slow
@pytest.mark.torch
def test_the_whole_story_comes_out(tmp_path):
    """From the first lock to the held run, through the real commands."""
    output = tmp_path / "demo.json"
    done = CliRunner().invoke(command, ["--seed", "3", "--dir", str(tmp_path / "demo"), "--output", str(output), "-q"])
    assert done.exit_code == 0, done.output
    told = json.loads(output.read_text())
    assert told["missing"] == []
    assert {item["change"] for item in told["planted"]} == {item["change"] for item in told["found"]}
    assert Path(told["report"]).read_text().startswith("<!doctype html>")
