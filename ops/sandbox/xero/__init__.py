"""The stand-in for Xero."""
