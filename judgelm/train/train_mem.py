"""Published script: fine-tune a judge, with flash-attn 2, or PyTorch's attention where it cannot be had."""

from judgelm.train.train import main

if __name__ == "__main__":
    main(flash=True)
