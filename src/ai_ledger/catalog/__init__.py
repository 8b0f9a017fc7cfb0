"""Providers and models as rows: where they are, what they cost, whether they may be called."""
