"""The domain: models, tables and the SQL that reads and writes them. The entry points api, actors and ops import it."""
