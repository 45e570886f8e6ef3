"""The connection to RabbitMQ, for relays and for those who look whether it can be used."""
