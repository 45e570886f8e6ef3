"""The terminal door: what a person runs. It starts the other two doors as processes and never imports them."""
