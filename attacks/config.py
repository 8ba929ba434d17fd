"""C1, C2, C5: settings changed in the file, past the file, or not at all."""

from __future__ import annotations

import random

from attacks.project import COMMAND, ENGINEER, MAINTAINER, TRAINEE, Project
from attacks.story import Place, Planted, Story, Twin, Variant, observe_and_see, run_and_see

DRIFT = frozenset({"config-drift"})
ELSEWHERE = frozenset({"environment-variable", "command-drift", "hyperparameter-drift"})


def _change(draw: random.Random, project: Project, kind: str) -> tuple[str, str, str]:
    """The key, its line's text now and then, for one kind of change."""
    lines = {line.split(":")[0].strip(): line.strip() for line in project.read("config.yaml").splitlines()}
    new = {
        "lr": f"lr: {0.003 * draw.choice((10, 0.1, 1.5, 30)):.6g}",
        "weight_decay": "weight_decay: 0",
        "batch_size": f"batch_size: {draw.choice((8, 32, 65))}",
        "seed": f"seed: {draw.randrange(20_000, 30_000)}",
    }[kind]
    section = "optimizer" if kind in ("lr", "weight_decay") else "training"
    return f"{section}.{kind}", lines[kind], new


def _values(old: str, new: str) -> tuple[str, ...]:
    return tuple(text.split(": ")[1].removesuffix(".0") for text in (old, new))


def _edit(kind: str, *, locked: bool) -> Variant:
    def plant(project: Project, draw: random.Random) -> Planted:
        who = draw.choice((ENGINEER, TRAINEE))
        key, old, new = _change(draw, project, kind)
        line = project.replace("config.yaml", old, new)
        (project.lock if locked else project.commit)(who, "tune")
        place = Place(path="config.yaml", line=line, key=key, words=_values(old, new))
        how = "locked, not approved" if locked else "committed, not locked"
        return Planted(
            what=f"{who}: {old} becomes {new}, {how}",
            rules=DRIFT,
            place=place,
            actors=frozenset({who, f"{who}@example.org"}),
            started=False,
        )

    return Variant(name=f"{kind}, {'locked' if locked else 'committed'}", plant=plant, look=run_and_see)


def _approve_change(project: Project, draw: random.Random) -> None:
    who = draw.choice((ENGINEER, TRAINEE, MAINTAINER))
    for kind in ("lr", "batch_size"):
        _, old, new = _change(draw, project, kind)
        project.replace("config.yaml", old, new)
    project.agree(who, "tune")


def _rate(draw: random.Random) -> str:
    return f"{0.003 * draw.choice((10, 0.5, 1.01, 30)):.6g}"


def _by_variable(project: Project, draw: random.Random) -> Planted:
    value = _rate(draw)
    return Planted(
        what=f"DIGITS_LR={value} in the environment, file untouched",
        rules=ELSEWHERE,
        place=Place(words=("DIGITS_LR", value)),
        env={"DIGITS_LR": value},
    )


def _by_option(project: Project, draw: random.Random) -> Planted:
    value = _rate(draw)
    return Planted(
        what=f"--lr {value} on the command line, file untouched",
        rules=ELSEWHERE,
        place=Place(words=(value,)),
        command=(*COMMAND, "--lr", value),
    )


def _by_default(project: Project, draw: random.Random) -> Planted:
    """The script's own code overrides the file: approved code, so that only the effective value tells."""
    value = f"{0.003 * draw.choice((10, 0.5, 1.01)):.6g}"
    project.replace("train.py", 'os.environ.get("DIGITS_LR", chosen["lr"])', f'os.environ.get("DIGITS_LR", {value})')
    project.agree(ENGINEER, "simplify")
    place = Place(key="lr", step=1, words=(value,))
    return Planted(what=f"the code's default is {value}, the file's value is not read", rules=ELSEWHERE, place=place)


def _approve_variable(project: Project, draw: random.Random) -> Planted:
    """The variable is part of what was locked and approved; its value is the file's, so all three agree."""
    _, old, _ = _change(draw, project, "lr")
    env = {"DIGITS_LR": old.split(": ")[1]}
    project.must("lock", "--note", "as the cluster sets it", key=ENGINEER, env=env)
    project.commit(ENGINEER, "as the cluster sets it")
    project.approve(MAINTAINER)
    return Planted(what="the variable locked and approved", env=env)


def _reformat(project: Project, draw: random.Random) -> None:
    project.write("config.yaml", reformatted(project.read("config.yaml"), draw))
    project.commit(ENGINEER, "tidy")


def reformatted(text: str, draw: random.Random) -> str:
    """The same settings: sections in another order, other indentation and quoting, new comments."""
    sections: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            sections[-1].append(line.strip())
        else:
            sections.append([line])
    draw.shuffle(sections)
    lines = ["---", "# tidied"]
    for head, *keys in sections:
        draw.shuffle(keys)
        lines += ["", f"{head}  # {draw.choice(('as before', 'unchanged'))}"]
        lines += [
            "    " + key.replace("AdamW", '"AdamW"').replace("data/holdout.parquet", "'data/holdout.parquet'") for key in keys
        ]
    return "\n".join(lines) + "\n"


def _hidden(project: Project, draw: random.Random) -> Planted:
    key, old, new = _change(draw, project, draw.choice(("lr", "batch_size", "weight_decay")))
    project.write("config.yaml", reformatted(project.read("config.yaml"), draw))
    line = project.replace("config.yaml", old, new)
    project.commit(ENGINEER, "tidy")
    place = Place(path="config.yaml", line=line, key=key, words=_values(old, new))
    return Planted(
        what=f"{old} becomes {new} inside a reformat",
        rules=DRIFT,
        place=place,
        actors=frozenset({ENGINEER, f"{ENGINEER}@example.org"}),
        started=False,
    )


STORIES = (
    Story(
        id="C1",
        title="a key changed in the configuration file",
        expected="key, old and new value, line, actor",
        variants=(
            _edit("lr", locked=False),
            _edit("lr", locked=True),
            _edit("weight_decay", locked=False),
            _edit("batch_size", locked=True),
            _edit("seed", locked=False),
        ),
        twins=(Twin(what="keys changed and approved", act=_approve_change, look=run_and_see),),
    ),
    Story(
        id="C2",
        title="a setting changed past the file",
        expected="the effective value and where it comes from",
        variants=(
            Variant(name="environment variable", plant=_by_variable, look=observe_and_see),
            Variant(name="command-line override", plant=_by_option, look=observe_and_see),
            Variant(name="code default", plant=_by_default, look=observe_and_see),
        ),
        twins=(Twin(what="the variable locked and approved", act=_approve_variable, look=run_and_see),),
    ),
    Story(
        id="C5",
        title="a reformat, comment or reordering only",
        expected="nothing; a value hidden in a reformat is named",
        variants=(Variant(name="hidden in a reformat", plant=_hidden, look=run_and_see),),
        twins=(Twin(what="reformatted, not locked again", act=_reformat, look=run_and_see),),
    ),
)
