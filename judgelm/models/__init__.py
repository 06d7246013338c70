"""Model folders: found, loaded, merged."""
