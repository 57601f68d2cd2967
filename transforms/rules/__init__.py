"""What is decided: one rule a file, pure functions. No Beam, no IO, no clock."""
