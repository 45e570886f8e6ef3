"""The page of the connections, for admins: Xero, Slack, mail, and the servers that Stint needs."""
