"""Limits on requests: which apply, what they count, and what a client is answered."""
