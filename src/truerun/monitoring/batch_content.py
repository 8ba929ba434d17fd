"""Content: the labels that the model was given are those of the declared data, item by item.

Which row of the declared table an index stands for is a guess (the row of that number) that the labels themselves have to
confirm before anything is judged: declared and given labels must agree far beyond chance. A label may have another form
(`"cat"` given as 2), one for each declared value. Labels are looked at where the loader gives them and, on some batches, where
the loss takes them. Cannot see inputs that were exchanged, data sets that are not a table's rows in their order, and labels
that are not one number an item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from truerun.core.finding import Confidence, Finding, Location, Severity, Subject
from truerun.core.rule import Rule
from truerun.monitoring.loading import Indices, LoaderSeen
from truerun.monitoring.observation import Mask, Numbers

RULE = Rule(
    id="batch-content",
    summary="the model was given other labels or items than the data holds",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    atlas="AML.T0020",
)
MIN_PAIRS, MAX_PAIRS = 64, 20_000
MIN_KAPPA, MIN_EVIDENCE = 0.6, 30.0
CLASS_PAIRS, CLASS_SHARE = 8, 0.9
MAX_VALUES = 1000
MAX_NAMED, SHOWN, KEPT = 64, 6, 16
LOST_MARGIN = 1.25
NO_ROWS: Indices = np.zeros(0, np.int64)
NO_LABELS: Numbers = np.zeros(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredLabels:
    """The label column of a declared data set: a code for each row (-1 for none) and what each code stands for."""

    data: str
    column: str
    codes: Indices
    values: tuple[object, ...]


class LabelWatch:
    """Compares one loader's labels with one declared column; `confirmed` once the guess about rows has proved right."""

    def __init__(self, seen: LoaderSeen, declared: DeclaredLabels) -> None:
        self.seen = seen
        self.declared = declared
        self.confirmed = False
        self.hopeless = len(declared.values) > MAX_VALUES or len(declared.values) < 2
        self.compared = self.wrong = 0
        self._same: Numbers | None = None
        self._as: Numbers = np.full(len(declared.values), np.nan)
        self._settled: Mask = np.zeros(len(declared.values), bool)
        self._rows, self._labels = NO_ROWS, NO_LABELS

    def add(self, rows: Indices, labels: Numbers, step: int, epoch: int) -> tuple[Finding, ...]:
        """The loader gave *labels* for the declared *rows*."""
        if self.hopeless:
            return ()
        usable = (self._codes(rows) >= 0) & ~np.isnan(labels)
        rows, labels = rows[usable], labels[usable]
        if self.confirmed:
            return self._judge(rows, labels, step, epoch)
        self._rows, self._labels = np.concatenate([self._rows, rows]), np.concatenate([self._labels, labels])
        if len(self._rows) < min(MIN_PAIRS, len(self.declared.codes)):
            return ()
        self.confirmed = self._confirm(self._rows, self._labels)
        self.hopeless = not self.confirmed and len(self._rows) > MAX_PAIRS
        return self._judge(rows[:0], labels[:0], step, epoch) if self.confirmed else ()

    def check_loss(self, rows: Indices, targets: Numbers, step: int) -> tuple[Finding, ...]:
        """A finding when the loss took *targets* that are not the declared labels of *rows*."""
        wrong = self._wrong(rows, targets)
        if not self.confirmed or not wrong.any():
            return ()
        words = f"the loss took other labels than {self._where} for {int(wrong.sum())} of {len(rows)} items of one batch"
        return (self._finding("loss", words, step, rows[wrong], targets[wrong]),)

    def end(self, step: int, epoch: int, compared: int, wrong: int) -> tuple[Finding, ...]:
        """A finding about a whole pass in which *wrong* of the *compared* labels were not the declared ones."""
        if not wrong:
            return ()
        words = f"{wrong} of {compared} labels ({100 * wrong / compared:.2g} %) were not those of {self._where} in pass {epoch}"
        return (self._finding("pass", words, step, evidence={"share": wrong / compared, "wrong": wrong}),)

    @property
    def _where(self) -> str:
        return f"column {self.declared.column} of {self.declared.data}"

    def _confirm(self, rows: Indices, labels: Numbers) -> bool:
        """
        Whether labels and declared values agree far beyond chance, as they are or by one form for each declared value.

        They have to agree at least as well as with the rows before and after: neighbours may be alike, and a program may
        learn to tell what comes next.
        """
        given, column = np.unique(labels, return_inverse=True)
        if not 2 <= len(given) <= MAX_VALUES:
            return False
        table, before, after = (self._table(rows + shift, column, len(given)) for shift in (0, -1, 1))
        if _evidence(table) < MIN_EVIDENCE:
            return False
        numbers = np.array([_number(value) for value in self.declared.values])
        same = numbers[:, None] == given[None, :]
        if _kappa(table, same) >= max(MIN_KAPPA, _kappa(before, same), _kappa(after, same)):
            self._same = numbers
            return True
        return _kappa(table, _best(table)) >= max(MIN_KAPPA, _kappa(before, _best(before)), _kappa(after, _best(after)))

    def _table(self, rows: Indices, column: Indices, width: int) -> Numbers:
        """How often each declared value of *rows* was given as each label."""
        codes = self._codes(rows)
        table = np.zeros((len(self.declared.values), width))
        np.add.at(table, (codes[codes >= 0], column[codes >= 0]), 1)
        return table

    def _codes(self, rows: Indices) -> Indices:
        """The declared code of each of *rows*, -1 for one that the table does not have."""
        inside = (rows >= 0) & (rows < len(self.declared.codes))
        return np.where(inside, self.declared.codes[np.where(inside, rows, 0)], -1)

    def _wrong(self, rows: Indices, labels: Numbers) -> Mask:
        codes = self._codes(rows)
        expected = np.where(codes >= 0, self._as[codes], np.nan)
        # A number that stands for no label is a mask (-100, -1), not another label.
        return ~np.isnan(expected) & np.isin(labels, self._as) & (expected != labels)

    def _judge(self, rows: Indices, labels: Numbers, step: int, epoch: int) -> tuple[Finding, ...]:
        """Judge rows whose declared value was met often enough to know what it is given as; keep the others until it was."""
        rows, labels = np.concatenate([self._rows, rows]), np.concatenate([self._labels, labels])
        codes = self.declared.codes[rows]
        met = np.bincount(codes, minlength=len(self._as))
        found: tuple[Finding, ...] = ()
        for code in np.flatnonzero((met >= CLASS_PAIRS) & ~self._settled):
            found += self._settle(int(code), labels[codes == code], step)
        known = self._settled[codes]
        self._rows, self._labels = rows[~known], labels[~known]
        rows, labels = rows[known], labels[known]
        wrong = self._wrong(rows, labels)
        self.compared += len(rows)
        self.wrong += int(wrong.sum())
        if wrong.any():
            words = f"gave other labels than {self._where} holds (pass {epoch})"
            found += (self._finding("label", words, step, rows[wrong], labels[wrong]),)
        return found

    def _settle(self, code: int, labels: Numbers, step: int) -> tuple[Finding, ...]:
        """Learn what the declared value *code* is given as; a finding where nearly all its rows are given as another's value."""
        given, counts = np.unique(labels, return_counts=True)
        most, share = given[counts.argmax()], counts.max() / len(labels)
        self._settled[code] = True
        if self._same is None:
            self._as[code] = most if share > 0.5 else np.nan
            return ()
        self._as[code] = self._same[code]
        if most == self._same[code] or share < CLASS_SHARE:
            return ()
        self._as[code] = most
        value = self.declared.values[code]
        words = f"gives the rows with the declared label {value!r} as {_shown(most)}"
        # Classes may have been merged on purpose.
        return (self._finding(f"class {value}", words, step, severity=Severity.WARNING),)

    def _finding(
        self,
        term: str,
        words: str,
        step: int,
        rows: Indices = NO_ROWS,
        labels: Numbers = NO_LABELS,
        *,
        evidence: dict[str, object] | None = None,
        severity: Severity | None = None,
    ) -> Finding:
        each = [
            f"row {row} as {_shown(label)}, declared {self.declared.values[self.declared.codes[row]]!r}"
            for row, label in zip(rows[:SHOWN].tolist(), labels[:SHOWN].tolist(), strict=True)
        ]
        listed = f": {'; '.join(each)}{f' and {len(rows) - SHOWN} more' if len(rows) > SHOWN else ''}" if each else ""
        begun = words if words.startswith("the loss") or term == "pass" else f"the {self.seen.title} {words}"
        return RULE.finding(
            Subject(kind="data", name=self.declared.data, key=self.declared.column),
            f"At step {step} {begun}{listed}.",
            evidence={"term": term, "wrong": len(rows), "loader": self.seen.title, **(evidence or {})},
            location=Location(step=step, rank=self.seen.rank, rows=tuple(rows[:MAX_NAMED].tolist()) or None),
            severity=severity,
            remedy="look at what stands between the table and the loss: data set, collate function, loop; "
            "labels that are corrected on purpose belong into the declared data",
        )


class Exchange:
    """
    Follows whether labels are handed on as they are from one place to the next, where no declared column says what they are.

    `giver` and `taker` name the places; where the taker is known to change nothing (*exact*), a difference is an error.
    """

    def __init__(self, giver: str, taker: str, rank: int, *, exact: bool = False) -> None:
        self.giver = giver
        self.taker = taker
        self.rank = rank
        self.exact = exact
        self._labels: list[Numbers] = []
        self._targets: list[Numbers] = []

    def check(self, labels: Numbers, targets: Numbers, step: int) -> tuple[Finding, ...]:
        """A batch of which the *giver* gave *labels* and the *taker* has *targets*, which are not the same."""
        changed = (labels != targets) & np.isin(targets, np.unique(np.concatenate([*self._labels, labels])))
        self._labels.append(labels)
        self._targets.append(targets)
        if not changed.any() or not (self.exact or self._related()):  # masked, or something else than these labels
            return ()
        return (
            RULE.finding(
                Subject(kind="run", name=self.giver, key=self.taker),
                f"At step {step} {self.taker} has other labels than the {self.giver} gave, for {int(changed.sum())} of "
                f"{len(labels)} items of a batch, and the same for the others: something in between exchanges single labels.",
                evidence={"term": "exchange", "changed": int(changed.sum()), "batch": len(labels)},
                location=Location(step=step, rank=self.rank),
                severity=Severity.ERROR if self.exact else Severity.WARNING,
                confidence=Confidence.CERTAIN if self.exact else Confidence.MEDIUM,
                remedy="look at the code in between, and at torch/utils/data in the environment (truerun check); "
                "label noise that is part of the method can be left",
            ),
        )

    def _related(self) -> bool:
        """Whether what came out follows from what went in far beyond chance, so that it is these labels."""
        self._labels, self._targets = self._labels[-KEPT:], self._targets[-KEPT:]
        before, after = np.concatenate(self._labels), np.concatenate(self._targets)
        given, column = np.unique(np.concatenate([before, after]), return_inverse=True)
        if len(before) < MIN_PAIRS or len(given) > MAX_VALUES:
            return False
        table = np.zeros((len(given), len(given)))
        np.add.at(table, (column[: len(before)], column[len(before) :]), 1)
        return _kappa(table, np.eye(len(given), dtype=bool)) >= MIN_KAPPA and _evidence(table) >= MIN_EVIDENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Collated:
    """A batch with fewer `rows` than `items` went into it; `into` and `out_of` count the numbers in the items and in the batch."""

    collate: str
    dataset: str
    items: int
    rows: int
    into: int
    out_of: int


def check_item(seen: LoaderSeen, index: int, field: int, step: int) -> tuple[Finding, ...]:
    """A finding: one item of a batch was not what the data set holds at its index."""
    return (
        RULE.finding(
            Subject(kind="run", name=seen.title, key=f"field {field}"),
            f"At step {step} the {seen.title} gave another item for index {index} than its data set holds: field {field} differs.",
            evidence={"term": "item", "index": index, "field": field},
            location=Location(step=step, rank=seen.rank, rows=(index,)),
            # Workers keep the data set as it was when they began, so one that is changed later differs from theirs.
            severity=Severity.WARNING if seen.workers else Severity.ERROR,
            confidence=Confidence.HIGH if seen.workers else Confidence.CERTAIN,
            remedy="look at torch/utils/data in the environment (truerun check), and at what writes to the data set while it is read",
        ),
    )


def check_collated(seen: Collated, step: int, rank: int) -> tuple[Finding, ...]:
    """
    A finding where whole items were lost: the batch holds as many numbers as that many items do.

    Items put behind one another in one row keep their numbers, and are none of this.
    """
    whole = seen.into * seen.rows / max(1, seen.items)
    few = seen.rows <= seen.items / 2 and seen.out_of <= LOST_MARGIN * whole
    if not seen.into or not (few or seen.out_of == whole):
        return ()
    return (
        RULE.finding(
            Subject(kind="run", name=seen.collate, key="items"),
            f"At step {step} the collate function {seen.collate} got {seen.items} items of {seen.dataset} and gave a batch of "
            f"{seen.rows}: the model does not see the others.",
            evidence={"term": "collate", "items": seen.items, "rows": seen.rows, "numbers": [seen.into, seen.out_of]},
            location=Location(step=step, rank=rank),
            # A few may be left out because they cannot be used.
            severity=Severity.ERROR if few else Severity.WARNING,
            confidence=Confidence.HIGH if few else Confidence.MEDIUM,
            remedy="look at what the collate function or the processor in it does with more than one item",
        ),
    )


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def _shown(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _best(table: Numbers) -> Mask:
    """The cells of *table* that pair each row with the column it is met with most."""
    best: Mask = np.zeros(table.shape, bool)
    best[np.arange(len(table)), table.argmax(axis=1)] = table.sum(axis=1) > 0
    return best


def _kappa(table: Numbers, match: Mask) -> float:
    """Agreement beyond chance (Cohen 1960), where *match* says which cells of the contingency *table* count as agreement."""
    total = table.sum()
    if not total:
        return 0.0
    seen = float(table[match].sum() / total)
    chance = float((np.outer(table.sum(axis=1), table.sum(axis=0)) * match).sum() / total**2)
    return (seen - chance) / (1 - chance) if chance < 1 else 0.0


def _evidence(table: Numbers) -> float:
    """Log likelihood ratio of dependence against independence (natural logarithm), less one for each free parameter."""
    total = table.sum()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    filled = table > 0
    free = ((table.sum(axis=1) > 0).sum() - 1) * ((table.sum(axis=0) > 0).sum() - 1)
    return float((table[filled] * np.log(table[filled] / expected[filled])).sum() - free)
