"""What containers of the classic contract call."""

from dogbreeds.package.predictor import input_fn, model_fn, output_fn, predict_fn

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn"]
