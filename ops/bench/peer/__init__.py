"""The peer of `./stint bench`: a small service that an engineer writes in a day, without a queue."""
