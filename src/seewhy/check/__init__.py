"""Does a method keep what every method promises? `check_explainer` says so, promise by promise."""

from seewhy.check.contract import Check, Contract, check_explainer

__all__ = ["Check", "Contract", "check_explainer"]
