"""The transactional outbox: messages, their attempts, dead letters and replays."""
