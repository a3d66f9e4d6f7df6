"""The public tasks that `cargo bench --bench methods -- judge` asks, laid out as slim reads them.

    python tests/real/methods_data.py DATA FOLDER        then: data=FOLDER/hub tasks=…

DATA holds the documents as eval_parity.py reads them. kv_retrieval is cut to 3 of its 75 pairs: small models cannot
do more.
"""

import pathlib
import sys

from eval_parity import prepare, write

PAIRS = 3
data, folder = map(pathlib.Path, sys.argv[1:])
for task in ("arc_easy", "popqa", "nq_open_context", "piqa", "winogrande", "blimp", "lambada_openai"):
    prepare(task, data, folder)
documents = prepare("kv_retrieval", data, folder)
for i, document in enumerate(documents):
    others = [pair for pair in document["ordered_kv_records"] if pair[0] != document["key"]][: PAIRS - 1]
    # The asked-for pair stands at each place as often.
    others.insert(i % PAIRS, [document["key"], document["value"]])
    document["ordered_kv_records"] = others
write(folder / "hub" / "kv_retrieval" / "data" / "test.jsonl", documents)
