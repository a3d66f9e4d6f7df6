"""A GGUF file under llama.cpp's own server and its chat template: the greedy text of slim's decoder?

    python tests/real/server.py SLIM LLAMA_SERVER MODEL.gguf

The same questions, as a user's turn, to `slim eval --apply-chat-template` and to /v1/chat/completions. Texts may
part where two tokens are as good as equal in f32; how many tokens agree before that is printed.
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "What is 7 plus 5?",
    "Name three fruits.",
    "Translate 'good morning' into Spanish.",
    "Why is the sky blue?",
    "Give me a short poem about snow.",
    "Who wrote Hamlet?",
]
TOKENS = 32
PORT = 18080
# Keys and values in f16, the server's default, decide near ties otherwise.
F32 = ["--cache-type-k", "f32", "--cache-type-v", "f32", "-fa", "off"]
TASK = f"""\
task: chat
dataset_path: json
dataset_kwargs: {{data_files: {{test: chat.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "none"
generation_kwargs: {{until: ["<none>"], max_gen_toks: {TOKENS}, do_sample: false}}
metric_list: [{{metric: exact_match}}]
metadata: {{family: language}}
"""


def by_slim(slim, model):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "chat.yaml").write_text(TASK)
        (place / "chat.jsonl").write_text("".join(json.dumps({"question": q}) + "\n" for q in QUESTIONS))
        command = [slim, "eval", model, "--tasks", place / "chat.yaml", "--apply-chat-template", "--json"]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        outcomes = json.loads(ran.stdout)["outcomes"]
        return [outcome["said"] for outcome in sorted(outcomes, key=lambda o: int(o["id"]))]


def ask(path, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


def main():
    slim, server, model = sys.argv[1:]
    ours = by_slim(slim, model)
    spoken = sum(bool(text.strip()) for text in ours)
    print(f"{len(ours)} texts of {TOKENS} tokens at most, {spoken} of them not empty")
    if spoken < len(ours) // 2:
        sys.exit("a model that says nothing shows nothing: give one that lost fewer layers")
    command = [server, "-m", model, "--port", str(PORT), "--jinja", "-c", "2048", "--no-warmup"] + F32
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            wait()
            equal = sum(compare(question, mine) for question, mine in zip(QUESTIONS, ours))
        finally:
            running.terminate()
    print(f"{equal} of {len(ours)} are equal")
    sys.exit(equal < len(ours) - 1)


def wait():
    for _ in range(240):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    sys.exit("the server does not answer")


def compare(question, mine):
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": TOKENS}
    theirs = ask("/v1/chat/completions", body)["choices"][0]["message"]["content"]
    if mine.strip() == theirs.strip():
        return True
    tokens = [ask("/tokenize", {"content": text.strip()})["tokens"] for text in (mine, theirs)]
    same = next((i for i, (a, b) in enumerate(zip(*tokens)) if a != b), min(map(len, tokens)))
    print(f"{question}\n  slim:   {mine!r}\n  server: {theirs!r}\n  the same for {same} tokens")
    return False


if __name__ == "__main__":
    main()
