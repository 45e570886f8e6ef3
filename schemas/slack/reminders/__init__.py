"""Messages to people about their own hours: at the end of their working day, and about the week before."""
