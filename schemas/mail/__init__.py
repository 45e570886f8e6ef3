"""Mail: the texts, and sending by SMTP."""
