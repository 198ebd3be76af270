"""Makes the data of one task: `data_make.py TASK [--quick]`, in the environment `data`."""

from __future__ import annotations

import importlib
import sys

MODULES = {
    "efficientnet_lite0": "data_photos",
    "pp_ocrv4_rec": "data_lines",
    "pp_ocrv4_det": "data_pages",
    "minilm_l6": "data_sentences",
    "minilm_l6_pruning": "data_sentences",
    "magika": "data_files",
    "fashion_cnn": "data_garments",
    "fashion_residual": "pruning_data",
    "efficientnet_lite0_pruning": "data_pictures",
}

if __name__ == "__main__":
    if sys.argv[1] == "many":
        importlib.import_module("data_photos").make_many()
    else:
        importlib.import_module(MODULES[sys.argv[1]]).make("--quick" in sys.argv)
