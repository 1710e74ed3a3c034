"""waferline: how fast, how big and how costly an ML model runs on any machine, and how we know."""
