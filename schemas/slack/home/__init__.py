"""App Home: what it shows, what keeps it current, and its record."""
