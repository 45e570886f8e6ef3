"""Commands about the `./stint up` that runs: to stop it, and to read its logs."""
