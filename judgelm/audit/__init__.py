"""A judge's biases."""
