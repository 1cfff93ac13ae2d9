// What node needs of a kernel: worker threads, child processes, a JIT, WebAssembly's guard pages, a thread pool.
const { Worker, isMainThread, parentPort, workerData } = require("worker_threads");
const child = require("child_process");
const fs = require("fs");
const fsp = fs.promises;
const http = require("http");
const os = require("os");
const path = require("path");

if (!isMainThread) {
  const view = new Int32Array(workerData.shared);
  for (let i = 0; i < 1000; i++) Atomics.add(view, 0, 1);
  Atomics.add(view, 1, 1);
  Atomics.notify(view, 1);
  let sum = 0;
  for (let i = 0; i < 300000; i++) sum = (sum + i * workerData.id) % 1000003;
  parentPort.postMessage(sum);
  return;
}

async function workers() {
  const shared = new SharedArrayBuffer(8);
  const results = await Promise.all([0, 1, 2, 3].map((id) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: { id, shared } });
    let message;
    worker.on("message", (m) => { message = m; });
    worker.on("error", reject);
    worker.on("exit", (code) => resolve([message, code]));
  })));
  const idle = new Worker("setInterval(() => {}, 1000)", { eval: true });
  await new Promise((resolve) => idle.on("online", resolve));
  return JSON.stringify([results, [...new Int32Array(shared)], await idle.terminate()]);
}

async function children() {
  const out = [];
  out.push(child.execFileSync("/bin/sh", ["-c", "cat; echo $0", "zero"], { input: "in " }).toString().trim());
  for (let i = 0; i < 5; i++) {
    out.push(await new Promise((resolve) => {
      const p = child.spawn("/bin/sh", ["-c", `cat; exit ${i}`]);
      let text = "";
      p.stdout.on("data", (d) => { text += d; });
      p.on("close", (code, signal) => resolve([text, code, signal]));
      p.stdin.end("x".repeat(i));
    }));
  }
  out.push(await new Promise((resolve) => {
    const p = child.spawn("/bin/sleep", ["100"]);
    p.on("exit", (code, signal) => resolve([code, signal]));
    p.kill("SIGTERM");
  }));
  out.push(await new Promise((resolve) => child.spawn("/no/such").on("error", (e) => resolve(e.code))));
  const forked = child.fork(__filename, ["forked"]);
  out.push(await new Promise((resolve) => { forked.on("message", resolve); forked.send(20); }));
  forked.disconnect();
  return JSON.stringify(out);
}

function jit() {
  let total = 0;
  for (let f = 0; f < 40; f++) {
    const made = new Function("a", "b", `let s = ${f}; for (let i = 0; i < a; i++) s = (s * 31 + b[i % 7]) | 0; return s;`);
    for (let i = 0; i < 30; i++) total = (total + made(2000, [1, 2, 3, 4, 5, 6, i])) | 0;
    total = (total + made(10, [0.5, 1.5, 2, 3, 4, 5, 6])) | 0; // deoptimizes
  }
  return String(total);
}

function depth() {
  let caught = 0;
  const down = () => 1 + down();
  for (let i = 0; i < 5; i++) try { down(); } catch (e) { caught += e instanceof RangeError; }
  return String(caught);
}

async function wasm() {
  // (module (memory 1) (func (export "load") (param i32) (result i32) local.get 0 i32.load)
  //  (func (export "div") (param i32 i32) (result i32) local.get 0 local.get 1 i32.div_s)
  //  (func (export "fib") (param i32) (result i32) if n < 2 then n else fib(n - 1) + fib(n - 2)))
  const sized = (b) => [b.length, ...b];
  const name = (text) => sized([...Buffer.from(text)]);
  const code = (...body) => sized([0, ...body, 11]);
  const section = (id, ...body) => [id, ...sized(body)];
  const module = Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0,
    ...section(1, 2, 96, 1, 127, 1, 127, 96, 2, 127, 127, 1, 127),
    ...section(3, 3, 0, 1, 0),
    ...section(5, 1, 0, 1),
    ...section(7, 3, ...name("load"), 0, 0, ...name("div"), 0, 1, ...name("fib"), 0, 2),
    ...section(10, 3, ...code(32, 0, 40, 2, 0), ...code(32, 0, 32, 1, 109),
      ...code(32, 0, 65, 2, 72, 4, 127, 32, 0, 5, 32, 0, 65, 1, 107, 16, 2, 32, 0, 65, 2, 107, 16, 2, 106, 11))]);
  const { instance } = await WebAssembly.instantiate(module);
  const { load, div, fib } = instance.exports;
  let traps = 0;
  for (let i = 0; i < 300; i++) {
    try { load(70000 + i); } catch (e) { traps += e instanceof WebAssembly.RuntimeError; }
    try { load(-1 - i); } catch (e) { traps += e instanceof WebAssembly.RuntimeError; }
    try { div(1, 0); } catch (e) { traps += e instanceof WebAssembly.RuntimeError; }
  }
  return `${load(0)} ${div(7, 2)} ${fib(22)} ${traps}`;
}

async function files() {
  const dir = await fsp.mkdtemp(path.join(os.tmpdir(), "everything-"));
  const names = [...Array(40).keys()].map((i) => path.join(dir, `f${i}`));
  await Promise.all(names.map((n, i) => fsp.writeFile(n, "y".repeat(i * 1000))));
  await Promise.all(names.slice(0, 10).map((n) => fsp.appendFile(n, "more")));
  await fsp.rename(names[0], path.join(dir, "renamed"));
  const sizes = await Promise.all((await fsp.readdir(dir)).sort().map(async (n) => (await fsp.stat(path.join(dir, n))).size));
  const copy = path.join(dir, "copy");
  await new Promise((resolve, reject) => fs.createReadStream(names[39]).pipe(fs.createWriteStream(copy)).on("finish", resolve).on("error", reject));
  const size = (await fsp.readFile(copy)).length;
  await fsp.rm(dir, { recursive: true });
  return `${sizes.reduce((a, b) => a + b)} ${sizes.length} ${size} ${fs.existsSync(dir)}`;
}

async function web() {
  const server = http.createServer((request, response) => {
    let n = 0;
    request.on("data", (d) => { n += d.length; });
    request.on("end", () => response.end(`${request.method} ${request.url} ${n}`));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const port = server.address().port;
  const one = (i) => new Promise((resolve, reject) => {
    const request = http.request({ port, host: "127.0.0.1", method: "POST", path: `/${i}` }, (response) => {
      let text = "";
      response.on("data", (d) => { text += d; });
      response.on("end", () => resolve(text));
    });
    request.on("error", reject);
    request.end("z".repeat(i * 3000));
  });
  const got = await Promise.all([...Array(30).keys()].map(one));
  await new Promise((resolve) => server.close(resolve));
  return String(got.filter((t, i) => t === `POST /${i} ${i * 3000}`).length);
}

async function signals() {
  let seen = 0;
  const alive = setInterval(() => {}, 1000); // waiting for a signal alone does not keep node alive
  for (let i = 0; i < 10; i++) {
    const one = new Promise((resolve) => process.once("SIGUSR2", resolve));
    process.kill(process.pid, "SIGUSR2");
    await one;
    seen++;
  }
  clearInterval(alive);
  return String(seen);
}

async function main() {
  for (const part of [workers, children, jit, depth, wasm, files, web, signals])
    console.log(part.name, await part());
  process.exitCode = 5;
}

if (process.argv[2] === "forked") process.on("message", (n) => process.send({ doubled: n * 2 }));
else main();
