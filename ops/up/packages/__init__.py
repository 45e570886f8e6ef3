"""Programs that `./stint` needs: found on the machine, or fetched from packages."""
