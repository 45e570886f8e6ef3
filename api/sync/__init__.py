"""Two-way sync and live events."""
