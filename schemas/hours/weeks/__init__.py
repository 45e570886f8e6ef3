"""A week of the firm's people, as pages show it."""
