"""Two-way sync of desktop clients, and live events."""
