"""
What goes wrong in the side-by-side benchmark, and beside each story an honest twin that looks like it.

A story is injected where an edited library or a helpful colleague would put it: below or beside the script, which stays as
it is. Plain torch only; `program.py` asks for a change at each place where it may act.
"""

import copy
import random
import sys
import time

import torch


class Story:
    """Changes nothing: the base, and the clean run."""

    accumulate = 1
    maximize = False
    evaluates = 0  # every so many steps
    training_while_evaluating = False

    def __init__(self, at):
        self.at = at
        self.random = random.Random(99)

    def groups(self, model):
        return model.parameters()

    def begin(self, model, optimizer):
        pass

    def batch(self, step, x, y):
        return x, y

    def loss(self, step, loss):
        return loss

    def clears(self, step):
        return True

    def after(self, step, model, optimizer):
        pass


def patch_adam(change):
    """Stand between AdamW.step and the function that computes it, as an edited torch would."""
    module = sys.modules["torch.optim.adam"]
    original = module.adam

    def adam(params, grads, *rest, **kw):
        grads, kw = change(grads, kw)
        return original(params, grads, *rest, **kw)

    module.adam = adam


class InStep(Story):
    change = staticmethod(lambda grads, kw: (grads, kw))

    def after(self, step, model, optimizer):
        if step == self.at - 1:
            patch_adam(self.change)


class SignFlip(InStep):
    change = staticmethod(lambda grads, kw: ([-grad for grad in grads], kw))


class Maximize(Story):
    maximize = True

    def loss(self, step, loss):
        return -loss


class HalfRate(InStep):
    change = staticmethod(lambda grads, kw: (grads, {**kw, "lr": kw["lr"] * 0.5}))


class Schedule(Story):
    def begin(self, model, optimizer):
        self.schedule = torch.optim.lr_scheduler.StepLR(optimizer, self.at, 0.5)

    def after(self, step, model, optimizer):
        self.schedule.step()


class NoDecay(InStep):
    change = staticmethod(lambda grads, kw: (grads, {**kw, "weight_decay": 0.0}))


class DecayByGroup(Story):
    def groups(self, model):
        tensors = list(model.parameters())
        weights, biases = [t for t in tensors if t.dim() > 1], [t for t in tensors if t.dim() == 1]
        return [{"params": weights}, {"params": biases, "weight_decay": 0.0}]


class NotCleared(Story):
    def clears(self, step):
        return step < self.at


class Accumulate(Story):
    accumulate = 2


class FrozenLayer(Story):
    def after(self, step, model, optimizer):
        if step == self.at - 1:
            model[3].weight.requires_grad_(False)


class FineTuning(Story):
    def groups(self, model):
        model[3].weight.requires_grad_(False)
        return [tensor for tensor in model.parameters() if tensor.requires_grad]


class Noise(Story):
    def begin(self, model, optimizer):
        self.generator = torch.Generator().manual_seed(5)

    def after(self, step, model, optimizer):
        if step >= self.at - 1:
            with torch.no_grad():
                weight = model[3].weight
                weight.add_(torch.randn(weight.shape, generator=self.generator), alpha=1e-3)


class BackToCheckpoint(Story):
    def after(self, step, model, optimizer):
        if step == self.at // 2:
            self.kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        if step == self.at:
            model.load_state_dict(self.kept[0])
            optimizer.load_state_dict(self.kept[1])


class NotANumber(Story):
    def loss(self, step, loss):
        return loss * float("nan") if step == self.at else loss


class HardBatch(Story):
    def batch(self, step, x, y):
        return (x * 8, y) if step == self.at else (x, y)


class WrongLabels(Story):
    def batch(self, step, x, y):
        if step < self.at:
            return x, y
        y = y.clone()
        for row in self.random.sample(range(len(y)), len(y) * 3 // 10):
            y[row] = (int(y[row]) + self.random.randrange(1, 10)) % 10
        return x, y


class Augmented(Story):
    def begin(self, model, optimizer):
        self.generator = torch.Generator().manual_seed(6)

    def batch(self, step, x, y):
        return x + 0.1 * torch.randn(x.shape, generator=self.generator), y


class DropoutInEvaluation(Story):
    evaluates = 10
    training_while_evaluating = True


class Evaluation(Story):
    evaluates = 10


class Sleep(Story):
    def after(self, step, model, optimizer):
        if step >= self.at:
            time.sleep(self.random.random() * 0.04)


class Work(Story):
    """An evaluation that takes its time, each ten steps: slower steps that are the program's own."""

    evaluates = 10

    def after(self, step, model, optimizer):
        if step % self.evaluates == 0:
            with torch.no_grad():
                for _ in range(20):
                    model[0](torch.ones(256, model[0].in_features))


STORIES = {
    "gradient sign flipped inside Adam": (SignFlip, Maximize, "maximize=True on the negated loss"),
    "learning rate halved inside the step": (HalfRate, Schedule, "a scheduler halves it"),
    "weight decay dropped inside the step": (NoDecay, DecayByGroup, "no decay for biases, by group"),
    "zero_grad forgotten": (NotCleared, Accumulate, "accumulation over two batches"),
    "a layer frozen": (FrozenLayer, FineTuning, "frozen from the start, not in the optimizer"),
    "noise on weights between steps": (Noise, BackToCheckpoint, "a checkpoint loaded"),
    "loss not a number": (NotANumber, HardBatch, "one hard batch"),
    "30 % wrong labels from the loader": (WrongLabels, Augmented, "noise added to inputs"),
    "dropout left on in evaluation": (DropoutInEvaluation, Evaluation, "evaluation in eval mode"),
    "random sleep": (Sleep, Work, "work between steps"),
}
CLEAN = "nothing (clean run)"


def make(name, twin, at):
    """The story called *name*, or its twin."""
    return Story(at) if name in ("", CLEAN) else STORIES[name][1 if twin else 0](at)
