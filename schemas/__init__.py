"""What things are: values, bytes, hashes and the protocols of stores. No Beam, no IO, no clock, no logging."""
