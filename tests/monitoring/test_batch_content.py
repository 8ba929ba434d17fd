"""batch-content: labels exchanged anywhere between the declared table and the loss; and the honest programs beside."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from tests.monitoring.loaders import CLASSES, ITEMS, data, learn, loader
from tests.monitoring.loop import watching
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate, random_split

from truerun.apps.watched_run import DeclaredData
from truerun.core.finding import Confidence, Severity

DATA = data()
NAMES = ("ant", "bee", "cat", "dog", "eel")


@pytest.fixture
def declared(tmp_path):
    """The table that was declared: the rows of DATA, with the label as a number and as a name."""
    labels = DATA.tensors[1].tolist()
    path = tmp_path / "train.parquet"
    pl.DataFrame({"x": list(range(ITEMS)), "label": labels, "kind": [NAMES[label] for label in labels]}).write_parquet(path)
    return DeclaredData(name="train", files=(path,), rows=ITEMS, label="label")


def flipped(label, index):
    """Another class for one item in ten."""
    return (label + 1) % CLASSES if index % 10 == 4 else label


class Mislabelling(Dataset):
    """A data set around another one that gives some items a wrong label."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        x, y = self.inner[index]
        return x, flipped(y, index)


def mislabelling_collate(items):
    """A collate function that exchanges a label in each batch."""
    x, y = default_collate(items)
    y[3 % len(y)] = (y[3 % len(y)] + 2) % CLASSES
    return x, y


class Around:
    """What a program may put around its loader; exchanges two labels of each batch."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        for x, y in self.batches:
            other = y.clone()
            other[:2] = (other[:2] + 1) % CLASSES
            yield x, other


ATTACKS = {
    "data set": lambda: loader(Mislabelling(DATA)),
    "collate": lambda: loader(DATA, collate_fn=mislabelling_collate),
    "around the loader": lambda: Around(loader(DATA)),
    "subset": lambda: loader(Subset(Mislabelling(DATA), range(20, 150))),
    "batches of dictionaries": lambda: loader(
        Mislabelling(DATA), collate_fn=lambda items: dict(zip(("inputs", "labels"), default_collate(items), strict=True))
    ),
}


def inputs_and_labels(batch):
    return (batch["inputs"], batch["labels"]) if isinstance(batch, dict) else tuple(batch)


@pytest.mark.parametrize("column", ["label", "kind"])
@pytest.mark.parametrize("name", ATTACKS)
def test_mislabelled(tmp_path, declared, name, column):
    """Labels are exchanged in the data set, in collate, around the loader: seen against the declared column within one epoch."""
    given = DeclaredData(name="train", files=declared.files, rows=ITEMS, label=column)
    with watching(tmp_path, data=(given,)) as observer:
        learn(ATTACKS[name](), epochs=1, look=inputs_and_labels)
    assert {finding.rule for finding in observer.findings} == {"batch-content"}
    first = next(finding for finding in observer.findings if finding.severity is Severity.ERROR)
    assert first.confidence is Confidence.HIGH
    assert (first.subject.kind, first.subject.name, first.subject.key) == ("data", "train", column)
    assert first.location.step <= 13
    values = {"label": range(CLASSES), "kind": NAMES}[column]
    row = first.location.rows[0]
    assert f"row {row} as " in first.message
    assert f"declared {values[int(DATA.tensors[1][row])]!r}" in first.message


def test_rows_are_named_exactly(tmp_path, declared):
    """Every row named is one whose label was exchanged, also through a random split; the pass is summed up."""
    part = random_split(Mislabelling(DATA), [150, 50], generator=torch.Generator().manual_seed(1))[0]
    with watching(tmp_path, data=(declared,)) as observer:
        learn(loader(part), epochs=1)
    by_term = {finding.evidence["term"]: finding for finding in observer.findings}
    assert by_term.keys() == {"label", "pass"}
    wrong = [row for row in part.indices if row % 10 == 4]
    assert set(by_term["label"].location.rows) <= set(wrong)
    assert f"{len(wrong)} of 150 labels" in by_term["pass"].message


def test_two_classes_exchanged_throughout(tmp_path, declared):
    """All of one class get another's label: a warning that names both, since classes may be merged on purpose."""
    x, y = DATA.tensors
    with watching(tmp_path, data=(declared,)) as observer:
        learn(loader(TensorDataset(x, torch.where(y == 3, 1, y))), epochs=2)
    (finding,) = observer.findings
    assert (finding.severity, finding.evidence["term"]) == (Severity.WARNING, "class 3")
    assert "declared label 3 as 1" in finding.message


def test_without_a_declared_table(tmp_path):
    """Nothing is declared: labels exchanged between the loader and the loss are still noticed, as a warning."""
    with watching(tmp_path) as observer:
        learn(Around(loader(DATA)), epochs=3)
    (finding,) = observer.findings
    assert (finding.rule, finding.severity, finding.evidence["term"]) == ("batch-content", Severity.WARNING, "exchange")
    assert "2 of 16 items" in finding.message


class Coarse(TensorDataset):
    """Five classes become two: a form of the labels that is the program's own."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x, int(y >= 2)


def test_honest_labels(tmp_path, declared):
    """The rows as declared; in another form; shuffled or cut before they became a data set; without labels; regression targets."""
    x, y = DATA.tensors
    order = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(2))
    honest = {
        "as declared": DATA,
        "recoded": TensorDataset(x, torch.tensor([3, 0, 4, 1, 2])[y]),
        "fewer classes": Coarse(x, y),
        "shuffled before": TensorDataset(x[order], y[order]),
        "fewer rows": TensorDataset(x[:180], y[:180]),
        "other labels": TensorDataset(x, (x[:, 0] > 0).long()),
    }
    kind = DeclaredData(name="names", files=declared.files, rows=ITEMS, label="kind")
    for name, dataset in honest.items():
        with watching(tmp_path / name, data=(declared, kind)) as observer:
            learn(loader(dataset), epochs=2)
        assert observer.findings == (), name


def test_what_comes_next(tmp_path):
    """A program learns to tell the label of the row after: much like the row's own, and none of our business."""
    steps = torch.rand(ITEMS, generator=torch.Generator().manual_seed(3))
    labels = (steps < 0.12).cumsum(0) % CLASSES
    path = tmp_path / "series.csv"
    pl.DataFrame({"label": labels.tolist()}).write_csv(path)
    series = DeclaredData(name="series", files=(path,), rows=ITEMS, label="label")
    for dataset, expected in ((TensorDataset(DATA.tensors[0], labels.roll(-1)), 0), (TensorDataset(DATA.tensors[0], labels), 1)):
        with watching(tmp_path, data=(series,)) as observer:
            learn(loader(dataset), epochs=2)
        assert observer.findings == ()
        (found,) = observer.judges[0]._loaders.values()
        assert (found.confirmed is not None) == bool(expected)


def test_labels_are_compared_at_all(tmp_path, declared):
    """In the honest runs above the guess about rows was confirmed where it holds, and only there."""
    x, y = DATA.tensors
    order = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(2))
    for dataset, confirmed in ((DATA, True), (Coarse(x, y), True), (TensorDataset(x[order], y[order]), False)):
        with watching(tmp_path, data=(declared,)) as observer:
            learn(loader(dataset), epochs=1)
        judge = next(judge for judge in observer.judges if judge.name == "batches")
        (found,) = judge._loaders.values()
        assert (found.confirmed is not None) == confirmed


def test_honest_losses(tmp_path):
    """Mixup, masked labels, a second label field, a discriminator's ones and zeros, a loss of another kind: nothing to say."""
    x, y = DATA.tensors
    second = (y * 7 + torch.arange(ITEMS) % 3 == 0).long()
    network = torch.nn.Linear(8, CLASSES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    functional = torch.nn.functional

    def mixup(x, y, *_):
        order = torch.randperm(len(y))
        return 0.7 * functional.cross_entropy(network(x), y) + 0.3 * functional.cross_entropy(network(x), y[order])

    def masked(x, y, *_):
        return functional.cross_entropy(network(x), torch.where(torch.rand(len(y)) < 0.2, -100, y))

    def several(x, y, z):
        return functional.cross_entropy(network(x), z)

    def discriminator(x, y, z):
        real = functional.binary_cross_entropy_with_logits(network(x)[:, 0], torch.ones(len(y)))
        return real + functional.binary_cross_entropy_with_logits(network(-x)[:, 0], torch.zeros(len(y)))

    def distance(x, y, *_):
        return functional.mse_loss(network(x)[:, 0], y.float() + 0.1)

    for look in (mixup, masked, several, discriminator, distance):
        with watching(tmp_path / look.__name__) as observer:
            for _ in range(4):
                for batch in loader(TensorDataset(x, second, y) if look is several else TensorDataset(x, y, second)):
                    optimizer.zero_grad()
                    look(*batch).backward()
                    optimizer.step()
        assert observer.findings == (), look.__name__


def first_only(items):
    """The collate function of a processor that forgets all images but the first."""
    return default_collate(items[:1])


def test_one_item_of_a_batch(tmp_path):
    """Collate returns one of sixteen (transformers 34204): the model trains, on a sixteenth of the data. An error at the first step."""
    with watching(tmp_path) as observer:
        learn(loader(DATA, collate_fn=first_only), epochs=1)
    (finding,) = observer.findings
    assert (finding.rule, finding.severity, finding.location.step) == ("batch-content", Severity.ERROR, 1)
    assert "first_only got 16 items of TensorDataset and gave a batch of 1" in finding.message


def test_edited_data_set_of_torch(monkeypatch, tmp_path):
    """Somebody edited TensorDataset: inputs come with a little noise. One item in some batches is held against the tensors."""
    original = TensorDataset.__getitem__
    monkeypatch.setattr(TensorDataset, "__getitem__", lambda self, k: (original(self, k)[0] * 1.001, original(self, k)[1]))
    with watching(tmp_path) as observer:
        learn(loader(Subset(DATA, range(20, 190))), epochs=10)
    (finding,) = observer.findings
    assert (finding.rule, finding.severity, finding.confidence) == ("batch-content", Severity.ERROR, Confidence.CERTAIN)
    assert (finding.evidence["term"], finding.evidence["field"]) == ("item", 0)


def test_items_are_compared_bit_for_bit(tmp_path):
    """The twin: NaN, minus zero, bfloat16, single numbers and whole images are what the data set holds."""
    x, y = DATA.tensors
    odd = torch.where(x > 0, torch.nan, -0.0)
    dataset = TensorDataset(odd, x.bfloat16(), y, x[:, 0], torch.zeros(ITEMS, 3, 8, 8, dtype=torch.uint8), x > 0)
    with watching(tmp_path) as observer:
        for _ in range(10):
            list(loader(dataset))
    assert observer.findings == ()


def test_edited_collate_of_torch(monkeypatch, tmp_path):
    """Somebody edited torch's own default_collate so that it exchanges labels: it never does, so a single one is an error."""

    def edited(items):
        return mislabelling_collate(items)

    monkeypatch.setattr(torch.utils.data._utils.collate, "default_collate", edited)
    with watching(tmp_path) as observer:
        learn(loader(DATA), epochs=1)
    first = observer.findings[0]
    assert (first.rule, first.severity, first.confidence) == ("batch-content", Severity.ERROR, Confidence.CERTAIN)


def packed(items):
    """All items behind one another in one row, and a field of the items left out."""
    return {"inputs": torch.cat([item[0] for item in items])[None], "labels": torch.stack([item[1] for item in items])[None]}


def only_even(items):
    """Items that cannot be used are None and left out."""
    return default_collate([item for item in items if item is not None])


class Broken(TensorDataset):
    """Every third item cannot be read."""

    def __getitem__(self, index):
        return None if index % 3 == 0 else super().__getitem__(index)


def test_honest_collate_functions(tmp_path):
    """Packing, skipping what cannot be read, pairs, text, objects, identity, labels made one-hot, a field taken out of the items."""
    x, y = DATA.tensors
    rows = [{"inputs": x[k], "labels": int(y[k]), "more": [1, 2, 3]} for k in range(40)]

    def popping(items):
        return {
            "labels": torch.tensor([item.pop("labels") for item in items]),
            "inputs": torch.stack([i["inputs"] for i in items]),
        }

    honest = [
        (DATA, packed),
        (Broken(x, y), only_even),
        (DATA, lambda items: default_collate([*items, *items])),
        (["a text", "another"] * 20, None),
        ([(f"text {k}", k % 3) for k in range(40)], lambda _: torch.zeros(1, 9)),
        (DATA, lambda items: items),
        (DATA, lambda items: type("Graph", (), {"x": items[0][0]})),
        (DATA, lambda items: (torch.stack([i[0] for i in items]), torch.eye(CLASSES)[[int(i[1]) for i in items]])),
        (DATA, lambda items: (torch.stack([i[0] for i in items]), torch.tensor([int(i[1]) // 2 for i in items]))),
        ([dict(row) for row in rows], popping),
        (rows, None),
    ]
    with watching(tmp_path) as observer:
        for dataset, collate in honest:
            for _ in loader(dataset, collate_fn=collate):
                pass
        assert observer.findings == ()


@pytest.mark.parametrize("ahead", [1, 6])
def test_batches_that_are_read_ahead(tmp_path, ahead):
    """Accelerate and others fetch batches before they are needed; nearly all labels are alike, so any batch resembles any other."""

    def early(batches):
        waiting = []
        for batch in batches:
            waiting.append(batch)
            if len(waiting) > ahead:
                yield waiting.pop(0)
        yield from waiting

    labels = (torch.arange(ITEMS) % 20 == 3).long()
    path = tmp_path / "rare.csv"
    pl.DataFrame({"label": labels.tolist()}).write_csv(path)
    rare = DeclaredData(name="rare", files=(path,), rows=ITEMS, label="label")
    batches = loader(TensorDataset(DATA.tensors[0], labels))
    held_out = loader(TensorDataset(DATA.tensors[0][:64], labels[:64]), shuffle=False)
    with watching(tmp_path, data=(rare,)) as observer:
        for _ in range(6):
            learn(early(batches), epochs=1)
            list(held_out)
    assert observer.findings == ()
