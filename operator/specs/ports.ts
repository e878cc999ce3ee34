/** Ports of a pod. Its network is shared with people's containers: 8080 is theirs. */
export const PORTS = Object.freeze({ public: 6648, internal: 6649, metrics: 6650 });
