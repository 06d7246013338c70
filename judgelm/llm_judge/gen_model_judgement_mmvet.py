"""Published script: judge a JSONL file, task mmvet."""

from judgelm.commands.published import published_main

if __name__ == "__main__":
    published_main("mmvet")
