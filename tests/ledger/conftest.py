"""A small ledger of made-up people, and what tests of the ledger share."""

import pytest
from tests.ledger.material import make_ledger


@pytest.fixture
def ledger():
    """Six entries by three keys, in memory."""
    return make_ledger()
