/**
 * What a cluster could leave behind on this machine: read before it comes up and after it has gone,
 * and compared. Other programs come and go meanwhile, so of processes and control groups only those
 * of clusters are looked at, and of settings only those that were there before.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { RUN } from "./cluster-programs.mjs";

/** Control groups of containers, by the kubelet's and containerd's names. */
const CONTAINERS = /\/(kubepods|k8s\.io)(\/|$)/;
/** Settings that change by themselves: the number given last, and the interfaces' own. */
const VOLATILE =
  /^kernel\/ns_last_pid$|^kernel\/random\/|^fs\/binfmt_misc\/|\/(conf|neigh)\/(?!all\/|default\/)/;

/** All of it, by what it is: texts that name each thing, or a setting and its value. */
export function machineState() {
  return {
    process: new Map(processes().map((text) => [text, ""])),
    mount: new Map(lines("/proc/self/mounts", 1).map((text) => [text, ""])),
    route: new Map(routes().map((text) => [text, ""])),
    link: new Map(readdirSync("/sys/class/net").map((text) => [text, ""])),
    "network namespace": new Map(names("/run/netns").map((text) => [text, ""])),
    "nft table": new Map(printed("nft", ["list", "tables"]).map((text) => [text, ""])),
    "control group": new Map(controlGroups().map((text) => [text, ""])),
    sysctl: new Map(settings("/proc/sys", "")),
  };
}

/** How `after` differs from `before`, one text for each thing; empty: it does not. */
export function leftBehind(before, after) {
  return Object.entries(before).flatMap(([kind, was]) => {
    const is = after[kind];
    if (kind === "sysctl") {
      const changed = [...was].filter(([name, value]) => is.has(name) && is.get(name) !== value);
      return changed.map(([name, value]) => `sysctl ${name}: ${value} became ${is.get(name)}`);
    }
    const more = [...is.keys()].filter((text) => !was.has(text));
    const fewer = [...was.keys()].filter((text) => !is.has(text) && kind !== "process");
    return [
      ...more.map((text) => `${kind} ${text} is left`),
      ...fewer.map((text) => `${kind} ${text} is gone`),
    ];
  });
}

/** Those of a cluster: by what they were started with, or by the group that they are in. */
function processes() {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const folder = join("/proc", pid);
      const group = text(join(folder, "cgroup"));
      const started = text(join(folder, "environ")).split("\0").includes(`RUN=${RUN}`);
      const contained = group.split("\n").some((line) => CONTAINERS.test(line));
      if ((!started && !contained) || /^State:\s*[ZX]/m.test(text(join(folder, "status"))))
        return [];
      const command = text(join(folder, "cmdline")).split("\0").join(" ").trim();
      return [`${pid} (${command.slice(0, 120) || "?"})`];
    });
}

/** What a router told has a life time, which counts down. */
function routes() {
  const all = ["-4", "-6"].flatMap((family) =>
    printed("ip", [family, "route", "show", "table", "all"]),
  );
  return all.map((route) => route.replace(/ expires \S+/, ""));
}

function controlGroups() {
  return printed("find", ["/sys/fs/cgroup", "-type", "d"]).filter((path) => CONTAINERS.test(path));
}

/** Every setting that somebody can have changed, with its value. */
function settings(folder, prefix) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    const name = `${prefix}${entry.name}`;
    if (entry.isDirectory()) return settings(path, `${name}/`);
    if (VOLATILE.test(name) || (mode(path) & 0o222) === 0) return [];
    const value = text(path);
    return value === "" ? [] : [[name.replaceAll("/", "."), value.trim()]];
  });
}

function mode(path) {
  try {
    return statSync(path).mode;
  } catch {
    return 0;
  }
}

/** "" where it cannot be read, or is no more. */
function text(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function names(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** One column of a file of the kernel's. */
function lines(path, column) {
  return text(path)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split(" ")[column]);
}

function printed(command, args) {
  const env = { ...process.env, PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` };
  const { stdout } = spawnSync(command, args, { encoding: "utf8", env });
  return (stdout ?? "").split("\n").filter((line) => line !== "");
}
