"""
The tools that live inside the program, each used as its own documentation says, looking at every step.

A report is [what, level, step]: `what` tells kinds of reports apart, `level` is 1 from "warning" on and 0 below, `step` is the
optimizer step from 1 where it was made, None where the tool gives none. What a tool says goes to BENCH_OUT as JSON.
"""

import json
import os
import time


class Tool:
    """Nobody: the bare program. Also what runs inside it when a tool works from outside."""

    def __init__(self, model, optimizer, criterion, rows):
        self.reports = []

    def step(self, step, loss, fetched):
        pass

    def finish(self):
        pass

    def end(self, times, used):
        self.finish()
        with open(os.environ["BENCH_OUT"], "w") as file:
            json.dump({"reports": self.reports, "times": times, "cpu": used}, file)


class TorchAudit(Tool):
    """`autopatch` with every check at every step."""

    def __init__(self, model, optimizer, criterion, rows):
        from torch_audit import autopatch

        super().__init__(model, optimizer, criterion, rows)
        self.now, self.seen = 0, set()
        self.auditor = autopatch(
            model, optimizer=optimizer, every_n_steps=1, reporters=[], fail_level="FATAL", run_static=True, run_init=True
        )

    def finish(self):
        for one in self.auditor.finish(report=False).findings:
            level = 0 if one.severity.value == "INFO" else 1
            # Its steps count from 0, and static checks have none.
            self.reports.append([f"{one.rule_id} {one.module_path or ''}", level, None if one.step is None else one.step + 1])


class Guardtower(Tool):
    """The audit of the first batch before training, then the monitor for what is not finite."""

    def __init__(self, model, optimizer, criterion, rows):
        import copy
        import warnings

        import guardtower

        super().__init__(model, optimizer, criterion, rows)
        warnings.simplefilter("ignore")
        x, y = (tensor[:64] for tensor in rows.tensors)
        kept = copy.deepcopy(model.state_dict())
        report = guardtower.audit(model, lambda: criterion(model(x), y), optimizer=optimizer, inputs=x)
        model.load_state_dict(kept)
        optimizer.zero_grad()
        for one in report.findings:
            self.reports.append(
                [f"{one.check} {getattr(one, 'catalog_id', '')}", int(one in [*report.errors, *report.warnings]), 1]
            )
        self.monitor = guardtower.monitor(model, on_nonfinite="warn")
        self.monitor.__enter__()
        self.known = 0

    def step(self, step, loss, fetched):
        for module in self.monitor.hits[self.known :]:
            self.reports.append([f"not finite {module}", 1, step])
        self.known = len(self.monitor.hits)

    def finish(self):
        self.monitor.__exit__()


class Torchmortem(Tool):
    """Autopsy with its default sampling; it speaks when training is over, of ranges of steps."""

    def __init__(self, model, optimizer, criterion, rows):
        from torchmortem import Autopsy

        super().__init__(model, optimizer, criterion, rows)
        self.autopsy = Autopsy(model, optimizer=optimizer)
        self.autopsy.__enter__()

    def step(self, step, loss, fetched):
        self.autopsy.step(loss=loss.item())

    def finish(self):
        self.autopsy.__exit__(None, None, None)
        report = self.autopsy.get_report()
        for one in report.findings if report is not None else []:
            self.reports.append([f"{one.detector}: {one.title}", int(one.severity.value >= 1), None])


class TrainproofLog(Tool):
    """The log that trainproof reads afterwards: loss, gradient norm, learning rate, times."""

    def __init__(self, model, optimizer, criterion, rows):
        super().__init__(model, optimizer, criterion, rows)
        self.model, self.optimizer, self.lines = model, optimizer, []
        self.last = time.perf_counter()

    def step(self, step, loss, fetched):
        norms = [tensor.grad.norm() for tensor in self.model.parameters() if tensor.grad is not None]
        norm = float(sum(float(one) ** 2 for one in norms) ** 0.5)
        now = time.perf_counter()
        self.lines.append(
            {
                "step": step,
                "loss": loss.item(),
                "grad_norm": norm,
                "lr": self.optimizer.param_groups[0]["lr"],
                "step_time": now - self.last,
                "loader_time": fetched,
            }
        )
        self.last = now

    def finish(self):
        with open(os.environ["BENCH_OUT"] + ".log.jsonl", "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in self.lines)


TOOLS = {"torch-audit": TorchAudit, "guardtower": Guardtower, "torchmortem": Torchmortem, "trainproof": TrainproofLog}


def make(name, *parts):
    """The tool called *name*; one that works from outside needs nothing in here."""
    return TOOLS.get(name, Tool)(*parts)
