"""A server that speaks OpenAI's API as an engine."""

from judgelm.engine.openai.server import Server

__all__ = ["Server"]
