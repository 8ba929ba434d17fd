"""Runs the program many times in forks of one process that has torch and the tool in memory: importing them takes longer than a run.

Reads a list of environments (JSON) from standard input; runs one after another; standard output and error go to `forks.log`.
"""

import importlib
import json
import os
import runpy
import sys

MODULES = {"torch-audit": "torch_audit", "guardtower": "guardtower", "torchmortem": "torchmortem"}

importlib.import_module("torch")
importlib.import_module("torch.optim.adamw")
log = os.open("forks.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for plan in json.load(sys.stdin):
    if plan["BENCH_TOOL"] in MODULES:
        importlib.import_module(MODULES[plan["BENCH_TOOL"]])
    pid = os.fork()
    if pid == 0:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(plan)
        try:
            runpy.run_path(os.path.join(plan["BENCH_FOLDER"], "program.py"), run_name="__main__")
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    os.waitpid(pid, 0)
