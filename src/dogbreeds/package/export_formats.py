"""The export formats: how each is written, loaded and run."""

import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dogbreeds.features.engines.cpu import import_openvino

INPUT, OUTPUT = "images", "probabilities"

Array = NDArray[np.float32]
#: From uint8 images (N, 3, H, W) to float32 probabilities (N, classes).
Run = Callable[[NDArray[np.uint8]], Array]


@dataclass(frozen=True)
class Format:
    """How a format is written, from a graph, the side of its images in pixels, the metadata and a path, and loaded."""

    ending: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, int, dict[str, str], Path], None]
    load: Callable[[Path], Run]


def _example(side: int) -> Tensor:
    # With one image, some exporters take the batch size for a constant.
    return torch.zeros(2, 3, side, side, dtype=torch.uint8)


def _write_onnx(graph: nn.Module, side: int, about: dict[str, str], path: Path) -> None:
    # It logs its progress, and operators of packages that are not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        graph,
        (_example(side),),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(about)
    program.save(path)


def _load_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _write_pt2(graph: nn.Module, side: int, about: dict[str, str], path: Path) -> None:
    program = torch.export.export(graph, (_example(side),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    # Torch itself aborts the process where a disk is full.
    saved = io.BytesIO()
    torch.export.save(program, saved, extra_files=about)
    path.write_bytes(saved.getbuffer())


def _load_pt2(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


def _write_openvino(graph: nn.Module, side: int, about: dict[str, str], path: Path) -> None:
    openvino = import_openvino()
    model = openvino.convert_model(graph, example_input=_example(side), input=[-1, 3, side, side])
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    for name, text in about.items():
        model.set_rt_info(text, ["dogbreeds", name])
    openvino.save_model(model, path, compress_to_fp16=False)


def _load_openvino(path: Path) -> Run:
    compiled = import_openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled({INPUT: images})[OUTPUT]


#: By the value of the setting `format`.
FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx),
    "pt2": Format(".pt2", (), _write_pt2, _load_pt2),
    "openvino": Format(".xml", ("openvino",), _write_openvino, _load_openvino),
}
