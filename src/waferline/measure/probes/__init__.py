"""What the machine itself can do, apart from any operator: reading, arithmetic, starting work."""
