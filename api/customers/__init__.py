"""Customers, their pillars, tasks, users and channels; focus and leads."""
