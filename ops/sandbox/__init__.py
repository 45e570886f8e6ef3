"""Stand-ins for external services: HTTP servers that can be told to fail. For the tests, and for `./stint up --sandbox`."""
