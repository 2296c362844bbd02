"""Attacks on real servers: what is promised holds against whoever tries."""
