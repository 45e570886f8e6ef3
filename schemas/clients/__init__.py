"""The windows: calls to the outside, each with a deadline."""

# servers there are the same machine: what goes to them crosses no network
LOOPBACK = ("127.0.0.1", "::1", "localhost")
