/** Parts that every resource has. */
import { z } from "zod";
import { BOUNDS } from "./bounds.ts";
import { choice, fields, integer, list, note, text, time } from "./fields.ts";

/** The group of all resources. */
export const GROUP = "resilver.io";
/** The version of all resources in this folder. */
export const VERSION = "v1alpha1";
/** `apiVersion` of all resources in this folder. */
export const API_VERSION = `${GROUP}/${VERSION}`;

/** What the operator reads of an object's metadata. The API server has checked it. */
export const metadataSchema = z.object({
  name: z.string().min(1),
  namespace: z.string().min(1),
  uid: z.string().optional(),
  resourceVersion: z.string().optional(),
  generation: z.int().optional(),
  creationTimestamp: z.string().optional(),
  deletionTimestamp: z.string().optional(),
  labels: z.record(z.string(), z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
  finalizers: z.array(z.string()).optional(),
});
/** See {@link metadataSchema}. */
export type ObjectMetadata = z.infer<typeof metadataSchema>;

const conditionSchema = fields("One aspect of the present state.", {
  type: text({
    description: "Which aspect.",
    allowed: "a word",
    lengthMin: 1,
    lengthMax: BOUNDS.labelLengthMax,
  }),
  status: choice("Whether it holds.", ["True", "False", "Unknown"]),
  observedGeneration: integer("The generation of the spec that this was said of.", 0).optional(),
  lastTransitionTime: time("When the status last changed."),
  reason: note(
    "One word for the cause; it names the step that things are at.",
    BOUNDS.reasonLengthMax,
  ),
  message: note("What it means, and what a person can do about it, if anything."),
});
/** One condition as Kubernetes writes it. */
export type StatusCondition = z.output<typeof conditionSchema>;

/** The field `conditions` of a status. */
export const conditionsField = list("What can be said of the present state.", conditionSchema, {
  max: BOUNDS.conditionsMax,
  keys: ["type"],
});
