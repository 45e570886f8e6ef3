"""The ground floor: every shape that crosses a door, the tables, and the SQL that fills them."""
