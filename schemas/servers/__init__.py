"""Which of several servers of one kind is tried first."""
