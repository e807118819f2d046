"""Where the networks are cut when their top two blocks are thawed: a table, one row a network, at its usual image size.

python benchmarks/cuts.py [--write]

`--write` rewrites docs/cuts.md. Takes two minutes and 3 GiB; the weights are random, for they change nothing here.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import keras

from job.config import Model, UnfreezeBlocks
from job.model.backbones import LITE0, application_names, build_base
from job.model.cut import MACS_PER_BYTE, cheapest_cut, cuts, legal_cuts
from job.model.freezing import thaw

FILE = Path(__file__).parents[1] / "docs" / "cuts.md"
SIZES = {
    "efficientnetb1": 240,
    "efficientnetb2": 260,
    "efficientnetb3": 300,
    "efficientnetb4": 380,
    "efficientnetb5": 456,
    "efficientnetb6": 528,
    "efficientnetb7": 600,
    "efficientnetv2b1": 240,
    "efficientnetv2b2": 260,
    "efficientnetv2b3": 300,
    "efficientnetv2l": 480,
    "efficientnetv2m": 480,
    "efficientnetv2s": 384,
    "inceptionresnetv2": 299,
    "inceptionv3": 299,
    "nasnetlarge": 331,
    "xception": 299,
}
"""Where it isn't 224."""
FLOAT16 = 2
HEADER = """\
| network | pixels | multiply-adds, G | cuts | cut | KiB | work below, % |
| --- | --- | --- | --- | --- | --- | --- |
"""
TEXT = f"""\
# Where the networks are cut

Whatever lies below a cut is computed once for each example and stored. A cut is a tensor through which everything flows
from the pixels to the features: the layers' calls are walked in topological order, and where a call makes one tensor
and nothing made before it is used after it, that tensor is a cut. A rule for `unfreeze` allows the cuts below all that
it thaws. Of these the cheapest is taken: the multiply-adds left above it, and {MACS_PER_BYTE} for each of its bytes
(storing and reading one costs as much in an epoch, on two cores). So a tensor that a block has expanded loses to the
narrower one below it, and a network in which each cell reads the two before it (NASNet) has no cut worth storing.

The table has the cut under the top two blocks (`unfreeze: {{blocks: 2}}`), its size in float16 for each example, and
the share of the multiply-adds that the stored tensor saves. `python benchmarks/cuts.py --write` makes it.

"""


def main(write: bool) -> None:
    print(HEADER, end="", flush=True)
    rows = []
    for name in [LITE0, *application_names()]:
        rows.append(row(name, SIZES.get(name, 224)))
        print(rows[-1], flush=True)
        keras.utils.clear_session()
        gc.collect()
    if write:
        FILE.write_text(TEXT + HEADER + "\n".join(rows) + "\n")


def row(name: str, size: int) -> str:
    base = build_base(Model(backbone=name, image_size=size, weights="none"))
    thaw(base, UnfreezeBlocks(blocks=2))
    cut = cheapest_cut(legal_cuts(base), FLOAT16)
    assert cut is not None
    total = cut.work_below + cut.work_above
    kib, share = cut.values * FLOAT16 / 1024, 100 * cut.work_below / total
    return f"| {name} | {size} | {total / 1e9:.2f} | {len(cuts(base))} | `{cut.layer}` | {kib:.0f} | {share:.0f} |"


if __name__ == "__main__":
    main("--write" in sys.argv[1:])
