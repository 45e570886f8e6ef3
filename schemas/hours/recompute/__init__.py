"""Recomputing the bills of a whole scope: a job, and the chunks in which it runs."""
