/** One replaced volume, and when the API server told of what followed. */
import { claimName } from "../../operator/specs/stateful-set.ts";
import { NAMESPACE, type Told } from "./scale-cluster.ts";

/** What happens, in the order in which it should. */
const STEPS = ["claim", "pod made", "pod has its place", "pod runs", "recovery", "done"] as const;
type Step = (typeof STEPS)[number];

/** See the file's header. */
export class Replacement {
  private readonly pod: string;
  private readonly atMs = new Map<Step, number>();
  private podUid: string | null = null;
  private recovery: string | null = null;

  constructor(pod: string) {
    this.pod = pod;
  }

  /** Is told of each change in the cluster. */
  hear({ kind, key, object, previous, atMs }: Told): void {
    if (object === null) return;
    const isNew = object.metadata.uid !== previous?.metadata.uid;
    if (kind === "claim" && key === `${NAMESPACE}/${claimName("data", this.pod)}` && isNew) {
      this.atMs.set("claim", atMs);
    }
    if (kind === "pod" && key === `${NAMESPACE}/${this.pod}`) this.hearPod(object, isNew, atMs);
    const { rebuild } = (object["spec"] ?? {}) as { readonly rebuild?: { readonly pod: string } };
    if (kind !== "recovery" || rebuild?.pod !== this.pod) return;
    // One of an earlier rebuild may be told of too.
    if (isNew) this.recovery = key;
    if (this.recovery !== key) return;
    this.first("recovery", atMs);
    const { phase } = (object["status"] ?? {}) as { readonly phase?: string };
    if (phase === "Succeeded") this.first("done", atMs);
  }

  /** The replica votes again. */
  get succeeded(): boolean {
    return this.atMs.has("done");
  }

  /** Milliseconds from the new claim to the recovery object. Throws when one was not told of. */
  recoveryAfterMs(): number {
    const [claim, recovery] = [this.atMs.get("claim"), this.atMs.get("recovery")];
    if (claim === undefined || recovery === undefined) {
      throw new Error(`${this.pod}: claim or recovery unseen`);
    }
    return Math.max(0, recovery - claim);
  }

  /** The pod, and the milliseconds from the new claim to each step. */
  toString(): string {
    const claimMs = this.atMs.get("claim") ?? 0;
    const steps = STEPS.slice(1).map((step) => {
      const atMs = this.atMs.get(step);
      return `${step} ${atMs === undefined ? "unseen" : `+${Math.round(atMs - claimMs)}`}`;
    });
    return `${this.pod}: ${steps.join(", ")} ms after its claim`;
  }

  private hearPod(object: Told["object"] & object, isNew: boolean, atMs: number): void {
    if (isNew) {
      // The controller may have made one before the old claim was gone.
      for (const step of ["pod made", "pod has its place", "pod runs"] as const) {
        this.atMs.delete(step);
      }
      this.podUid = object.metadata.uid ?? null;
      this.atMs.set("pod made", atMs);
    }
    if (object.metadata.uid !== this.podUid) return;
    const { nodeName } = (object["spec"] ?? {}) as { readonly nodeName?: string };
    const { phase } = (object["status"] ?? {}) as { readonly phase?: string };
    if (nodeName !== undefined) this.first("pod has its place", atMs);
    if (phase === "Running") this.first("pod runs", atMs);
  }

  private first(step: Step, atMs: number): void {
    if (!this.atMs.has(step)) this.atMs.set(step, atMs);
  }
}
