/** What every CRD's file must have, whatever its fields are. */
import assert from "node:assert/strict";
import { defaultErrors, readCrd, type Crd, type Schema } from "../../../support/crd-validator.ts";

const PLURALS = ["replicatedstores", "storeshards", "replicarecoveries"];

function root(crd: Crd): Schema {
  const schema = crd.spec.versions[0]?.schema.openAPIV3Schema;
  assert.ok(schema);
  return schema;
}

/** Every node below `spec` and `status`, with its path. */
function* nodes(schema: Schema, path: string): Generator<readonly [string, Schema]> {
  yield [path, schema];
  for (const [name, child] of Object.entries(schema.properties ?? {})) {
    if (path === "" && !["spec", "status"].includes(name)) continue;
    yield* nodes(child, `${path}.${name}`);
  }
  if (schema.items !== undefined) yield* nodes(schema.items, `${path}[]`);
  if (schema.additionalProperties !== undefined) {
    yield* nodes(schema.additionalProperties, `${path}[*]`);
  }
}

/** Whether a rule's fieldPath, such as `.spec.replicas`, leads to a property. */
function names(schema: Schema, fieldPath: string): boolean {
  let at: Schema | undefined = schema;
  for (const name of fieldPath.split(".").slice(1)) at = at?.properties?.[name];
  return at !== undefined;
}

describe("crds", () => {
  for (const plural of PLURALS) {
    describe(plural, () => {
      const crd = readCrd(plural);

      it("says what every field is", () => {
        const silent = [...nodes(root(crd), "")]
          .filter(([path, { description = "" }]) => !path.endsWith("[*]") && description === "")
          .map(([path]) => path);
        assert.deepEqual(silent, []);
      });

      it("bounds every list, map and text, so that rules have a cost", () => {
        const unbounded = [...nodes(root(crd), "")]
          .filter(([, node]) => {
            if (node.type === "string")
              return node.enum === undefined && node.maxLength === undefined;
            if (node.type === "array") return node.maxItems === undefined;
            return node.additionalProperties !== undefined && node.maxProperties === undefined;
          })
          .map(([path]) => path);
        assert.deepEqual(unbounded, []);
      });

      it("a rule that can show the value does", () => {
        const mute = [...nodes(root(crd), "")].flatMap(([path, node]) =>
          (node["x-kubernetes-validations"] ?? [])
            .filter(({ messageExpression }) => {
              return (node.type === "string" || node.type === "integer") && !messageExpression;
            })
            .map(({ rule }) => `${path}: ${rule}`),
        );
        assert.deepEqual(mute, []);
      });

      it("joins no text whose length the API server cannot bound", () => {
        // It reckons with any length for what string() gives, and refuses the rule as too costly.
        const costly = [...nodes(root(crd), "")].flatMap(([path, node]) =>
          (node["x-kubernetes-validations"] ?? [])
            .filter(({ rule, messageExpression = "" }) =>
              /\bstring\(/u.test(rule + messageExpression),
            )
            .map(({ rule }) => `${path}: ${rule}`),
        );
        assert.deepEqual(costly, []);
      });

      it("gives defaults that pass the rules as they stand", () => {
        const bad = [...nodes(root(crd), "")].flatMap(([path, node]) =>
          defaultErrors(node).map((error) => `${path}: ${error}`),
        );
        assert.deepEqual(bad, []);
      });

      it("points with its rules at fields that the schema names", () => {
        const lost = [...nodes(root(crd), "")].flatMap(([path, node]) =>
          (node["x-kubernetes-validations"] ?? [])
            .filter(({ fieldPath = "" }) => !names(node, fieldPath))
            .map(({ fieldPath }) => `${path}: ${fieldPath}`),
        );
        assert.deepEqual(lost, []);
      });

      it("has columns for fields that exist, a category and a short name", () => {
        const paths = new Set([...nodes(root(crd), "")].map(([path]) => path));
        const columns = crd.spec.versions[0]?.additionalPrinterColumns ?? [];
        assert.ok(columns.length > 3);
        for (const { name, jsonPath } of columns) {
          const path = jsonPath.replace(/\[\?\(@\.(?:type|role)=='\w+'\)\]/u, "[]");
          if (path === ".metadata.creationTimestamp") continue;
          assert.ok(paths.has(path), `${name}: ${jsonPath}`);
        }
        assert.deepEqual(crd.spec.names["categories"], ["resilver"]);
        assert.ok(Array.isArray(crd.spec.names["shortNames"]));
        assert.ok("status" in (crd.spec.versions[0]?.subresources ?? {}));
      });
    });
  }

  it("a store can be scaled", () => {
    assert.deepEqual(readCrd("replicatedstores").spec.versions[0]?.subresources["scale"], {
      specReplicasPath: ".spec.replicas",
      statusReplicasPath: ".status.replicas",
      labelSelectorPath: ".status.selector",
    });
  });
});
