"""The judge in other people's tools: one file a tool, imported by nothing else here."""
