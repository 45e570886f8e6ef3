"""Changes that people make by hand in the time entries of bills: what they are, telling the admins, and accepting them."""
