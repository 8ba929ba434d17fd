"""Mixed precision on the CPU: autocast to bfloat16, a GradScaler that skips a step when a gradient overflows."""

import said
import torch
from torch import nn

model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=50)
for step in range(said.STEPS):
    x, y = said.points(64)
    if step % 40 == 13:
        x[0, 0] = float("inf")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x.nan_to_num(posinf=8.0) if step % 40 == 13 else x)
        loss = nn.functional.cross_entropy(logits.float(), y)
    optimizer.zero_grad()
    scaled = scaler.scale(loss)
    if step % 40 == 13:
        scaled = scaled * 1e38  # overflows in the backward pass: this step is skipped
    scaled.backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    said.loss(loss)
said.end(model)
print("scale", scaler.get_scale())
