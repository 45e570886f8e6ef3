"""What the OpenAPI document says about each route: its tag, its name, and the errors that it can give."""
