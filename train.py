"""Train a classifier from folders of photos: python train.py lr=0.01 batch_size=256."""

from dogbreeds.commands import train

if __name__ == "__main__":
    train()
