"""Texts: what people type after `/task`, and times as they are shown. Pure functions."""
