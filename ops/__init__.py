"""The command line, `./stint`. It starts the API, workers and relay as processes, and never imports them."""
