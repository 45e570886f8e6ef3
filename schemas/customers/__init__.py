"""Customers, their pillars, tasks, users and channel mappings."""
