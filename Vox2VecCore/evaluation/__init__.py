"""What an embedding is good for, measured on labelled scans of a manifest and written down as a report."""
