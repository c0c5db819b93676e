"""Draw a small set of procedural dogs as breed folders: python scripts/make_sample.py"""

from __future__ import annotations

from omegaconf import DictConfig

from dogbreeds.entry import entry_point


@entry_point("make_sample")
def main(cfg: DictConfig) -> None:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

    from dogbreeds.data.sample import make_sample

    console = Console(stderr=True)
    with Progress(transient=True, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Drawing dogs", total=None)
        make_sample(
            Path(cfg.dir),
            breeds=cfg.breeds,
            train=cfg.train,
            valid=cfg.valid,
            test=cfg.test,
            pixels=cfg.pixels,
            seed=cfg.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    per_breed = f"{cfg.train} train, {cfg.valid} valid and {cfg.test} test pictures each"
    print(f"{cfg.dir} holds {cfg.breeds} drawn breeds with {per_breed}.")
    print("Next: python train.py data=sample model=resnet18 model.weights=random")


if __name__ == "__main__":
    main()
