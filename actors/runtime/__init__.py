"""The runtime of handlers: relay, worker, attempts, external calls, rescuer and replays."""
