"""A small ledger of made-up people, and what tests of the ledger share."""

import pytest
from hypothesis import settings
from tests.ledger.material import make_ledger


@pytest.fixture
def ledger():
    """Six entries by three keys, in memory."""
    return make_ledger()


# How long one example takes says more about who else uses the machine than about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
