"""Published script: metrics of judgement files against a teacher."""

from judgelm.commands.published import evaluate_main

if __name__ == "__main__":
    evaluate_main()
