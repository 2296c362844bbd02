"""What this project costs beside its peers: ``make bench``."""
