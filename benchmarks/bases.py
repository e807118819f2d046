"""Whether each network of keras.applications answers here as Keras's own: a table, one row a network.

python benchmarks/bases.py [--write] [NAME …]

`--write` rewrites docs/bases.md's table. The weights are stand-ins in the format that Keras downloads (this needs no
internet). Takes 20 minutes and 10 GiB on two cores.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import keras

from job.model.applications import application_names
from support.bases import difference, size_of, stand_in

PAGE = Path(__file__).parents[1] / "docs/bases.md"
HEADER = """\
| network | pixels | features | layers compared | first beyond 1e-4 | largest difference of a layer | of the features |
| --- | --- | --- | --- | --- | --- | --- |
"""
ABOVE = 1e-4


def main(names: list[str], write: bool) -> None:
    print(HEADER, end="", flush=True)
    rows = []
    for name in names:
        rows.append(row(name))
        print(rows[-1], flush=True)
        keras.utils.clear_session()
        gc.collect()
    if write:
        before, _, after = PAGE.read_text().partition(HEADER)
        rest = after.split("\n\n", 1)[1] if "\n\n" in after else ""
        PAGE.write_text(before + HEADER + "\n".join(rows) + "\n" + (f"\n{rest}" if rest else ""))


def row(name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = stand_in(name, Path(folder, "notop.h5"))
        found = difference(name, file, Path(folder))
    first, largest = found.first_above(ABOVE) or "none", max(found.layers.values())
    size = size_of(name)
    return (
        f"| {name} | {size} | {found.length} | {len(found.layers)} of {found.all_layers} | {first} | {largest:.1e} | "
        f"{found.features:.1e} |"
    )


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main([one for one in arguments if one != "--write"] or application_names(), "--write" in arguments)
