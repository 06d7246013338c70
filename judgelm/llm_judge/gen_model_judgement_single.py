"""Published script: judge a JSONL file, task single."""

from judgelm.commands.published import published_main

if __name__ == "__main__":
    published_main("single")
