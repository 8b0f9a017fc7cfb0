"""What a budget counts, and for whom: pure rules over records and moments."""
