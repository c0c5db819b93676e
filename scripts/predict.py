"""Ask a model, a server or an endpoint for breeds: python scripts/predict.py package=<run> images=<photos>."""

from dogbreeds.commands import predict

if __name__ == "__main__":
    predict()
