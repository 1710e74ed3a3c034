"""Other tools on the same published rows: each in an environment of its own, asked through its public interface."""
