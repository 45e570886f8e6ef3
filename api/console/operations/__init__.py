"""Pages for the people on call: queues and processes, dead letters and replays."""
