"""The command line of `./stint`: its parser, its options, and how its output looks."""
