"""The windows: calls to the outside, each with a deadline."""
