"""The queue door: one message in, one transaction out."""
