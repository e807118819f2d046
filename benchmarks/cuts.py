"""How the networks divide into blocks, and where they are cut when the top two are thawed: two tables, one row a
network, at its usual image size.

python benchmarks/cuts.py [--write]

`--write` rewrites docs/blocks.md and docs/cuts.md. Takes two minutes and 3 GiB; the weights are random, for they change
nothing here.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import keras

from job.config import LITE, Model, UnfreezeBlocks
from job.model.backbones import application_names, build_base
from job.model.cut import MACS_PER_BYTE, cheapest_cut, cuts, legal_cuts
from job.model.freezing import block_sizes, blocks, depths, thaw

DOCS = Path(__file__).parents[1] / "docs"
SIZES = {
    "efficientnet_lite1": 240,
    "efficientnet_lite2": 260,
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


BLOCKS_HEADER = """\
| network | blocks | 1 | 2 | 3 | 4 |
| --- | --- | --- | --- | --- | --- |
"""
BLOCKS_TEXT = """\
# What a block is

`unfreeze: {blocks: n}` thaws the top n blocks of the network, `unfreeze: auto` one after another, and `thaw sweep`
compares them. A network divides as its family names its layers (`block5_conv1` is in `block5`); Inception's and
NASNet's cells end at the layer that joins them. Where names tell nothing, as in most networks of one's own, each
layer with weights is a block, together with the weightless layers above it. What lies above the last named block,
such as the last convolution of an EfficientNet, belongs to that block. Batch normalization stays frozen in all of
them.

The table has the top four blocks of each network, from the top, each with the parameters that it adds to those that
train (0: it holds nothing that could, and `auto` passes over it). `python benchmarks/cuts.py --write` makes it.

"""
TOP = 4


def main(write: bool) -> None:
    print(HEADER, end="", flush=True)
    cut_rows, block_rows = [], []
    for name in [*LITE, *application_names()]:
        base = build_base(Model(backbone=name, image_size=SIZES.get(name, 224), weights="none"))
        cut_rows.append(cut_row(name, base))
        block_rows.append(block_row(name, base))
        print(cut_rows[-1], flush=True)
        del base
        keras.utils.clear_session()
        gc.collect()
    if write:
        (DOCS / "cuts.md").write_text(TEXT + HEADER + "\n".join(cut_rows) + "\n")
        (DOCS / "blocks.md").write_text(BLOCKS_TEXT + BLOCKS_HEADER + "\n".join(block_rows) + "\n")


def cut_row(name: str, base: keras.Model) -> str:
    thaw(base, UnfreezeBlocks(blocks=2))
    cut = cheapest_cut(legal_cuts(base), FLOAT16)
    assert cut is not None
    total, size = cut.work_below + cut.work_above, base.input_shape[1]
    kib, share = cut.values * FLOAT16 / 1024, 100 * cut.work_below / total
    return f"| {name} | {size} | {total / 1e9:.2f} | {len(cuts(base))} | `{cut.layer}` | {kib:.0f} | {share:.0f} |"


def block_row(name: str, base: keras.Model) -> str:
    found = blocks(base)
    thaw(base, UnfreezeBlocks(blocks=max(depths(base, len(found)))))
    rows = block_sizes(base)[::-1]
    top = " | ".join(f"`{block}` {_thousands(trainable)}" for block, _, _, trainable in rows[:TOP])
    return f"| {name} | {len(found)} | {top} |"


def _thousands(count: int) -> str:
    if not count:
        return "0"
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count / 1e3:.1f} K"


if __name__ == "__main__":
    main("--write" in sys.argv[1:])
