// Stock llama.cpp, as the npm package node-llama-cpp carries it prebuilt.
// LLAMA_CPP names the folder that fetch.sh installed it into.
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const home = process.env.LLAMA_CPP;
if (!home) throw new Error("LLAMA_CPP must name the folder that fetch.sh filled");
const entry = join(home, "node_modules/node-llama-cpp/dist/index.js");
const { getLlama, readGgufFileInfo } = await import(pathToFileURL(entry).href);
export { readGgufFileInfo };

const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: "error" });

// Opens a GGUF file and calls use(read), where read(text) gives the text's token ids (or takes them), at each of
// its last positions (all, unless told) the probabilities of the next token by id, and the greedy
// continuation.
// Keys and values are kept in f32: in f16, llama.cpp's default, logits lose two digits.
export async function withModel(path, use) {
    const model = await llama.loadModel({ modelPath: path });
    const context = await model.createContext({
        contextSize: 512, batchSize: 512, threads: 1, flashAttention: false,
        experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32",
    });
    const sequence = context.getSequence();
    const read = async (text, { newTokens = 0, last = Infinity } = {}) => {
        const bos = () => model.tokens.shouldPrependBosToken ? [model.tokens.bos] : [];
        const tokens = Array.isArray(text) ? text : [...bos(), ...model.tokenize(text, true)];
        await sequence.clearHistory();
        const silent = tokens.length - Math.min(tokens.length, last);
        const ask = (token) => [token, { generateNext: { probabilities: true } }];
        const told = await sequence.controlledEvaluate(
            tokens.map((token, i) => i < silent ? token : ask(token)));
        const probabilities = told.slice(silent).map((position) => position.next.probabilities);
        const greedy = [];
        if (newTokens > 0) {
            await sequence.clearHistory();
            for await (const token of sequence.evaluate(tokens, { temperature: 0 })) {
                greedy.push(token);
                if (greedy.length === newTokens) break;
            }
        }
        const written = greedy.length > 0 ? model.detokenize(greedy) : "";
        return { tokens, probabilities, greedy, text: written };
    };
    try {
        return await use(read);
    } finally {
        await context.dispose();
        await model.dispose();
    }
}

// At how many positions two lists of distributions are not the same to the last bit.
export const differing = (a, b) => a.filter((position, i) =>
    position.size !== b[i].size || [...position].some(([id, p]) => b[i].get(id) !== p)).length;
