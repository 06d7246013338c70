"""Published script: fine-tune a judge, with PyTorch's memory-efficient attention."""

from judgelm.train.train import main

if __name__ == "__main__":
    main(flash=False)
