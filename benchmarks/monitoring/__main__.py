"""
Truerun and its peers side by side, on the same stories and their honest twins: `python benchmarks/monitoring`.

Each story breaks a small training at a known step; its twin does something honest that looks like it. **Caught**: the tool
says something, at its warning level or above, that it does not say of the twin, and says it from the step of the change on.
**Delay**: steps from the first broken one to that report; "end" where a tool speaks only after training. **Warnings**:
honest runs, twins and the clean one, of which it says anything at warning level or above. **Cost**: processor time that the training process
spends more than without the tool, in pairs that alternate. Truerun and TrainCheck learn from one clean run first; trainproof
compares with its log.

--peers FOLDER makes a virtual environment there and installs the peers, each by itself; what does not install is said.
--tools 'a;b' limits what is run; results of the others are kept from --results. --write puts the table into the docs.
"""

import argparse
import datetime as dt
import importlib.metadata
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import stories  # noqa: E402

PEERS = {
    "traincheck": "traincheck",
    "torch-audit": "torch-audit",
    "torchmortem": "torchmortem",
    "guardtower": "guardtower",
    "trainproof": "trainproof",
}
EVERY = "truerun, every step"
OURS = ("truerun", EVERY)
STEPS, AT, PAIR_STEPS = 40, 21, 100
PAGE = ROOT / "docs" / "reference" / "peers.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def plans(wanted=""):
    """(key, story, twin) of every run; of the stories whose names hold one of the words in *wanted* (comma between)."""
    yield "clean", "", False
    for name in stories.STORIES:
        if not any(word in name for word in wanted.split(",")):
            continue
        yield f"{name} / story", name, False
        yield f"{name} / twin", name, True


def environment(folder, tool, story, *, twin, out, steps=STEPS, **more):
    return {
        "BENCH_FOLDER": str(folder),
        "BENCH_TOOL": tool,
        "BENCH_STORY": story,
        "BENCH_TWIN": str(int(twin)),
        "BENCH_STEPS": str(steps),
        "BENCH_AT": str(AT),
        "BENCH_OUT": str(out),
        "OMP_NUM_THREADS": "1",
        **more,
    }


def run_quietly(command, *, env, cwd, limit=1800):
    return subprocess.run(
        ["nice", "-n", "10", *command],
        env={**os.environ, **env},
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=limit,
    )


# Tools that live in the program.


def inside(tool, python, folder, wanted, pairs):
    """Reports of every run, and what the tool costs."""
    outs = {key: folder / f"{tool}-{number}.json" for number, (key, _, _) in enumerate(plans(wanted))}
    listed = [environment(folder, tool, story, twin=twin, out=outs[key]) for key, story, twin in plans(wanted)]
    listed_pairs = []
    for number in range(pairs):
        for name in ("", tool) if number % 2 else (tool, ""):
            out = folder / f"pair-{tool}-{number}-{bool(name)}.json"
            listed_pairs.append(environment(folder, name, "", twin=False, out=out, steps=PAIR_STEPS, BENCH_WIDTH="1024"))
    subprocess.run(
        ["nice", "-n", "10", python, str(HERE / "forks.py")],
        input=json.dumps(listed + listed_pairs),
        text=True,
        cwd=folder,
        check=True,
    )
    found = {key: read(out)["reports"] for key, out in outs.items()}
    if tool == "trainproof":
        base = f"{outs['clean']}.log.jsonl"
        found = {key: trainproof(python, f"{out}.log.jsonl", base) for key, out in outs.items()}
    costs = [
        cpu(read(folder / f"pair-{tool}-{number}-True.json")) / cpu(read(folder / f"pair-{tool}-{number}-False.json")) - 1
        for number in range(pairs)
    ]
    return found, costs


def read(path):
    """What a run left; a run that ended with an error left nothing, which is no report."""
    return json.loads(path.read_text()) if path.exists() else {"reports": [["the run ended with an error", 1, None]], "cpu": None}


def cpu(result):
    return result["cpu"] or float("nan")


def trainproof(python, log, base):
    """Its verdict on the log alone, and beside the log of the clean run."""
    found = []
    command = str(Path(python).parent / "trainproof")
    for words in (["epoch", log, "--json"], ["compare", base, log, "--json"]):
        done = subprocess.run([command, *words], capture_output=True, text=True, check=False)
        for report in json.loads(done.stdout)["reports"]:
            found += [[one["id"], int(one["level"] in ("WARN", "FAIL")), None] for one in report["findings"]]
    return found


# TrainCheck: reference trace, invariants, selective trace, offline check.


def traincheck(python, folder, wanted):
    tools = Path(python).parent
    env = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    where = folder / "traincheck"
    where.mkdir()
    clean = environment(folder, "", "", twin=False, out=where / "clean.json", steps=20)
    program, invariants = str(folder / "program.py"), str(where / "invariants.json")
    collect = ["traincheck-collect", "--pyscript", program, "--models-to-track", "model"]
    run_quietly([*collect, "--output-dir", str(where / "reference")], env={**env, **clean}, cwd=where)
    run_quietly(["traincheck-infer", "-f", str(where / "reference"), "-o", invariants], env=env, cwd=where)
    found, costs = {}, []
    for number, (key, story, twin) in enumerate(plans(wanted)):
        target, out = where / f"target-{number}", where / f"{number}.json"
        # Another seed than the reference's, as the next run of a project has.
        settings = environment(folder, "", story, twin=twin, out=out, BENCH_SEED="1")
        run_quietly([*collect, "--invariants", invariants, "--output-dir", str(target)], env={**env, **settings}, cwd=where)
        check = [
            "traincheck-check",
            "-f",
            str(target),
            "-i",
            invariants,
            "--no-html-report",
            "-o",
            str(where / f"check-{number}"),
        ]
        run_quietly(check, env=env, cwd=where)
        found[key] = violated(where / f"check-{number}")
        print(f"  traincheck {key}: {len(found[key])} violated", flush=True)
        if number == 0:
            bare = where / "bare.json"
            run_quietly([python, program], env=environment(folder, "", "", twin=False, out=bare), cwd=where)
            costs = [cpu(read(out)) / cpu(read(bare)) - 1]
    return found, costs


def violated(folder):
    """One report for each invariant that failed; the offline checker names no optimizer step."""
    found = []
    for path in sorted(folder.rglob("failed*.log")) + sorted(folder.rglob("failed*.json")):
        text, at = path.read_text(), 0
        decoder = json.JSONDecoder()
        while (at := text.find("{", at)) >= 0:
            value, at = decoder.raw_decode(text, at)
            found.append([json.dumps(value.get("invariant", value), sort_keys=True), 1, None])
    return found


# Truerun.


def truerun(folder, wanted, pairs, every):
    """A clean run first, from which the others learn; then every run, under the agent, with default settings."""
    from truerun.apps.agent import WatchRequest, watch
    from truerun.core.declaration import MonitoringSection
    from truerun.core.finding import Severity
    from truerun.monitoring.reference import Reference

    def make(number, story, *, twin, reference=None, **more):
        env = environment(folder, "", story, twin=twin, out=folder / f"truerun-{number}.json", **more)
        return watch(
            WatchRequest(
                command=(sys.executable, str(folder / "program.py")),
                cwd=folder,
                folder=folder / f"run-{number}",
                env=env,
                output=folder / "truerun.log",
                reference=reference or Reference(),
                monitoring=MonitoringSection(every=every),
            )
        )

    effective = make("reference", "", twin=False).effective
    learned = effective.get("learned", {})
    reference = Reference(learned=learned, learned_from="the clean run", same_program=True) if learned else Reference()
    found = {}
    for number, (key, story, twin) in enumerate(plans(wanted)):
        outcome = make(number, story, twin=twin, reference=reference, BENCH_SEED="1")
        found[key] = [
            [f"{one.rule} {one.subject.name}", int(one.severity.rank >= Severity.WARNING.rank), one.location.step]
            for one in outcome.findings
        ]
    costs = []
    for number in range(pairs):
        pair = {"steps": PAIR_STEPS, "BENCH_WIDTH": "1024"}
        bare = environment(folder, "", "", twin=False, out=folder / f"bare-{number}.json", **pair)
        run_quietly([sys.executable, str(folder / "program.py")], env=bare, cwd=folder)
        make(f"pair-{number}", "", twin=False, **pair)
        costs.append(cpu(read(folder / f"truerun-pair-{number}.json")) / cpu(read(folder / f"bare-{number}.json")) - 1)
    return found, costs


# What it comes to.


def judge(found, story):
    """(caught, delay) of one story; delay None where the tool gives no step; caught None where the tool was not run on it."""
    if not {f"{story} / story", f"{story} / twin"} <= found.keys():
        return None, None
    of_twin = {what for what, level, _ in found[f"{story} / twin"] if level}
    new = [(what, step) for what, level, step in found[f"{story} / story"] if level and what not in of_twin]
    late = [step for _, step in new if step is None or step >= AT]
    if not late:
        return False, None
    steps = [step for step in late if step is not None]
    return True, min(steps) - AT if steps else None


def false_alarms(found):
    quiet = [key for key in ("clean", *(f"{story} / twin" for story in stories.STORIES)) if key in found]
    return sum(any(level for _, level, _ in found[key]) for key in quiet), len(quiet)


def cost(costs):
    costs = [one for one in costs if math.isfinite(one)]
    if not costs:
        return "not measured"
    middle = statistics.median(costs)
    return f"x {1 + middle:.1f}" if middle > 1 else f"{middle:+.1%}"


def cell(caught, delay):
    if caught is None:
        return "not run"
    return "–" if not caught else "caught, end" if delay is None else f"**caught, +{delay}**"


def table(results):
    tools = list(results)
    lines = [
        "| story (from step 21 of 40) | " + " | ".join(f"{tool} {results[tool]['version']}" for tool in tools) + " |",
        "|---|" + "---|" * len(tools),
    ]
    for story in stories.STORIES:
        cells = []
        for tool in tools:
            caught, delay = judge(results[tool]["found"], story)
            cells.append(cell(caught, delay))
        lines.append(f"| {story} | " + " | ".join(cells) + " |")
    answers = [[judge(results[tool]["found"], story)[0] for story in stories.STORIES] for tool in tools]
    counts = [f"{sum(map(bool, each))} of {sum(one is not None for one in each)}" for each in answers]
    lines.append("| **caught** | " + " | ".join(counts) + " |")
    alarms = ["{} of {}".format(*false_alarms(results[tool]["found"])) for tool in tools]
    lines.append("| **honest runs with a warning** | " + " | ".join(alarms) + " |")
    lines.append("| **cost in the training process** | " + " | ".join(cost(results[tool]["costs"]) for tool in tools) + " |")
    lines.append("| measured on | " + " | ".join(results[tool]["date"] for tool in tools) + " |")
    return "\n".join(lines)


def install(folder, wanted):
    """A virtual environment with the peers; returns its Python and what did not install, with the last line of why."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", f"torch=={importlib.metadata.version('torch').split('+')[0]}"], check=True
        )
    missing = {}
    for tool in wanted:
        if tool not in PEERS or version(tool, str(python)):
            continue
        package = PEERS[tool]
        done = subprocess.run([str(python), "-m", "pip", "install", "-q", package], capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            missing[tool] = errors[-1] if errors else "pip failed"
    return str(python), missing


def version(tool, python):
    """Its version, empty where it is not installed."""
    if tool in OURS:
        return importlib.metadata.version("truerun")
    code = f"import importlib.metadata as m; print(m.version({PEERS[tool]!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="the virtual environment of the peers; made where it is not there")
    parser.add_argument("--tools", default=";".join((*OURS, *PEERS)), help="which, semicolon between")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs for the cost")
    parser.add_argument("--stories", default="", help="words of the stories' names, comma between; default: all")
    parser.add_argument("--results", type=Path, default=HERE / "results.json", help="kept and read from here")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(ROOT)}")
    chosen = parser.parse_args()
    wanted = [tool for tool in chosen.tools.split(";") if tool]
    results = json.loads(chosen.results.read_text()) if chosen.results.exists() else {}
    python, missing = install(chosen.peers.absolute(), wanted) if chosen.peers else (None, {})
    for tool in wanted:
        if tool in missing or (tool not in OURS and python is None):
            print(f"{tool}: left out: {missing.get(tool, 'no --peers')}")
            continue
        with tempfile.TemporaryDirectory(prefix="truerun-bench-") as name:
            folder = Path(name)
            for part in ("program.py", "stories.py", "tools.py"):
                shutil.copy(HERE / part, folder / part)
            print(f"{tool} …", flush=True)
            if tool in OURS:
                every = 1 if tool == EVERY else None
                found, costs = truerun(folder, chosen.stories, chosen.pairs, every)
            elif tool == "traincheck":
                found, costs = traincheck(python, folder, chosen.stories)
            else:
                found, costs = inside(tool, python, folder, chosen.stories, chosen.pairs)
        today = dt.datetime.now(dt.UTC).date().isoformat()
        results[tool] = {"version": version(tool, python), "date": today, "found": found, "costs": costs}
        order = [name for name in (*OURS, *PEERS) if name in results]
        results = {name: results[name] for name in order}
        chosen.results.write_text(json.dumps(results, indent=1) + "\n")
    shown = table(results)
    print(shown)
    if chosen.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{shown}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
