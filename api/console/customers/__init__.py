"""Pages of customers: the list, and for each customer its pillars and details, people, tasks, and mappings to Xero and Slack.

All of the firm's own people may read and write them, as in the API.
"""
