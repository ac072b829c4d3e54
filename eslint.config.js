// eslint.config.js: what `make lint` asks of the scripts.
import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["out/", "node_modules/", ".venv/", "web/abi.js", "web/jinja.js"] },
  js.configs.recommended,
  {
    files: ["**/*.js", "**/*.mjs"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      curly: ["error", "multi-line"],
      eqeqeq: "error",
      "max-lines": ["error", { max: 600 }],
      "max-len": ["error", { code: 120 }],
      "no-shadow": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
    },
  },
  { files: ["web/**/*.js"], languageOptions: { globals: { ...globals.browser, ...globals.worker } } },
  {
    files: ["attacks/**", "build/**", "tests/**"],
    languageOptions: { globals: { ...globals.node, ...globals.browser } },
  },
];
