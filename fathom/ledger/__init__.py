"""What a run took: chained events, meters, the workspace's count of runs, and the receipt that sums them up."""

from fathom.ledger.book import Ledger
from fathom.ledger.reading import read
from fathom.ledger.verify import verify

__all__ = ["Ledger", "read", "verify"]
