"""What a run took: chained events, meters, the workspace's count of runs, and the receipt that sums them up."""

from fathom.ledger.book import Ledger, read

__all__ = ["Ledger", "read"]
