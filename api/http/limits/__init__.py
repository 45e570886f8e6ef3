"""Limits on what a request may cost before a handler runs: clients, JSON texts, lists of errors."""
