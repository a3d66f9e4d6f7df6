// Makes a tiny GGUF file with random weights from its manifest in fixtures/gguf/manifests.json, the
// same bytes each time:
//   node make_gguf.mjs NAME OUT.gguf
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ALIGNMENT = 32;
const TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9, u64: 10 };
const F32 = 0;
export const VOCABULARY = 96;

export const manifests = () =>
    JSON.parse(readFileSync(new URL("../../fixtures/gguf/manifests.json", import.meta.url)));

const bytes = (size, write) => {
    const buffer = Buffer.alloc(size);
    write(buffer);
    return buffer;
};
const u32 = (value) => bytes(4, (b) => b.writeUInt32LE(value));
const u64 = (value) => bytes(8, (b) => b.writeBigUInt64LE(BigInt(value)));
const text = (value) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const ENCODE = {
    u32, u64, string: text,
    i32: (value) => bytes(4, (b) => b.writeInt32LE(value)),
    f32: (value) => bytes(4, (b) => b.writeFloatLE(value)),
    bool: (value) => Buffer.from([value ? 1 : 0]),
};

// A JSON value is what it looks like: true, "text", 3 (u32), [3] (i32). Other types are named: {"f32": 1}.
function typed(value) {
    if (Array.isArray(value)) return [typeof value[0] === "boolean" ? "bool" : "i32", value];
    if (typeof value === "object") return Object.entries(value)[0];
    return [{ boolean: "bool", string: "string", number: "u32" }[typeof value], value];
}

function encode(value) {
    const [type, content] = typed(value);
    if (!Array.isArray(content)) return Buffer.concat([u32(TYPES[type]), ENCODE[type](content)]);
    const head = [u32(TYPES.array), u32(TYPES[type]), u64(content.length)];
    return Buffer.concat([...head, ...content.map(ENCODE[type])]);
}

// 0-3,7 → 0, 1, 2, 3, 7
export const layersIn = (ranges) => ranges.split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
});

// "blk.{0-3,7}.attn_q.weight" is one tensor a layer.
function named(tensors) {
    return Object.entries(tensors).flatMap(([name, shape]) => {
        const [, before, ranges, after] = name.match(/^(.*)\{(.*)\}(.*)$/) ?? [];
        if (ranges === undefined) return [{ name, shape }];
        return layersIn(ranges).map((layer) => ({ name: before + layer + after, shape }));
    });
}

// Uniform in [-1, 1), from the tensor's name: integers only, the same on every machine.
function generator(name) {
    let state = 2166136261;
    for (const byte of Buffer.from(name)) state = Math.imul(state ^ byte, 16777619);
    return () => {
        state = (state + 0x6d2b79f5) | 0;
        let x = Math.imul(state ^ (state >>> 15), 1 | state);
        x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
        return ((x ^ (x >>> 14)) >>> 0) / 2 ** 31 - 1;
    };
}

// Norms near one, matrices that keep a vector's size, decays below zero.
export function weights(name, shape) {
    const next = generator(name);
    const size = shape.reduce((a, b) => a * b, 1);
    const [base, spread] =
        /norm[^.]*\.weight$|\.weight$/.test(name) && /norm|_ln\.|\bln\b/.test(name) ? [1, 0.3]
        : /ssm_a(\.|$)/.test(name) ? [-0.6, 0.5]
        : shape.length > 1 ? [0, Math.sqrt(3 / shape[0])]
        : [0, 0.3];
    return Float32Array.from({ length: size }, () => base + spread * next());
}

/** The bytes of a GGUF file. `fill(name, array, shape)` may change a tensor's weights. */
export function makeGguf({ metadata, tensors }, fill = () => {}) {
    const vocabulary = Array.from({ length: VOCABULARY }, (_, i) => `<${i}>`);
    const entries = Object.entries({
        "general.alignment": ALIGNMENT,
        ...metadata,
        "tokenizer.ggml.model": "test",
        "tokenizer.ggml.tokens": { string: vocabulary },
        "tokenizer.ggml.scores": { f32: vocabulary.map(() => 0) },
    });
    const infos = named(tensors);
    const [infoBytes, data] = [[], []];
    let offset = 0;
    for (const { name, shape } of infos) {
        const array = weights(name, shape);
        fill(name, array, shape);
        const padded = Buffer.alloc(Math.ceil(array.byteLength / ALIGNMENT) * ALIGNMENT);
        Buffer.from(array.buffer).copy(padded);
        infoBytes.push(text(name), u32(shape.length), ...shape.map(u64), u32(F32), u64(offset));
        data.push(padded);
        offset += padded.length;
    }
    const header = Buffer.concat([
        Buffer.from("GGUF"), u32(3), u64(infos.length), u64(entries.length),
        ...entries.flatMap(([key, value]) => [text(key), encode(value)]), ...infoBytes,
    ]);
    const gap = Buffer.alloc((ALIGNMENT - (header.length % ALIGNMENT)) % ALIGNMENT);
    return Buffer.concat([header, gap, ...data]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const [name, out] = process.argv.slice(2);
    const manifest = manifests()[name];
    if (!manifest) throw new Error(`no manifest is called ${name}`);
    writeFileSync(out, makeGguf(manifest));
}
