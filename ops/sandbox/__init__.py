"""Stand-ins for services outside: real HTTP servers that can be told to fail. For the tests, and for `./stint up --sandbox`."""
