"""E1, E3: an installed library edited, and code that starts before the script does."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import yaml

from attacks.package import DIGITKIT, copy_distribution, install, write_record
from attacks.project import ENGINEER, MAINTAINER, Project
from attacks.story import Place, Planted, Seen, Story, Twin, Variant, run_and_see, seen

EDITED = frozenset({"package-modified"})
REBUILT = frozenset({"package-drift"})
STARTUP = frozenset({"startup-injection"})
HOOK = "import builtins\nbuiltins.print = print  # a hook would go here\n"


def look(project: Project, planted: Planted) -> Seen:
    """Inspect the environment, then try to run."""
    checked = project.truerun("check", "environment", "--format", "json", env=planted.env)
    return seen(checked, project.run(env=planted.env))


def _edit(project: Project, draw: random.Random) -> Planted:
    """A line of the library now drops some rows of every batch; its modification time is put back."""
    file = project.site / "digitkit" / "batches.py"
    before, text = file.stat(), file.read_text()
    drop = draw.randrange(2, 9)
    old = "yield order[at : at + size]"
    file.write_text(text.replace(old, f"yield order[at : at + size - {drop}]"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    place = Place(path="digitkit/batches.py", words=("digitkit", "1.0.0"))
    return Planted(what=f"digitkit drops {drop} rows of each batch; mtime restored", rules=EDITED, place=place, started=False)


def _edit_same_size(project: Project, draw: random.Random) -> Planted:
    """Same number of bytes, same modification time."""
    file = project.site / "digitkit" / "batches.py"
    before, text = file.stat(), file.read_text()
    file.write_text(text.replace("at += size\n", "at += rows\n"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    place = Place(path="digitkit/batches.py", words=("digitkit", "1.0.0"))
    return Planted(
        what="digitkit reshuffles for every batch; same size, mtime restored", rules=EDITED, place=place, started=False
    )


def _edit_with_record(project: Project, draw: random.Random) -> Planted:
    """The edit is entered in RECORD too, so that the package agrees with itself; only the lock remembers."""
    file = project.site / "digitkit" / "batches.py"
    size = draw.randrange(2, 9)
    file.write_text(file.read_text().replace("torch.randperm(rows)\n    at", f"torch.arange(rows) // {size} * {size}\n    at"))
    info = "digitkit-1.0.0.dist-info"
    write_record(project.site, info, [*DIGITKIT, *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "INSTALLER"))])
    place = Place(words=("digitkit", "1.0.0"))
    return Planted(
        what=f"digitkit repeats rows; RECORD rewritten to match (size {size})", rules=REBUILT, place=place, started=False
    )


def _edit_known_library(project: Project, draw: random.Random) -> Planted:
    """A library that everybody knows, in this environment's own copy: numbers of yaml files come out scaled."""
    version = copy_distribution(project.site, "PyYAML")
    project.agree(ENGINEER, "yaml in our own environment")
    file = project.site / "yaml" / "constructor.py"
    factor = draw.choice((0.5, 1.01, 10))
    text = file.read_text()
    file.write_text(text.replace("return sign*float(value)", f"return sign*float(value)*{factor}"))
    line = text[: text.index("return sign*float(value)")].count("\n") + 1
    place = Place(path="yaml/constructor.py", words=("PyYAML".lower(), version))
    return Planted(what=f"yaml/constructor.py:{line} scales numbers by {factor}", rules=EDITED, place=place, started=False)


def _upgrade(project: Project, draw: random.Random) -> None:
    """A new version, installed properly, locked and approved."""
    files = {**DIGITKIT, "digitkit/batches.py": DIGITKIT["digitkit/batches.py"].replace("Which rows", "The rows that")}
    install(project.site, "digitkit", f"1.{draw.randrange(1, 9)}.0", files)
    project.agree(ENGINEER, "newer digitkit")


def _startup(name: str, words: tuple[str, ...] = ()) -> Variant:
    def plant(project: Project, draw: random.Random) -> Planted:
        file = project.site / name.format(number=draw.randrange(100))
        file.write_text(HOOK if file.suffix == ".py" else "import builtins; builtins.print = builtins.print\n")
        place = Place(path=file.name, words=words)
        return Planted(what=f"{file.name} in site-packages", rules=STARTUP, place=place, started=False)

    return Variant(name=name.format(number="N"), plant=plant, look=look)


def _shadow(project: Project, draw: random.Random) -> Planted:
    """A copy of a library that the project uses, with one line changed, stands before the installed one."""
    package, folder = draw.choice(("yaml", "digitkit")), _folder(project)
    source = Path(yaml.__file__).parent if package == "yaml" else project.site / package
    shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    file, old, new = {
        "yaml": ("constructor.py", "return sign*float(value)", "return sign*float(value)*10"),
        "digitkit": ("batches.py", "at += size\n", "at += rows\n"),
    }[package]
    edited = folder / package / file
    edited.write_text(edited.read_text().replace(old, new))
    place = Place(path=package, words=("PYTHONPATH",))
    what = f"PYTHONPATH has another {package}"
    return Planted(what=what, rules=STARTUP, place=place, started=False, env={"PYTHONPATH": str(folder)})


def _pythonpath_sitecustomize(project: Project, draw: random.Random) -> Planted:
    folder = _folder(project)
    (folder / "sitecustomize.py").write_text(HOOK)
    place = Place(path="sitecustomize.py")
    return Planted(
        what="PYTHONPATH has a sitecustomize.py", rules=STARTUP, place=place, started=False, env={"PYTHONPATH": str(folder)}
    )


def _pythonstartup(project: Project, draw: random.Random) -> Planted:
    file = _folder(project) / "startup.py"
    file.write_text(HOOK)
    place = Place(words=("PYTHONSTARTUP",))
    return Planted(what="PYTHONSTARTUP is set", rules=STARTUP, place=place, least="warning", env={"PYTHONSTARTUP": str(file)})


def _folder(project: Project) -> Path:
    folder = project.home / "own"
    folder.mkdir()
    return folder


def _plain_path(project: Project, draw: random.Random) -> Planted:
    """A `.pth` that only names a folder, and a PYTHONPATH without modules of anybody else's name, both approved."""
    folder = _folder(project)
    (folder / "own_plots.py").write_text('"""Our own plots."""\n')
    (project.site / "ours.pth").write_text(f"{folder}\n")
    env = {"PYTHONPATH": str(folder)}
    project.must("lock", "--note", "our own folder", key=ENGINEER, env=env)
    project.commit(ENGINEER, "our own folder")
    project.approve(MAINTAINER)
    return Planted(what="path-only .pth and PYTHONPATH", env=env)


STORIES = (
    Story(
        id="E1",
        title="an installed library edited",
        expected="file, package and version",
        variants=(
            Variant(name="mtime restored", plant=_edit, look=look),
            Variant(name="same size", plant=_edit_same_size, look=look),
            Variant(name="RECORD rewritten", plant=_edit_with_record, look=look),
            Variant(name="PyYAML", plant=_edit_known_library, look=look),
        ),
        twins=(Twin(what="a newer version installed and approved", act=_upgrade, look=run_and_see),),
    ),
    Story(
        id="E3",
        title="code that starts before the script",
        expected="file or variable",
        variants=(
            _startup("sitecustomize.py"),
            _startup("usercustomize.py"),
            _startup("speedups{number}.pth", ("import",)),
            Variant(name="PYTHONPATH shadowing", plant=_shadow, look=look),
            Variant(name="PYTHONPATH sitecustomize", plant=_pythonpath_sitecustomize, look=look),
            Variant(name="PYTHONSTARTUP", plant=_pythonstartup, look=look),
        ),
        twins=(Twin(what="path-only .pth and PYTHONPATH, approved", act=_plain_path, look=look),),
    ),
)
