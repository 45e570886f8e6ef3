"""What an API process finds to be wrong with the installation, for commands that ask it."""
