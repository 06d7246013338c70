"""A server with OpenAI's API as the judge."""
