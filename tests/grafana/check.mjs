// Checks dashboards against Grafana's own types (@grafana/schema), strictly: a field that the types do not know, one that
// is missing, a value of another type or outside an enumeration is an error.
//
// node check.mjs MODULES DASHBOARD...   MODULES is a folder with typescript and @grafana/schema in it.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, ...files] = process.argv.slice(2);
const ts = createRequire(import.meta.url)(join(modules, "typescript/lib/typescript.js"));
const types = (path) => join(modules, "@grafana/schema/dist/types", path);

// Options and custom field settings of the panels in use.
const PANELS = { timeseries: "TimeSeries", stat: "Stat", table: "Table", bargauge: "BarGauge", text: "Text" };

// What the Prometheus data source reads beside what the types of dashboards know.
const EXTRA = `
  interface Target { refId: string; datasource: { type: "prometheus"; uid: string }; expr: string; legendFormat: string;
    editorMode: "code"; range: boolean; instant: boolean; format?: "table" | "time_series" }
  interface Annotation extends Omit<raw.AnnotationQuery, "target"> { titleFormat: string; textFormat: string;
    tagKeys: string; useValueForTime: boolean; target: { refId: string; expr: string; interval: string } }
  type Options<T> = T extends { Options: infer O } ? O : never;
  type Base = Omit<raw.Panel, "options" | "fieldConfig" | "targets" | "type">;
  type Fields<C> = { defaults: Omit<raw.FieldConfig, "custom"> & { custom?: C };
    overrides: raw.FieldConfigSource["overrides"] };
  interface Row extends raw.RowPanel { gridPos: raw.GridPos }
  interface Variable extends raw.VariableModel { label: string }
  interface Dashboard extends Omit<raw.Dashboard, "panels" | "annotations" | "templating"> {
    panels: Array<AnyPanel | Row>; annotations: { list: Annotation[] }; templating: { list: Variable[] } }
`;

function source(dashboards) {
  const imports = Object.entries(PANELS).map(([panel, name]) =>
    `import * as ${panel} from "${types(`raw/composable/${panel}/panelcfg/x/${name}PanelCfg_types.gen`)}";`);
  const panels = Object.keys(PANELS).map((panel) => {
    const custom = panel === "timeseries" ? `Partial<${panel}.FieldConfig>` : "never";
    const targets = panel === "text" ? "" : "targets: Target[];";
    return `interface ${panel}Panel extends Base { type: "${panel}"; options: Partial<${panel}.Options>;
      fieldConfig: Fields<${custom}>; ${targets} }`;
  });
  const union = `type AnyPanel = ${Object.keys(PANELS).map((panel) => `${panel}Panel`).join(" | ")};`;
  const values = dashboards.map((text, index) => `export const dashboard${index}: Dashboard = ${text};`);
  return [
    `import * as raw from "${types("raw/dashboard/x/dashboard_types.gen")}";`,
    ...imports, EXTRA, ...panels, union, ...values,
  ].join("\n");
}

// Enumerations become unions of their values, which is what stands in JSON.
function plain(text) {
  return text.replace(/export declare enum (\w+) \{([^}]*)\}/g, (_, name, body) => {
    const members = [...body.matchAll(/(\w+) = ("[^"]*"|-?\d+)/g)];
    const union = members.map(([, , value]) => value).join(" | ");
    const each = members.map(([, member, value]) => `type ${member} = ${value};`).join(" ");
    return `export type ${name} = ${union}; export declare namespace ${name} { ${each} }`;
  });
}

const options = {
  strict: true, noEmit: true, skipLibCheck: true, types: [], target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler,
  baseUrl: modules, paths: { "@grafana/schema": [types("index.d.ts")] },
};
const host = ts.createCompilerHost(options);
const [read, exists] = [host.getSourceFile.bind(host), host.fileExists.bind(host)];
const CHECK = join(modules, "check.ts");
const text = source(files.map((file) => readFileSync(file, "utf8")));
host.fileExists = (name) => name === CHECK || exists(name);
host.getSourceFile = (name, ...rest) => {
  if (name === CHECK) return ts.createSourceFile(name, text, ...rest);
  if (!name.includes("@grafana")) return read(name, ...rest);
  return ts.createSourceFile(name, plain(readFileSync(name, "utf8")), ...rest);
};
const program = ts.createProgram([CHECK], options, host);
const problems = ts.getPreEmitDiagnostics(program);
for (const problem of problems) {
  const { line } = problem.file?.getLineAndCharacterOfPosition(problem.start) ?? { line: 0 };
  const place = problem.file?.fileName === CHECK ? text.split("\n")[line].trim() : problem.file?.fileName;
  console.error(`${place}: ${ts.flattenDiagnosticMessageText(problem.messageText, "\n  ")}`);
}
if (problems.length > 0) process.exit(1);
console.log(`${files.length} dashboards hold`);
