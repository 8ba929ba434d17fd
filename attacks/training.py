"""R1, R2, R3, R5: the update is not the declared one. Planted in code that was locked and approved, so that only watching tells.

Where it is planted (project code or an installed library), when it begins, how large it is and which optimizer it meets
are drawn per seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from attacks.package import DIGITKIT, install
from attacks.project import ENGINEER, Project
from attacks.story import Place, Planted, Story, Twin, Variant, observe_and_see, run_and_see

UPDATE = frozenset({"update-mismatch"})
HYPER = frozenset({"update-mismatch", "hyperparameter-drift"})
STEPS = frozenset({"update-mismatch", "step-skipped"})
BETWEEN = frozenset({"changed-between-steps"})
LAST_ONSET = 100

INSIDE = """

import torch.optim.adam as adam_module
import torch.optim.sgd as sgd_module

calls = 0


def _wrapped(original):
    def update(params, grads, *args, **kw):
        global calls
        calls += 1
        if calls >= {onset}:
            {before}
        result = original(params, grads, *args, **kw)
        if calls >= {onset}:
            {after}
        return result

    return update


adam_module.adam = _wrapped(adam_module.adam)
sgd_module.sgd = _wrapped(sgd_module.sgd)
"""
AFTER_STEP = """

def after_step(model, optimizer, step):
    if step >= {onset}:
        with torch.no_grad():
            {action}
"""


def choose_optimizer(project: Project, draw: random.Random, kinds: tuple[str, ...] = ("AdamW", "Adam", "SGD")) -> str:
    """Let the project use another optimizer, declared in its configuration."""
    kind = draw.choice(kinds)
    project.replace("config.yaml", "name: AdamW", f"name: {kind}")
    if kind == "SGD":
        project.replace("config.yaml", "lr: 0.003", "lr: 0.05")
    return kind


def _inside(before: str = "pass", after: str = "pass") -> Callable[[Project, random.Random, int], str]:
    """Code around torch's functional update, in the project or in the library that it imports."""

    def write(project: Project, draw: random.Random, onset: int) -> str:
        code = INSIDE.format(onset=onset, before=before, after=after)
        if draw.random() < 0.5:
            project.write("updates.py", project.read("updates.py") + code)
            return "updates.py"
        files = {**DIGITKIT, "digitkit/batches.py": DIGITKIT["digitkit/batches.py"] + code}
        install(project.site, "digitkit", "1.0.1", files)
        return "digitkit 1.0.1"

    return write


def _after(action: str) -> Callable[[Project, random.Random, int], str]:
    """Code after a step; it begins to matter at the next one, so *onset* is one more than the step that runs it first."""

    def write(project: Project, draw: random.Random, onset: int) -> str:
        project.write("updates.py", project.read("updates.py") + AFTER_STEP.format(onset=onset - 1, action=action))
        return "updates.py"

    return write


def _variant(
    name: str,
    rules: frozenset[str],
    write: Callable[[Project, random.Random, int], str],
    *,
    words: tuple[str, ...] = (),
    key: str | None = None,
    within: int = 0,
    early: int = 0,
    kinds: tuple[str, ...] = ("AdamW", "Adam", "SGD"),
) -> Variant:
    def plant(project: Project, draw: random.Random) -> Planted:
        kind, onset = choose_optimizer(project, draw, kinds), draw.randrange(2, LAST_ONSET)
        where = write(project, draw, onset)
        project.agree(ENGINEER, "tidy the update")
        place = Place(step=onset - early, within=within + early, words=words, key=key)
        return Planted(what=f"{name} from step {onset}, {kind}, in {where}", rules=rules, place=place)

    return Variant(name=name, plant=plant, look=observe_and_see)


def _skip(project: Project, draw: random.Random) -> Planted:
    """Every k-th call of step() returns without doing anything."""
    kind, every, onset = choose_optimizer(project, draw), draw.randrange(3, 11), draw.randrange(2, LAST_ONSET)
    code = INSIDE.format(onset=onset, before=f"if calls % {every} == 0: return None", after="pass")
    project.write("updates.py", project.read("updates.py") + code)
    project.agree(ENGINEER, "tidy the update")
    first = (onset + every - 1) // every * every
    return Planted(what=f"every {every}th step skipped from step {onset}, {kind}", rules=STEPS, place=Place(step=first))


def _never(project: Project, draw: random.Random) -> Planted:
    """The loop goes on without step(): losses are still computed and reported."""
    onset = draw.randrange(20, LAST_ONSET)
    project.replace("train.py", "        optimizer.step()\n", f"        if step < {onset}:\n            optimizer.step()\n")
    project.agree(ENGINEER, "tidy the loop")
    place = Place(step=onset - 1, within=11)
    return Planted(what=f"step() is not called any more from step {onset}", rules=STEPS, place=place)


def _wrong_parameters(project: Project, draw: random.Random) -> Planted:
    """The optimizer holds the parameters of a copy, so that the model that is used never learns."""
    kind = choose_optimizer(project, draw)
    project.replace("updates.py", "kinds[name](model.parameters()", "kinds[name](copy.deepcopy(model).parameters()")
    project.replace("updates.py", "import torch\n", "import copy\n\nimport torch\n")
    project.agree(ENGINEER, "tidy the update")
    return Planted(what=f"the optimizer holds a copy's parameters, {kind}", rules=STEPS, place=Place(step=1, within=10))


def _all(expression: str) -> str:
    return f"[p.add_({expression}) for p in model.parameters()]"


def _clip(project: Project, draw: random.Random) -> None:
    """Gradients clipped between backward and step, another optimizer, evaluation more often: all approved."""
    choose_optimizer(project, draw)
    norm = draw.choice((0.5, 1.0, 5.0))
    old = "        loss.backward()\n"
    project.replace("train.py", old, f"{old}        nn.utils.clip_grad_norm_(model.parameters(), {norm})\n")
    project.agree(ENGINEER, "clip")


def _declare(project: Project, draw: random.Random) -> None:
    """Another learning rate and weight decay, in the file, approved."""
    project.replace("config.yaml", "lr: 0.003", f"lr: {draw.choice((0.006, 0.0015, 0.00303))}")
    project.replace("config.yaml", "weight_decay: 0.01", f"weight_decay: {draw.choice((0.0, 0.1))}")
    project.agree(ENGINEER, "tune")


def _accumulate(project: Project, draw: random.Random) -> None:
    """Gradients accumulated over several batches: step() only every k-th time."""
    choose_optimizer(project, draw)
    every = draw.randrange(2, 5)
    project.replace("train.py", "        optimizer.zero_grad()\n", "")
    project.replace(
        "train.py",
        "        optimizer.step()\n",
        f"        if step % {every} == 0:\n            optimizer.step()\n            optimizer.zero_grad()\n",
    )
    project.agree(ENGINEER, "accumulate")


def _average(project: Project, draw: random.Random) -> None:
    """An average of the weights is kept beside them and checkpoints are written between steps; the weights stay as they are."""
    choose_optimizer(project, draw)
    action = "after_step.mean = [p.detach().clone() for p in model.parameters()]\n            model.state_dict()"
    project.write("updates.py", project.read("updates.py") + AFTER_STEP.format(onset=1, action=action))
    project.agree(ENGINEER, "keep an average")


NOISE = "[p.add_(torch.randn_like(p) * p.abs().mean() * 0.01) for p in {what}]"
STORIES = (
    Story(
        id="R1",
        title="gradient altered inside step()",
        expected="first tampered step",
        variants=(
            _variant("sign flipped", UPDATE, _inside("grads = [-g for g in grads]")),
            _variant("scaled by 1.1", UPDATE, _inside("grads = [g * 1.1 for g in grads]")),
            _variant(
                "one percent noise", UPDATE, _inside("grads = [g + 0.01 * g.abs().mean() * torch.randn_like(g) for g in grads]")
            ),
            _variant("one tensor flipped", UPDATE, _inside("grads = [-g if i == 2 else g for i, g in enumerate(grads)]")),
        ),
        twins=(Twin(what="gradients clipped before step(), approved", act=_clip, look=run_and_see),),
    ),
    Story(
        id="R2",
        title="hyperparameters changed in the live optimizer",
        expected="first tampered step, hyperparameter",
        variants=(
            _variant("lr x0.5, deep", HYPER, _inside("kw['lr'] = kw['lr'] * 0.5")),
            _variant("lr x1.001, deep", HYPER, _inside("kw['lr'] = kw['lr'] * 1.001")),
            _variant("lr x2", HYPER, _after("[g.update(lr=g['lr'] * 2) for g in optimizer.param_groups]"), words=("lr",)),
            _variant(
                "weight decay dropped",
                HYPER,
                _after("[g.update(weight_decay=0.0) for g in optimizer.param_groups]"),
                words=("weight_decay",),
            ),
            _variant("weight decay dropped, deep", HYPER, _inside("kw['weight_decay'] = 0.0")),
            _variant(
                "betas changed",
                HYPER,
                _after("[g.update(betas=(0.9, 0.99)) for g in optimizer.param_groups]"),
                words=("beta",),
                kinds=("AdamW", "Adam"),
            ),
            _variant("eps changed", HYPER, _inside("kw['eps'] = 1e-5"), kinds=("AdamW", "Adam")),
        ),
        twins=(Twin(what="changed in the configuration and approved", act=_declare, look=run_and_see),),
    ),
    Story(
        id="R3",
        title="steps skipped, never called, or on the wrong parameters",
        expected="that step",
        variants=(
            Variant(name="every k-th skipped", plant=_skip, look=observe_and_see),
            Variant(name="step() no longer called", plant=_never, look=observe_and_see),
            Variant(name="wrong parameters", plant=_wrong_parameters, look=observe_and_see),
        ),
        twins=(Twin(what="gradient accumulation, approved", act=_accumulate, look=run_and_see),),
    ),
    Story(
        id="R5",
        title="weights edited between steps",
        expected="next step",
        variants=(
            _variant("noise on all", BETWEEN, _after(NOISE.format(what="model.parameters()")), early=1),
            _variant("noise on one tensor", BETWEEN, _after(NOISE.format(what="[model.second.weight]")), early=1),
            _variant(
                "one layer frozen",
                BETWEEN,
                _after("model.last.weight.copy_(after_step.__dict__.setdefault('w', model.last.weight.clone()))"),
                early=1,
                within=1,
            ),
            _variant("a few weights set", BETWEEN, _after("model.first.weight.view(-1)[:: 97] = 0.5"), early=1, within=10),
        ),
        twins=(Twin(what="an average kept and checkpoints written, approved", act=_average, look=run_and_see),),
    ),
)
