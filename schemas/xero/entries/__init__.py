"""The time entries in Xero, without the client that reads and writes them."""
