"""The admin site: what holds on each of its pages, whichever model they are about."""
