"""The pages of hours: a person's own week, and a week of everybody's time bills to approve."""
