"""The tables of words."""
