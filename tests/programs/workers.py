"""A DataLoader with worker processes, shuffled anew each epoch, and a second one for evaluation."""

import said
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset


class Noisy(Dataset):
    """Adds noise in the worker."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index] + 0.1 * torch.randn(16), self.y[index]


def main():
    train, test = Noisy(*said.points(960)), TensorDataset(*said.points(128))
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(train, batch_size=32, shuffle=True, num_workers=2, persistent_workers=True, drop_last=True)
    steps = 0
    while steps < said.STEPS:
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            said.loss(loss)
            steps += 1
            if steps == said.STEPS:
                break
        with torch.no_grad():
            print("right", sum(int((model(x).argmax(1) == y).sum()) for x, y in DataLoader(test, batch_size=64)))
    said.end(model)


if __name__ == "__main__":
    main()
