"""What the state of the installation is, as far as Postgres knows, and what is wrong with it."""
