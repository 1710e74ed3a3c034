"""The app: one local process that shows in a browser what the commands answer."""
