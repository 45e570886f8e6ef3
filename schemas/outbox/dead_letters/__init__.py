"""Dead letters: lists, details, what people do with them, replays, and unrecognized messages."""
