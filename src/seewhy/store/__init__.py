"""The one way anything long is kept: plan first, then shards that are whole or absent.

The manifest is the plan, which is frozen before the work begins and never updated: a shard is committed by the one
atomic step that gives its file the name that the plan foresaw, so no second file can disagree with it. Each file
carries the SHA-256 of its bytes, its plan and its number, so that neither a record per shard (two files, and a moment
between them) nor a journal (torn lines, and processes that share its end) is needed to tell whole from damaged.
"""

from seewhy.store.plan import Item, Plan
from seewhy.store.rows import Failed
from seewhy.store.work import Counts, Store, Work

__all__ = ["Counts", "Failed", "Item", "Plan", "Store", "Work"]
