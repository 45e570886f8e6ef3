"""What the commands of `/task` find, show and change, beyond what buttons do, too (schemas/slack/task_actions.py)."""
