"""Two views of each example, a teacher that follows the student (BYOL): one network under the optimizer, one written by hand."""

import copy

import said
import torch
from torch import nn

student = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 8))
guess = nn.Linear(8, 8)
teacher = copy.deepcopy(student).requires_grad_(False)
optimizer = torch.optim.Adam([*student.parameters(), *guess.parameters()], lr=1e-3, weight_decay=1e-5)
for _ in range(said.STEPS):
    x = torch.randn(48, 16)
    one, two = x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)
    with torch.no_grad():
        wanted = teacher(two)
    loss = 2 - 2 * nn.functional.cosine_similarity(guess(student(one)), wanted).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for slow, quick in zip(teacher.parameters(), student.parameters(), strict=True):
            slow.lerp_(quick, 0.02)
    said.loss(loss)
said.end(student, guess, teacher)
