"""Published systems as runnable cases: each file of `cases/` declares a `STUDY`."""
