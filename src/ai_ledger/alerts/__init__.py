"""What needs a person: raised once, acknowledged or ignored, resolved."""
