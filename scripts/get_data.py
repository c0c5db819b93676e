"""Download a public dog-breed set as breed folders: python scripts/get_data.py dataset=dog_breeds."""

from dogbreeds.commands import get_data

if __name__ == "__main__":
    get_data()
