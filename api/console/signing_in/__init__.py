"""Signing in to the console, and signing out."""
