"""Serve a model over HTTP: python scripts/serve.py package=<run directory> port=8080."""

from dogbreeds.commands import serve

if __name__ == "__main__":
    serve()
