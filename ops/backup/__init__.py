"""`./stint backup` and `./stint restore`: archives of the database, and the way back from one (docs/operations.md, Backups)."""
