"""The ledger in memory: what it promises to honest authors, and what it refuses from others (P1, P2, P4, P8 of the threats)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.material import ANA, AT, BEN, EVA, LOG_KEY, ORIGIN, created, decided, make_ledger, proposed, revoked

from truerun.core.errors import FormatError, LedgerCorruptError, SigningKeyError, UsageError, VerificationError
from truerun.core.fact import LedgerCreated
from truerun.ledger import merkle
from truerun.ledger.envelope import Statement, sign_statement
from truerun.ledger.ledger import Ledger
from truerun.ledger.note import NoteSigner, render_note_key
from truerun.ledger.store import MemoryStore
from truerun.ledger.tree_head import TreeHead, sign_tree_head


def test_what_was_recorded_is_read_with_its_author_and_order(ledger):
    entries = list(ledger.entries())
    assert [entry.index for entry in entries] == list(range(6))
    assert len(ledger) == 6
    assert [entry.key for entry in entries] == [ANA.public_key] * 4 + [EVA.public_key, BEN.public_key]
    assert entries[4].fact == proposed()
    assert entries[5].fact == decided()
    assert entries[5].seen.size == 5
    assert entries[3].seen.size == 2
    assert ledger.entry(5) == entries[5]
    assert list(ledger.entries(4)) == entries[4:]
    assert list(ledger.entries(6)) == []
    assert ledger.origin == ORIGIN
    assert ledger.tree_head().size == 6
    with pytest.raises(UsageError, match="no entry 6"):
        ledger.entry(6)


def test_it_verifies_and_says_how_far_it_is(ledger):
    calls = []
    ledger.verify(lambda done, total: calls.append((done, total)))
    assert calls == [(number, 6) for number in range(1, 7)]
    ledger.verify(log_key=ledger.log_key)
    with pytest.raises(VerificationError, match="another log key"):
        ledger.verify(log_key=render_note_key(NoteSigner(ORIGIN, b"\x08" * 32).key))


def test_an_empty_ledger_verifies_and_has_no_head():
    ledger = Ledger(MemoryStore(), LOG_KEY)
    ledger.verify()
    assert len(ledger) == 0
    assert list(ledger.entries()) == []
    assert ledger.append_all([], ANA) == ()
    with pytest.raises(UsageError, match="empty"):
        ledger.tree_head()


def test_the_first_entry_creates_the_ledger_and_no_other_does(ledger):
    fresh = Ledger(MemoryStore(), LOG_KEY)
    for fact in (
        proposed(),
        LedgerCreated(project="x", origin="other", log_key="other", at=AT),
        created(NoteSigner("y", b"\x01" * 32)),
    ):
        with pytest.raises(UsageError):
            fresh.append(fact, ANA)
    assert len(fresh) == 0
    with pytest.raises(UsageError):
        ledger.append(created(), ANA)
    fresh.append(created(), ANA)
    assert len(fresh) == 1


def test_without_the_log_key_or_with_another_nothing_is_recorded():
    store = MemoryStore()
    make_ledger(store)
    for log_key in (None, NoteSigner(ORIGIN, b"\x08" * 32)):
        with pytest.raises(SigningKeyError):
            Ledger(store, log_key).append(revoked(1), ANA)
    assert len(Ledger(store)) == 6
    assert Ledger(store, LOG_KEY).append(revoked(1), ANA).index == 6


def test_two_openings_continue_from_each_other():
    store = MemoryStore()
    one, two = make_ledger(store), Ledger(store, LOG_KEY)
    assert [ledger.append(revoked(number), ANA).index for number, ledger in enumerate([one, two, two, one, two])] == [
        6,
        7,
        8,
        9,
        10,
    ]
    one.verify()


def test_the_same_statement_twice_is_one_entry(ledger):
    """Recording is idempotent per tree head; said again later, it is a new statement."""
    assert [entry.index for entry in ledger.append_all([revoked(1), revoked(2), revoked(1)], ANA)] == [6, 7, 6]
    assert ledger.append(revoked(1), ANA).index == 8
    ledger.verify()


def test_a_fact_that_cannot_be_read_back_leaves_no_trace(ledger):
    for fact in (revoked(1, "x" * 5_000_000), revoked(1, "\ud800"), revoked(1, 3)):
        with pytest.raises(FormatError):
            ledger.append_all([revoked(2), fact], ANA)
    assert len(ledger) == 6
    ledger.verify()


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_proofs_hold_for_every_entry_and_every_older_head(count):
    ledger = make_ledger()
    ledger.append_all([revoked(number) for number in range(count)], ANA)
    head = ledger.tree_head()
    for entry in ledger.entries():
        proof = ledger.prove_inclusion(entry.index)
        merkle.verify_inclusion(merkle.leaf_hash(entry.envelope), entry.index, head.size, proof, head.root)
    for size in (1, 3, 6, head.size):
        root = merkle.fold(_frontier(ledger, size))
        merkle.verify_consistency(size, root, head.size, head.root, ledger.prove_consistency(size))
        merkle.verify_consistency(1, merkle.fold(_frontier(ledger, 1)), size, root, ledger.prove_consistency(1, size))
    for wrong in (0, head.size + 1):
        with pytest.raises(ValueError):
            ledger.prove_consistency(1, wrong)


def _frontier(ledger, size):
    frontier = []
    for entry in list(ledger.entries())[:size]:
        merkle.new_hashes(entry.index, merkle.leaf_hash(entry.envelope), frontier)
    return frontier


class Attacked:
    """A ledger whose store the attacker can write at will."""

    def __init__(self):
        self.store = MemoryStore()
        self.ledger = make_ledger(self.store)
        self.state = self.store._state

    def recompute(self, log_key=None):
        """Rebuild the tree over what is stored now, and sign its head where the log key was stolen."""
        frontier, nodes = [], {}
        for index, envelope in sorted(self.state.entries.items()):
            nodes.update(enumerate(merkle.new_hashes(index, merkle.leaf_hash(envelope), frontier), merkle.stored_count(index)))
        self.state.nodes = nodes
        if log_key is not None:
            head = TreeHead(origin=ORIGIN, size=len(self.state.entries), root=merkle.fold(frontier))
            self.state.note = sign_tree_head(head, log_key)

    def first_bad(self):
        with pytest.raises(LedgerCorruptError) as refused:
            Ledger(self.store).verify()
        return refused.value.index


@pytest.fixture
def attacked():
    return Attacked()


def forge(text, signer=BEN, index=3):
    """A valid entry that says something else, as somebody with a key would have signed it at *index*."""
    ledger = make_ledger()
    history = [entry.envelope for entry in ledger.entries()][:index]
    frontier = []
    for number, envelope in enumerate(history):
        merkle.new_hashes(number, merkle.leaf_hash(envelope), frontier)
    seen = TreeHead(origin=ORIGIN, size=index, root=merkle.fold(frontier))
    return sign_statement(Statement(fact=revoked(0, text), seen=seen), signer)


@given(st.integers(0, 5), st.data())
def test_any_bit_of_any_entry_is_missed_by_nobody(index, data):
    attacked = Attacked()
    envelope = bytearray(attacked.state.entries[index])
    bit = data.draw(st.integers(0, 8 * len(envelope) - 1))
    envelope[bit // 8] ^= 1 << bit % 8
    attacked.state.entries[index] = bytes(envelope)
    assert attacked.first_bad() == index
    with pytest.raises(LedgerCorruptError):
        list(Ledger(attacked.store).entries())


def test_any_bit_of_any_stored_hash_is_missed_by_nobody(attacked):
    for place, value in list(attacked.state.nodes.items()):
        for bit in range(0, 256, 5):
            changed = bytearray(value)
            changed[bit // 8] ^= 1 << bit % 8
            attacked.state.nodes[place] = bytes(changed)
            assert attacked.first_bad() == merkle.first_leaf(place)
        attacked.state.nodes[place] = value
    Ledger(attacked.store).verify()


def test_an_entry_replaced_by_a_valid_one_is_found_with_the_tree_recomputed(attacked):
    """P1: the attacker signs another fact with a key of their own and repairs every hash; only the head's signature is missing."""
    attacked.state.entries[3] = forge("forged")
    assert attacked.first_bad() == 3
    attacked.recompute()
    assert attacked.first_bad() == 3


def test_history_rewritten_with_the_stolen_log_key_is_found_by_what_later_authors_signed(attacked):
    """P2: the attacker also holds the log key. Eva and Ben signed the tree they saw, so their own words refute it."""
    attacked.state.entries[3] = forge("forged")
    attacked.recompute(LOG_KEY)
    assert attacked.first_bad() == 3


@pytest.mark.parametrize("index", [0, 1, 2, 4])
def test_a_deleted_entry_is_found_even_when_the_rest_moves_up(attacked, index):
    envelopes = [envelope for number, envelope in sorted(attacked.state.entries.items()) if number != index]
    del attacked.state.entries[index]
    assert attacked.first_bad() == index
    attacked.state.entries = dict(enumerate(envelopes))
    attacked.recompute(LOG_KEY)
    assert attacked.first_bad() <= index


def test_a_replayed_entry_is_refused(attacked):
    """P4: an old approval is recorded once more by somebody who holds the log key."""
    attacked.state.entries[6] = attacked.state.entries[5]
    attacked.recompute(LOG_KEY)
    assert attacked.first_bad() == 6


def test_an_entry_of_another_ledger_is_refused(attacked):
    """P4: Ben's approval, taken from another project's ledger."""
    other_key = NoteSigner("truerun/other/0000", b"\x08" * 32)
    other = make_ledger(log_key=other_key)
    attacked.state.entries[6] = other.append(decided(), BEN).envelope
    attacked.recompute(LOG_KEY)
    assert attacked.first_bad() == 6


def test_swapped_entries_are_found(attacked):
    entries = attacked.state.entries
    entries[4], entries[5] = entries[5], entries[4]
    assert attacked.first_bad() == 4
    attacked.recompute(LOG_KEY)
    assert attacked.first_bad() == 2  # nobody whose words still fit vouches for entries 2 and 3, a batch


def test_a_tail_cut_off_with_its_head_is_refused_by_whoever_kept_the_newer_head():
    """P2: an old copy of the whole database is restored. It verifies in itself; the kept head is what refutes it."""
    store = MemoryStore()
    ledger = make_ledger(store)
    old, older_head = store._state, ledger.signed_tree_head()
    ledger.append(revoked(1), ANA)
    kept = ledger.signed_tree_head()
    ledger.verify_extends(older_head)
    ledger.verify_extends(kept)
    store._state = old
    ledger.verify()
    with pytest.raises(VerificationError, match="cut off"):
        ledger.verify_extends(kept)
    ledger.append(revoked(2), ANA)  # the restored copy is continued
    with pytest.raises(VerificationError):
        ledger.verify_extends(kept)


def test_what_is_left_over_is_found(attacked):
    note = attacked.state.note
    attacked.state.note = None
    assert attacked.first_bad() == 0
    attacked.state.note = note
    attacked.state.nodes[10] = b"\x00" * 32
    assert attacked.first_bad() == 6
    del attacked.state.nodes[10]
    del attacked.state.nodes[9]
    assert attacked.first_bad() == 4
    attacked = Attacked()
    attacked.state.entries[6] = forge("more", index=6)
    assert attacked.first_bad() == 6
    attacked = Attacked()
    attacked.state.entries[-1] = forge("less")
    assert attacked.first_bad() == 0


def test_nothing_is_built_on_a_damaged_ledger(attacked):
    attacked.state.nodes[merkle.frontier_places(6)[0]] = b"\x00" * 32
    with pytest.raises(LedgerCorruptError):
        Ledger(attacked.store, LOG_KEY).append(revoked(1), ANA)
    assert len(attacked.state.entries) == 6


def test_a_missing_entry_stops_reading(attacked):
    del attacked.state.entries[2]
    ledger, read = Ledger(attacked.store), []
    with pytest.raises(LedgerCorruptError) as refused:
        read.extend(entry.index for entry in ledger.entries())
    assert refused.value.index == 2


def interrupted(writer):
    writer.write([(6, b"half")], [], b"head")
    raise ZeroDivisionError


def test_an_interrupted_commit_leaves_the_ledger_as_it_was():
    store = MemoryStore()
    ledger = make_ledger(store)
    with pytest.raises(ZeroDivisionError), store.writing() as writer:
        interrupted(writer)
    ledger.verify()
    assert len(ledger) == 6


def test_entry_zero_must_create_this_very_ledger(attacked):
    """The attacker puts a ledger of their own in its place, entry by entry: entry 0 names another key than the head's."""
    other = make_ledger(log_key=NoteSigner(ORIGIN, b"\x08" * 32))
    attacked.state.entries[0] = other.entry(0).envelope
    with pytest.raises(LedgerCorruptError):
        Ledger(attacked.store).verify()
    attacked.state.entries[0] = attacked.state.entries[1]
    assert attacked.first_bad() == 0


def test_reading_alone_refuses_a_valid_entry_that_was_put_in_the_place_of_another(attacked):
    """P1: what admission and reports read is proved to be under the signed head, without a full audit before."""
    attacked.state.entries[3] = forge("forged")
    for read in (lambda ledger: list(ledger.entries()), lambda ledger: ledger.entry(3), lambda ledger: next(ledger.entries(2))):
        with pytest.raises(LedgerCorruptError) as refused:
            read(Ledger(attacked.store))
        assert refused.value.index == 3
    attacked.recompute()
    with pytest.raises(LedgerCorruptError):
        list(Ledger(attacked.store).entries())


def test_a_long_ledger_is_read_page_by_page(ledger):
    ledger.append_all([revoked(number) for number in range(600)], ANA)
    assert [entry.index for entry in ledger.entries()] == list(range(606))
    assert [entry.index for entry in ledger.entries(599)] == list(range(599, 606))
    reading = ledger.entries()
    first = next(reading)
    ledger.append(revoked(-1), ANA)  # recorded while somebody reads
    assert [first.index, *(entry.index for entry in reading)] == list(range(607))
