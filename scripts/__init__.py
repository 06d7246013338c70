"""What keeps the repository: pages, layers, the embedded judge."""
