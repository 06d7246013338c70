"""The commands of `judgelm`: flags -> settings -> a call."""
