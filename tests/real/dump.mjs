// Writes what stock llama.cpp computes for a GGUF file, for other programs to compare:
//   node dump.mjs MODEL.gguf OUT [LAST]
// OUT.json: [{tokens, greedy, text}] a prompt; OUT.f32: natural logs of the next token's
// probabilities at the last LAST positions of each prompt, in order, vocabulary-sized rows.
import { openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { withModel } from "./llama_cpp.mjs";

const [model, out, last = "8"] = process.argv.slice(2);
const { prompts, new_tokens } = JSON.parse(readFileSync(new URL("prompts.json", import.meta.url)));
await withModel(model, async (read) => {
    const [answers, rows] = [[], openSync(`${out}.f32`, "w")];
    for (const prompt of prompts) {
        const { probabilities, ...answer } = await read(prompt, { newTokens: new_tokens, last: Number(last) });
        for (const position of probabilities) {
            const row = new Float32Array(position.size);
            for (const [id, probability] of position) row[id] = Math.log(probability);
            writeSync(rows, row);
        }
        answers.push(answer);
    }
    writeFileSync(`${out}.json`, JSON.stringify(answers));
});
