"""The server that DATABASE_URL leads to: what it is, whether Stint can work with it, and why not."""
