"""Serving: controller, model workers, an HTTP API, a web page and a chat in the terminal."""
