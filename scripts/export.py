"""Write a model for another runtime: python scripts/export.py package=<run directory> format=onnx out=dogs.onnx."""

from dogbreeds.commands import export

if __name__ == "__main__":
    export()
