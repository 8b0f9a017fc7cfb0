"""What calls cost: dated prices, how a call finds its own, and pricing again."""

from ai_ledger.pricing.convert import Converted, Rate, Rates
from ai_ledger.pricing.price import Price, Tier
from ai_ledger.pricing.reprice import PriceChange, RepriceReport, reprice
from ai_ledger.pricing.table import PriceTable

__all__ = [
    "Converted",
    "Price",
    "PriceChange",
    "PriceTable",
    "Rate",
    "Rates",
    "RepriceReport",
    "Tier",
    "reprice",
]
