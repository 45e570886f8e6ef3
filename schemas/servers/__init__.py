"""Which of several servers of one kind is tried first, and how long a request to one may take."""
