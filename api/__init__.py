"""The HTTP door: authorize, read, write, answer."""
