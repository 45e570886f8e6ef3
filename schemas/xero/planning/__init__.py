"""What a bill may need from Xero: the kinds of steps, and the look for an entry that Stint does not know any more."""
