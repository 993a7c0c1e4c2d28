"""The encoders, from files of weights to what serving reads."""
