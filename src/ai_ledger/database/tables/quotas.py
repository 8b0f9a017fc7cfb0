"""The tables of quotas."""
