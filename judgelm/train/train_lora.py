"""Published script: fine-tune a LoRA or QLoRA adapter of a judge."""

from judgelm.train.train import main

if __name__ == "__main__":
    main(lora=True)
