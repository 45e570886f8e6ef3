"""Handlers of messages: one function per message. The code that runs them is in actors/runtime/."""
