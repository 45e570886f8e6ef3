"""The scopes that the app needs in Slack: docs/slack.md has the same in its manifest."""

SCOPES = {
    "commands": "/task, and Create task",
    "chat:write": "confirmations, nudges, and messages about time bills",
    "chat:write.public": "confirmations in public channels without the app",
    "users:read": "the users of Slack",
    "users:read.email": "the e-mail address of a user, by which Stint finds its own user",
    "channels:read": "the public channels to choose from, and that one is renamed, archived or deleted",
    "groups:read": "the private channels to choose from, and that one is renamed, archived or deleted",
    "channels:history": "whether a post in a public channel arrived whose response was lost",
    "groups:history": "whether a post in a private channel arrived whose response was lost",
    "links:read": "previews of links to tasks",
    "links:write": "previews of links to tasks",
}
