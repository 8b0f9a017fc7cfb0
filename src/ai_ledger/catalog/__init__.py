"""
The catalogue: providers and models as rows of the ledger's database.

Importing this package loads neither an SDK nor a database.
"""

from ai_ledger.catalog.catalog import Catalog
from ai_ledger.catalog.entries import ModelEntry, ProviderEntry
from ai_ledger.catalog.files import ImportReport
from ai_ledger.catalog.trial import TestResult

__all__ = ["Catalog", "ImportReport", "ModelEntry", "ProviderEntry", "TestResult"]
