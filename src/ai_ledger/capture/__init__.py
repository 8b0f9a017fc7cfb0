"""Noticing calls: the client, the decorator, and what they share."""
