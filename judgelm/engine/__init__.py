"""Engines: requests in, generations out."""
