"""The server, requests, answers and the OpenAPI document."""
