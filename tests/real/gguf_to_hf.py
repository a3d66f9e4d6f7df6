"""Every golden case there and back: folder → GGUF → folder by slim; transformers must load the result
and give the golden logits.    python tests/real/gguf_to_hf.py SLIM

Needs torch, transformers and safetensors.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-5  # relative, f32
GOLDEN = Path(__file__).parents[2] / "fixtures/golden"
# No way there, or none back (docs/formats.md).
REFUSED = {"qwen2_sliding", "llama"}


def convert(slim, source, target):
    command = [slim, "prune", "--drop-layers", "none", "--outtype", "f32", source, target]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def check(slim, case, folder):
    there, back = folder / f"{case.name}.gguf", folder / case.name
    ran = convert(slim, case, there)
    ran = ran if ran.returncode else convert(slim, there, back)
    if case.name in REFUSED:
        assert ran.returncode == 2, f"{case.name} was expected to be refused"
        return ran.stderr.strip()
    assert ran.returncode == 0, ran.stderr
    model = AutoModelForCausalLM.from_pretrained(back, dtype=torch.float32, attn_implementation="eager").eval()
    golden = load_file(case / "golden.safetensors")
    with torch.no_grad():
        logits = model(golden["input_ids"].reshape(1, -1)).logits[0]
    # What GGUF has no word for is lost on the way there.
    expected = golden.get("logits_gguf", golden["logits"])
    error = relative(logits, expected)
    assert error < TOLERANCE, f"{case.name}: {error}"
    return f"{error:.1e}"


def main(slim):
    print("| case | logits of transformers, relative difference |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in sorted(GOLDEN.iterdir()):
            if (case / "golden.safetensors").exists():
                print(f"| {case.name} | {check(slim, case, Path(folder))} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
