#!/bin/sh
# Prunes a model, holds it against the original, and leaves in OUT what a pipeline publishes:
#
#     prune.sh MODEL OUT GATES [option of slim prune …]
#
# The exit code is slim's: 0 all gates passed, 1 a gate failed (model and reports are there), 2 an error.
set -u
if [ $# -lt 3 ]; then
    echo "usage: $0 MODEL OUT GATES [option of slim prune ...]" >&2
    exit 2
fi
model=$1 out=$2 gates=$3
shift 3
mkdir -p "$out" || exit 2

slim prune "$@" "$model" "$out/model.gguf" --modelfile "$out/Modelfile" --gates "$gates" \
    --report "$out/report.json" --report "$out/report.html" --report "$out/summary.md" --report "$out/junit.xml"
code=$?

# GitHub shows this beside the job; other systems take the files.
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$out/summary.md" ]; then
    cat "$out/summary.md" >>"$GITHUB_STEP_SUMMARY"
fi
exit $code
