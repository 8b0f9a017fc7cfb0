"""Quotas: which organisation may use which model, how often, how much, until when."""

from ai_ledger.policies.quotas.quota import EVERY, ModelSwitch, Quota, QuotaUse
from ai_ledger.policies.quotas.quotas import Quotas

__all__ = ["EVERY", "ModelSwitch", "Quota", "QuotaUse", "Quotas"]
