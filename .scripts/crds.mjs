/**
 * Writes the CustomResourceDefinitions into the folder given as argument. Run through tsx, since
 * what they follow from is TypeScript.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import {
  customResourceDefinitions,
  definitionFile,
} from "../operator/api/v1alpha1/custom-resource-definitions.ts";

const [folder = "crds"] = process.argv.slice(2);
const HEADER = "# Generated from operator/api/v1alpha1 by `npm run gen`. Do not edit.\n";

mkdirSync(folder, { recursive: true });
for (const definition of customResourceDefinitions()) {
  // No anchors: kubectl takes them, other readers do not. No folding: a rule stays on its line.
  const text = stringify(definition, { aliasDuplicateObjects: false, lineWidth: 0 });
  writeFileSync(join(folder, definitionFile(definition)), HEADER + text);
}
