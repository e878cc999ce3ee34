import { z } from "zod";
import { ControlRefusal, ControlServer } from "./control-server.ts";
import { WIPE_WHAT } from "./damage.ts";
import { LocalStore, LocalStoreError, type LocalStoreOptions } from "./local-store.ts";
import { UnknownReplica } from "./platform.ts";

const replicaSchema = z.object({ replica: z.string() });
const wipeSchema = z.object({ replica: z.string(), what: z.enum(WIPE_WHAT) });
const replaceSchema = z.object({ replica: z.string(), spare: z.string() });
const forceSchema = z.object({
  survivor: z.string(),
  acknowledgeDataLoss: z.string(),
  namespace: z.string(),
  shard: z.int().min(0),
});

/** A running `up`: the store, and the server that other commands reach it by. */
export interface UpSession {
  readonly store: LocalStore;
  /** Resolves when `down` was asked for. */
  readonly downAsked: Promise<void>;
  close(): Promise<void>;
}

/** Starts a store and lets other commands reach it. Throws DirectoryInUse, LocalStoreError. */
export async function startUp(options: LocalStoreOptions): Promise<UpSession> {
  const store = await LocalStore.start(options);
  let askDown: () => void = () => undefined;
  const downAsked = new Promise<void>((resolve) => {
    askDown = resolve;
  });
  const control = new ControlServer(controlHandlers(store, () => askDown()));
  try {
    await control.start(store.dir);
  } catch (error) {
    await store.close();
    throw error;
  }
  return {
    store,
    downAsked,
    close: async () => {
      await control.close();
      await store.close();
    },
  };
}

type Handlers = ConstructorParameters<typeof ControlServer>[0];

/** What each command does to the store. */
function controlHandlers(store: LocalStore, askDown: () => void): Handlers {
  const { platform } = store;
  const onReplica = (work: (replica: string) => Promise<unknown>) => (body: unknown) => {
    const { replica } = checked(replicaSchema, body);
    return refusing(() => work(replica));
  };
  return {
    status: () => Promise.resolve(store.status()),
    wipe: (body) => {
      const { replica, what } = checked(wipeSchema, body);
      return refusing(() => platform.wipe(replica, what));
    },
    corrupt: onReplica((replica) => platform.corrupt(replica)),
    kill: onReplica((replica) => platform.kill(replica)),
    restart: onReplica((replica) => platform.restart(replica)),
    pause: onReplica(async (replica) => platform.pod(replica).pause()),
    resume: onReplica(async (replica) => platform.pod(replica).resume()),
    lead: onReplica(async (replica) => {
      platform.pod(replica);
      const led = store.views().filter(({ ensemble }) => ensemble.includes(replica));
      if (led.length === 0) throw new LocalStoreError(`${replica} has no replica of any shard`);
      for (const key of led) await store.moveLeader(key, replica, 10_000);
    }),
    replace: (body) => {
      const { replica, spare } = checked(replaceSchema, body);
      return refusing(async () => {
        for (const name of [replica, spare]) platform.pod(name);
        const shards = await store.replace(replica, spare);
        return { shards: shards.map(({ namespace, shard }) => `${namespace}/${shard}`) };
      });
    },
    "force-quorum": (body) => {
      const { namespace, shard, ...order } = checked(forceSchema, body);
      return refusing(() => store.forceQuorum({ namespace, shard }, order));
    },
    down: () => {
      // Answered first: ending takes a while.
      setImmediate(askDown);
      return Promise.resolve({ pid: process.pid });
    },
  };
}

function checked<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new ControlRefusal(`${issue?.path.join(".") ?? ""}: ${issue?.message ?? "wrong"}`, true);
}

/** Failures that the person can mend become refusals; anything else stays an error. */
async function refusing(work: () => Promise<unknown>): Promise<unknown> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof UnknownReplica) throw new ControlRefusal(error.message, true);
    if (error instanceof RangeError || error instanceof LocalStoreError) {
      // The order's field has another name on the command line.
      throw new ControlRefusal(error.message.replace(/\backnowledgeDataLoss:/u, "--acknowledge:"));
    }
    throw error;
  }
}
