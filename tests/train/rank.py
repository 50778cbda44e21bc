"""One process of a small run under `torchrun`: python rank.py FOLDER STEPS [STOP_AFTER]."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from tiny_training import MIXTURE, TinyBatches, tiny_recipe

from fathom.ledger import Ledger
from fathom.train.loop import open_ledger, train
from fathom.train.parallel import Parallel
from fathom.train.run_folder import RunFolder


def main(folder: Path, steps: int, stop_after: int) -> None:
    torch.set_num_threads(1)
    parallel = Parallel.from_environment()
    recipe = tiny_recipe({**MIXTURE, "num_mtp_layers": 1}, train={"steps": steps, "micro_batch_rows": 1})
    ledger: Ledger = open_ledger(recipe, folder) if parallel.writes else None
    if parallel.writes:
        RunFolder(folder).write_recipe(recipe)
    parallel.wait()

    def stop(now) -> None:
        if now.step == stop_after:
            os._exit(3)

    batches = TinyBatches(recipe.train.rows_per_step, recipe.train.sequence_length)
    train(recipe, folder, batches, ledger=ledger, parallel=parallel, progress=stop)
    if parallel.writes:
        ledger.end("completed")
    parallel.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int([*sys.argv, "0"][3]))
