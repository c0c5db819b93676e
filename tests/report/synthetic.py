"""Run directories as train.py leaves them, drawn from a seed: as many breeds and steps as a test asks for."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from dogbreeds.debug.measurements import Gpu, Phase, Sample, StepTimes
from dogbreeds.debug.record import EVAL, TRAIN, Facts, Row, Statistics
from dogbreeds.files import json_text
from dogbreeds.run_directory import PHASES, RECORD, STEPS, SYSTEM
from dogbreeds.training.history import COLUMNS, History

BEGAN = 1_800_000_000.0
CONFIG = {
    "lr": 0.01,
    "batch_size": 256,
    "epochs": 10,
    "seed": 0,
    "run_dir": "outputs/drawn",
    "data": {"dir": "nowhere/dog_breeds"},
    "model": {"backbone": "resnet50", "weights": "imagenet", "head": "linear"},
}
_PARTS = ("terrier", "hound", "spaniel", "retriever", "collie", "pointer", "setter")


@dataclass
class Drawn:
    """What a run directory is drawn from.

    Attributes:
        directory: Where it is written.
        classes: How many breeds.
        epochs: How many have ended.
        seed: Of all that is random.
    """

    directory: Path
    classes: int = 3
    epochs: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.folders = [f"{n + 1:03d}.Breed_{n + 1}_{_PARTS[n % len(_PARTS)]}" for n in range(self.classes)]
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "debugger").mkdir(exist_ok=True)
        (self.directory / "profiler").mkdir(exist_ok=True)

    def everything(self) -> Path:
        """Writes all files of a finished run."""
        self.config()
        self.history()
        self.metrics()
        self.record()
        self.facts()
        self.rules()
        self.measurements()
        self.operators()
        self.predictions()
        self.audit()
        return self.directory

    def audit(self) -> None:
        """Writes one photo for each suspicion."""
        one, other = self.folders[:2]
        (self.directory / "audit.csv").write_text(
            "path,label,split,suspicion,suggested,score\n"
            f"../secret.jpg,{one},train,label,{other},0.0123\n"
            f"train/{one}/2.jpg,{one},train,duplicate,test/{other}/1.jpg,0.98\n"
            f"test/{other}/<3>.jpg,{other},test,outlier,,4.25\n"
        )

    def config(self, **changed: object) -> Path:
        OmegaConf.save(OmegaConf.create({**CONFIG, **changed}), self.directory / "config.yaml")
        return self.directory

    def history(self) -> None:
        history = History(self.directory / "history.csv")
        for epoch in range(1, self.epochs + 1):
            values = {"train/loss": 2 / epoch, "val/loss": 0.5 + 1 / epoch, "val/accuracy": 1 - 0.5 / epoch}
            history.add(dict.fromkeys(COLUMNS, 0.25) | {"epoch": epoch, "step": 10 * epoch} | values)

    def confusion(self) -> list[list[int]]:
        """Mostly right, and next breeds taken for each other."""
        matrix = np.diag(self.random.integers(4, 8, self.classes))
        for row in range(self.classes):
            matrix[row, (row + 1) % self.classes] += self.random.integers(0, 3)
        return [[int(count) for count in row] for row in matrix]

    def metrics(self, *, dense: bool = False, **changed: object) -> None:
        """Writes metrics.json, with `dense` as older runs did."""
        found: dict[str, object] = {}
        for split in ("test", "val"):
            matrix = np.array(self.confusion())
            found |= {
                f"{split}/accuracy": float(matrix.trace() / matrix.sum()),
                f"{split}/top5_accuracy": 0.98,
                f"{split}/macro_f1": 0.8,
                f"{split}/loss": 0.61,
                f"{split}/calibration_error": 0.03,
                f"{split}/calibration_error_uncalibrated": 0.06,
                f"{split}/per_class_accuracy": (matrix.diagonal() / matrix.sum(axis=1)).tolist(),
            }
            if dense:
                found[f"{split}/confusion"] = matrix.tolist()
        found |= {"reference/test_accuracy": 0.8, "reference/val_accuracy": 0.8, "reference/val_loss": 0.55}
        found |= {f"reference/{split}_{kind}": 0 for split in ("test", "val") for kind in ("only", "missed")}
        found["reference/strength"] = 0.03
        found |= {
            "classes": self.folders,
            "images": {"train": 50 * self.classes, "valid": 7 * self.classes, "test": 7 * self.classes},
            "unreadable": 0,
            "in_several_splits": 0,
            "features": {"computed": 0, "reused": 64 * self.classes, "precision": "bf16"},
            "epochs": self.epochs,
            "temperature": 1.26,
            "pretrained": True,
            "debug": False,
            "seconds": {"features": 9.1, "training": 0.6, "total": 22.4},
        }
        (self.directory / "metrics.json").write_text(json_text(found | changed))

    def record(self, steps: int = 60, layers: Sequence[str] = ("head.weight", "head.bias")) -> None:
        lines = []
        for step in range(steps):
            tensors = {
                f"{kind}/{layer}": self._statistics(size / (step + 1))
                for kind, size in (("weight", 0.1), ("gradient", 0.01), ("update", 0.001))
                for layer in layers
            }
            scalars = {"loss": 5 / (step + 1), "lr": 0.01, "gradient_norm": 3 / (step + 1)}
            epoch = 1 + step // 10
            lines.append(Row(TRAIN, step, epoch, BEGAN + 10 + step / 10, scalars, tensors).line())
            if step % 10 == 9:
                lines.append(Row(EVAL, step + 1, epoch, BEGAN + 10 + step / 10, {"loss": 0.5 + 1 / step}).line())
        (self.directory / RECORD).write_text("".join(f"{line}\n" for line in lines))

    def _statistics(self, size: float) -> Statistics:
        numbers = {one.name: 0.0 for one in fields(Statistics)} | {"mean_absolute": size, "variance": size**2}
        numbers |= {"minimum": -3 * size, "p5": -2 * size, "p95": 2 * size, "maximum": 3 * size}
        return Statistics(**numbers | {"nan": 0, "infinite": 0})  # type: ignore[arg-type]

    def facts(self, **changed: object) -> None:
        counts = {folder: int(self.random.integers(26, 78)) for folder in self.folders}
        known: dict[str, object] = {
            "class_counts": counts,
            "images": {"train": sum(counts.values()), "valid": 7 * self.classes, "test": 7 * self.classes},
            "backbone": "resnet50",
            "epochs": 10,
            "versions": {"dogbreeds": "0.1.0", "torch": "2.10.0"},
            "machine": {"cores": "2", "system": "Linux"},
        }
        Facts(**known | changed).save(self.directory)  # type: ignore[arg-type]

    def rules(self) -> None:
        entries = [
            rule("AllZero", "NoIssuesFound"),
            rule(
                "Confusion", "IssuesFound", f"64% of {self.folders[0]} are classified correctly", "Look at the photos."
            ),
            rule("ExplodingTensor", "Error", "KeyError: 'loss'"),
            rule("Overfit", "IssuesFound", "at step 12 the validation loss is above", "Try fewer epochs."),
            rule("StalledTrainingRule", "NotApplicable", "no step yet"),
        ]
        (self.directory / "rules.json").write_text(json.dumps({"rules": entries}))

    def measurements(self, samples: int = 120, gpus: int = 0) -> None:
        names = ("start-up", "features", "exact reference", "training", "evaluation", "package")
        phases = [Phase(name, BEGAN + 4 * place, BEGAN + 4 * place + 4) for place, name in enumerate(names)]
        write(self.directory / PHASES, [phase.line() for phase in phases])
        drawn = self.random.random((samples, 6))
        rows = []
        for place, (cpu, read, written, received, sent, own) in enumerate(drawn.tolist()):
            card = Gpu(100 * cpu, int(4e9), int(80e9), 200.0, 50.0)
            rows.append(
                Sample(
                    at=BEGAN + 24 * place / samples,
                    cpu=100 * cpu,
                    cores=(100 * cpu, 100 * cpu),
                    io_wait=read,
                    memory=40.0,
                    memory_used=int(3e9),
                    read=5e7 * read,
                    written=1e7 * written,
                    received=1e6 * received,
                    sent=1e6 * sent,
                    own_cpu=200 * own,
                    own_memory=int(1e9 + 1e6 * place),
                    gpus=(card,) * gpus,
                )
            )
        write(self.directory / SYSTEM, [row.line() for row in rows])
        times = 0.001 * (1 + self.random.random((100, 6)))
        times[40, 0] = 0.5
        steps = [StepTimes(n, 1 + n // 10, BEGAN + 12 + n / 100, *row) for n, row in enumerate(times.tolist())]
        write(self.directory / STEPS, [step.line() for step in steps])

    def operators(self) -> None:
        rows = [
            {"name": name, "calls": 40, "cpu_ms": 12.3, "device_ms": 0.0} for name in ("aten::addmm", "aten::<cat>")
        ]
        text = json.dumps({"steps": 10, "operators": rows})
        (self.directory / "profiler/operators.json").write_text(text)
        (self.directory / "profiler/trace.json.gz").write_bytes(b"")

    def predictions(self) -> None:
        header = [
            *("split", "path", "breed", "answer"),
            *("probability", "breed_probability", "second", "second_probability"),
        ]
        rows: list[list[object]] = []
        for split in ("valid", "test"):
            for number in range(7 * self.classes):
                breed = self.folders[number % self.classes]
                other = self.folders[(number + 1) % self.classes]
                probability = float(self.random.uniform(0.35, 1))
                is_right = self.random.random() < probability
                answer, second = (breed, other) if is_right else (other, breed)
                rest = (1 - probability) / 2
                own = probability if is_right else rest
                rows.append([split, f"{split}/{breed}/{number}.jpg", breed, answer, probability, own, second, rest])
        with (self.directory / "predictions.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])


def rule(name: str, status: str, message: str = "", advice: str = "") -> dict[str, object]:
    """An entry of rules.json."""
    steps = [12, 16] if status == "IssuesFound" else []
    described = {"name": name, "description": f"What {name} says.", "status": status, "count": len(steps)}
    return {**described, "message": message, "advice": advice, "steps": steps, "parameters": {"threshold": 0.1}}


def write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
