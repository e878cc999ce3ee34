/**
 * Every bound of the resources in one place. Lists, maps and strings all have one: the API server
 * estimates what a rule may cost from them, and refuses a definition whose rules could cost too
 * much.
 */
export const BOUNDS = Object.freeze({
  /** Longest name of a store: pod names, label values and record names are made of it. */
  storeNameLengthMax: 40,
  /** Longest name of a DNS label. */
  labelLengthMax: 63,
  /** Longest name of an object. */
  nameLengthMax: 253,
  /** Both, with a '/' between them. */
  namespacedNameLengthMax: 317,
  replicasMax: 99,
  namespacesMax: 32,
  /** Shards of one namespace, and of all namespaces of a store together. */
  shardsMax: 256,
  shardsTotalMax: 1_024,
  replicationFactorMax: 15,
  /** Node names of one voter set: the factor, and one that is joining. */
  ensembleMax: 16,
  /** Members of a record: two voter sets, and some that are leaving. */
  membersMax: 48,
  containersMax: 16,
  volumesMax: 32,
  tolerationsMax: 32,
  topologySpreadConstraintsMax: 8,
  pullSecretsMax: 8,
  labelsMax: 64,
  labelValueLengthMax: 63,
  annotationLengthMax: 4_096,
  resourceNamesMax: 16,
  quantityLengthMax: 32,
  durationLengthMax: 16,
  imageLengthMax: 512,
  conditionsMax: 8,
  messageLengthMax: 32_768,
  reasonLengthMax: 1_024,
  errorsMax: 5,
  uidLengthMax: 128,
  acknowledgementLengthMax: 384,
  /** Thirty days. */
  ttlSecondsMax: 2_592_000,
});
