// Starts the server for a story: `roombridge dev`, or the stub with ROOMBRIDGE_E2E=stub.

import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const BINARY = process.env['ROOMBRIDGE_BINARY'] ?? here('../../target/debug/roombridge');
const PORTS = ['mqtt', 'websocket', 'name-server', 'broker', 'http', 'web', 'login'] as const;
const READY_MS = 60_000;

export const usesStub = process.env['ROOMBRIDGE_E2E'] === 'stub';

export interface Server {
  /** Of the pages, without a slash at the end. */
  readonly url: string;
  /** Stops it and starts it at the same addresses, with what it had kept. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Addresses that a started server has left in its data folder. */
type Addresses = Readonly<Partial<Record<(typeof PORTS)[number], string>>>;

export async function startServer(): Promise<Server> {
  if (usesStub) return startStub();
  const port = (addresses: Addresses, one: (typeof PORTS)[number]): string => addresses[one]?.split(':').at(-1) ?? '0';
  return start(BINARY, (addresses) => ['dev', ...PORTS.flatMap((one) => [`--${one}-port`, port(addresses, one)])]);
}

export async function startStub(...options: string[]): Promise<Server> {
  return start(process.execPath, () => [here('../dev-stub/main.mjs'), '--web-port', '0', ...options]);
}

async function start(program: string, options: (addresses: Addresses) => string[]): Promise<Server> {
  const data = mkdtempSync(join(tmpdir(), 'roombridge-e2e-'));
  let addresses: Addresses = {};
  let child: ChildProcess;
  const run = async (): Promise<void> => {
    const started = spawn(program, [...options(addresses), '--data', data], { stdio: ['ignore', 'pipe', 'pipe'] });
    child = started;
    let said = '';
    for (const stream of [started.stdout, started.stderr]) stream.on('data', (chunk) => (said += String(chunk)));
    try {
      addresses = await whenReady(started, join(data, 'dev.json'));
    } catch (error) {
      await ended(started);
      throw new Error(`${program} did not start: ${String(error)}\n${said}`);
    }
  };
  await run();
  return {
    url: `http://${addresses.web}`,
    restart: async () => {
      await ended(child);
      await run();
    },
    stop: async () => {
      await ended(child);
      rmSync(data, { recursive: true, force: true });
    },
  };
}

/** Once the pages answer. */
async function whenReady(child: ChildProcess, file: string): Promise<Addresses> {
  const deadline = Date.now() + READY_MS;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    if (existsSync(file)) {
      const addresses = JSON.parse(readFileSync(file, 'utf8')) as Addresses;
      const answer = await fetch(`http://${addresses.web}/api/config`).catch(() => null);
      if (answer?.ok) return addresses;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`nothing answers after ${READY_MS} ms`);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const end = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const impatient = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await end;
  clearTimeout(impatient);
}
