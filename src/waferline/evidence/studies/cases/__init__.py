"""One file a study; every module here has one `STUDY` and is found by its file name."""
