"""Signing in at a user pool outside Stint."""
