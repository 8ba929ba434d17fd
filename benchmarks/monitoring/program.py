"""The training that every tool watches: a small classifier, AdamW, a shuffled loader. Settings come from the environment."""

import os
import sys
import time

sys.path.insert(0, os.environ["BENCH_FOLDER"])

import tools
import torch
from torch import nn

import stories

torch.set_num_threads(1)
STEPS, AT = int(os.environ["BENCH_STEPS"]), int(os.environ["BENCH_AT"])
WIDTH, BATCH = int(os.environ.get("BENCH_WIDTH", "256")), int(os.environ.get("BENCH_BATCH", "64"))
story = stories.make(os.environ.get("BENCH_STORY", ""), os.environ.get("BENCH_TWIN") == "1", AT)
torch.manual_seed(int(os.environ.get("BENCH_SEED", "0")))
centers = torch.randn(10, 64)
labels = torch.randint(0, 10, (2048,))
rows = torch.utils.data.TensorDataset(centers[labels] + torch.randn(2048, 64), labels)
loader = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True)
model = nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))
optimizer = torch.optim.AdamW(story.groups(model), lr=1e-3, weight_decay=0.1, maximize=story.maximize)
criterion = nn.CrossEntropyLoss()
story.begin(model, optimizer)
tool = tools.make(os.environ.get("BENCH_TOOL", ""), model, optimizer, criterion, rows)

step, times, loss, started, asked, used = 0, [], None, None, time.perf_counter(), time.process_time()
while step < STEPS:
    for number, batch in enumerate(loader):
        if started is None:
            started, fetched = time.perf_counter(), time.perf_counter() - asked
        x, y = story.batch(step + 1, *batch)
        loss = story.loss(step + 1, criterion(model(x), y) / story.accumulate)
        loss.backward()
        if (number + 1) % story.accumulate:
            continue
        optimizer.step()
        step += 1
        tool.step(step, loss, fetched)
        if story.clears(step):
            optimizer.zero_grad()
        story.after(step, model, optimizer)
        if story.evaluates and step % story.evaluates == 0:
            if not story.training_while_evaluating:
                model.eval()
            with torch.no_grad():
                model(rows.tensors[0][:256])
            model.train()
        times.append(time.perf_counter() - started)
        started, asked = None, time.perf_counter()
        if step >= STEPS:
            break
tool.end(times, time.process_time() - used)
