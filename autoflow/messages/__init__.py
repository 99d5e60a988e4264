"""Messages to people: what they are notified of, once each, and how messages are sent through Apprise."""
