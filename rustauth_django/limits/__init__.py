"""Requests and their limits: which apply, what they count, and what a client sees."""
