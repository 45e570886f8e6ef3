"""The HTTP entry point: handlers authorize, read, write and answer."""
